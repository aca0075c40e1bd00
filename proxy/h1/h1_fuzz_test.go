package h1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
)

// pieces cuts b as cuts says: each byte of cuts is the length of a piece, and
// what is left is the last one.
func pieces(b, cuts []byte) (out [][]byte) {
	for _, c := range cuts {
		n := min(int(c)+1, len(b))
		if n == 0 {
			break
		}
		out = append(out, b[:n])
		b = b[n:]
	}
	return append(out, b)
}

// FuzzChunked holds that any cut of the bytes gives the same payload, the same
// end and the same verdict, and that what the standard library reads, too, it
// reads as the same payload.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "5;a=\"b\"\r\nhello\r\n0\r\nX: 1\r\n\r\nHTTP/1.1 200 OK\r\n",
		"a\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n", "5\nhello\n0\n\n", "0005 \r\nhello\r\n00\r\n\r\n", "fffffffffffffff\r\n", "5\r\nhello", "0x1\r\nA\r\n0\r\n\r\n",
	} {
		f.Add([]byte(s), []byte{0, 1, 2})
		f.Add([]byte(s), []byte{})
	}
	f.Fuzz(func(t *testing.T, body, cuts []byte) {
		var whole Chunked
		payload, used, err := whole.Decode(bytes.Clone(body))
		payload = bytes.Clone(payload)

		var d Chunked
		var got []byte
		at, failed := 0, false
		for _, p := range pieces(body, cuts) {
			out, n, err := d.Decode(bytes.Clone(p))
			if n > len(p) || len(out) > len(p) {
				t.Fatalf("%d bytes used and %d out of a piece of %d", n, len(out), len(p))
			}
			got = append(got, out...)
			at += n
			if err != nil {
				failed = true
				break
			}
			if d.Done() {
				break
			}
			if n != len(p) {
				t.Fatalf("took %d of %d bytes and is neither done nor failed", n, len(p))
			}
		}
		if !bytes.Equal(got, payload) || at != used || failed != (err != nil) || d.Done() != whole.Done() {
			t.Fatalf("cut: %q, %d used, failed %t, done %t; whole: %q, %d, %v, %t", got, at, failed, d.Done(), payload, used, err, whole.Done())
		}
		if err == nil && whole.Done() {
			std, stdErr := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body)))
			if stdErr == nil && !bytes.Equal(std, payload) {
				t.Fatalf("net/http reads %q, this %q", std, payload)
			}
		}
	})
}

// FuzzCheckRequest holds that a block found valid has one reading: net/http,
// where it takes it, frames the body in the same way, and the walk over its
// fields shows each of its bytes once.
func FuzzCheckRequest(f *testing.F) {
	for _, s := range []string{
		"Host: a\r\n\r\n", "Host: a\r\nContent-Length: 5\r\n\r\n", "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n",
		"Host: a\r\nX: a\r\n b\r\n\r\n", "Host: a\nX: b\n\n", "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		"Host: a\r\nConnection: close, x\r\nX-Y: \xff\r\n\r\n", "Host : a\r\n\r\n", "Host: a\r\nHost: b\r\n\r\n", "\r\n", "",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, block []byte, http11 bool) {
		if CheckRequest(block, http11) != nil || !bytes.HasSuffix(block, []byte("\r\n\r\n")) {
			return
		}
		length, chunked, seen := int64(0), false, 0
		for fields := NewFields(block); fields.Next(); {
			seen += len(fields.Line)
			if !isToken(fields.Name) || !validValue(fields.Value) {
				t.Fatalf("the field %q: %q was found valid", fields.Name, fields.Value)
			}
			if EqualFold(fields.Name, "content-length") {
				length = ParseLength(fields.Value)
			}
			chunked = chunked || EqualFold(fields.Name, "transfer-encoding")
		}
		if seen+2 != len(block) {
			t.Fatalf("the walk shows %d of %d bytes", seen, len(block)-2)
		}
		version := "1.1"
		if !http11 {
			version = "1.0"
		}
		r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader("POST / HTTP/"+version+"\r\n"), bytes.NewReader(block))))
		if err != nil {
			return
		}
		stdChunked := len(r.TransferEncoding) == 1 && r.TransferEncoding[0] == "chunked"
		if chunked != stdChunked || !chunked && r.ContentLength != length {
			t.Fatalf("net/http: chunked %t, length %d; this: %t, %d", stdChunked, r.ContentLength, chunked, length)
		}
	})
}

// FuzzAnswer holds that a head is found where it ends and no sooner, whatever
// follows it, and that net/http, where it takes it, reads the same of it.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 204\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", "SSH-2.0\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var a Answer
		n, err := a.Parse(b)
		if n > len(b) || n > 0 && err != nil {
			t.Fatalf("length %d of %d with %v", n, len(b), err)
		}
		if n == 0 {
			return
		}
		seen := 0
		for fields := NewFields(a.Block); fields.Next(); {
			seen += len(fields.Line)
		}
		if rest := len(a.Block) - seen; rest != 1 && rest != 2 {
			t.Fatalf("the walk leaves %d bytes of %q", rest, a.Block)
		}
		for cut := range n {
			var part Answer
			if m, err := part.Parse(b[:cut]); m != 0 || err != nil {
				t.Fatalf("of %d bytes: %d, %v; the whole %d are fine", cut, m, err, n)
			}
		}
		var alone Answer
		if m, err := alone.Parse(b[:n]); m != n || err != nil {
			t.Fatalf("the head alone: %d, %v; want %d", m, err, n)
		}
		r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil {
			return
		}
		stdChunked := len(r.TransferEncoding) == 1 && r.TransferEncoding[0] == "chunked"
		if r.StatusCode != a.Status || stdChunked != (a.Chunked && !a.NoBody(false)) {
			t.Fatalf("net/http: status %d, chunked %t; this: %+v", r.StatusCode, stdChunked, a)
		}
		if !a.Chunked && !a.NoBody(false) && r.ContentLength != a.ContentLength {
			t.Fatalf("net/http: length %d; this: %d", r.ContentLength, a.ContentLength)
		}
	})
}

// FuzzFrame holds that what is framed in place is read back whole by the
// decoder and by the standard library, in whatever pieces it was framed.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("data: x\n\n"), []byte{1, 2})
	f.Add([]byte("0\r\n\r\n"), []byte{})
	f.Add(bytes.Repeat([]byte{'a'}, 300), []byte{255})
	f.Fuzz(func(t *testing.T, payload, cuts []byte) {
		var wire []byte
		for _, p := range pieces(payload, cuts) {
			if len(p) == 0 {
				continue
			}
			buf := make([]byte, ChunkRoom+len(p)+2)
			copy(buf[ChunkRoom:], p)
			from, to := Frame(buf, ChunkRoom, ChunkRoom+len(p))
			wire = append(wire, buf[from:to]...)
		}
		wire = append(wire, "0\r\n\r\n"...)
		std, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(wire)))
		if err != nil || !bytes.Equal(std, payload) {
			t.Fatalf("net/http reads %q, %v; want %q", std, err, payload)
		}
		var d Chunked
		got, used, err := d.Decode(wire)
		if err != nil || !d.Done() || used != len(wire) || !bytes.Equal(got, payload) {
			t.Fatalf("decoded %q, %d of %d, %v; want %q", got, used, len(wire), err, payload)
		}
	})
}

// FuzzFields holds that a walk over any bytes ends and shows each line at most
// once.
func FuzzFields(f *testing.F) {
	for _, s := range []string{"", "A: b\r\n\r\n", "A:b\nC: d\n\n", "A\r\nB: c\r\n", ":\r\n", "\r", "A: b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		seen := 0
		for fields := NewFields(block); fields.Next(); {
			seen += len(fields.Line)
			if seen > len(block) || !bytes.HasPrefix(fields.Line, fields.Name) || !bytes.Contains(fields.Line, fields.Value) {
				t.Fatalf("line %q has name %q and value %q", fields.Line, fields.Name, fields.Value)
			}
		}
	})
}
