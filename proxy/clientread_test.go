package proxy

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// takeHead scans raw in pieces of size bytes and returns how much of it is the
// head, 0 while it has not ended.
func takeHead(raw []byte, size int) (n int, h headEnd) {
	for n < len(raw) && !h.done {
		n += h.scan(raw[n:min(n+size, len(raw))])
	}
	if !h.done {
		n = 0
	}
	return n, h
}

func TestHeadEndsAtItsEmptyLine(t *testing.T) {
	for _, c := range []struct {
		name, raw, head string // "": not ended
		bareLF          bool
	}{
		{name: "head alone", raw: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", head: "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{name: "and a body", raw: "POST / HTTP/1.1\r\n\r\nbody\r\n\r\n", head: "POST / HTTP/1.1\r\n\r\n"},
		{name: "and the next request", raw: "GET / HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n", head: "GET / HTTP/1.1\r\n\r\n"},
		{name: "empty lines first", raw: "\r\n\r\nGET / HTTP/1.1\r\n\r\nx", head: "\r\n\r\nGET / HTTP/1.1\r\n\r\n"},
		{name: "bare LF everywhere", raw: "GET / HTTP/1.1\nHost: a\n\nx", head: "GET / HTTP/1.1\nHost: a\n\n", bareLF: true},
		{name: "bare LF behind the request line", raw: "GET / HTTP/1.1\nHost: a\r\n\r\n", head: "GET / HTTP/1.1\nHost: a\r\n\r\n", bareLF: true},
		{name: "bare LF as the empty line", raw: "GET / HTTP/1.1\r\n\nx", head: "GET / HTTP/1.1\r\n\n", bareLF: true},
		{name: "bare LF first", raw: "\nGET / HTTP/1.1\r\n\r\n", head: "\nGET / HTTP/1.1\r\n\r\n", bareLF: true},
		{name: "CR within a line", raw: "GET /\r HTTP/1.1\r\n\r\n", head: "GET /\r HTTP/1.1\r\n\r\n"},
		{name: "two CR are no empty line", raw: "GET / HTTP/1.1\r\n\r\r\nx\r\n\r\n", head: "GET / HTTP/1.1\r\n\r\r\nx\r\n\r\n"},
		{name: "not ended", raw: "GET / HTTP/1.1\r\nHost: a\r\n"},
		{name: "not ended, at the CR", raw: "GET / HTTP/1.1\r\nHost: a\r\n\r"},
		{name: "empty lines alone", raw: "\r\n\r\n\r\n"},
		{name: "nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for size := 1; size <= len(c.raw)+1; size++ {
				n, h := takeHead([]byte(c.raw), size)
				if c.raw[:n] != c.head || h.done != (c.head != "") || h.done && h.bareLF != c.bareLF {
					t.Errorf("in pieces of %d: %q, bare LF %t", size, c.raw[:n], h.bareLF)
				}
			}
		})
	}
}

// FuzzHeadEnd holds that the cuts change nothing and that the head ends where
// the first empty line behind a line that is not empty does.
func FuzzHeadEnd(f *testing.F) {
	for _, raw := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody", "\r\n\nGET /\n\n", "a\r\r\n\r\n", "\r", "a\n\r\nb"} {
		f.Add([]byte(raw), 3)
	}
	f.Fuzz(func(t *testing.T, raw []byte, size int) {
		if size < 1 || len(raw) > 1<<12 {
			return
		}
		n, whole := takeHead(raw, len(raw)+1)
		m, pieces := takeHead(raw, size)
		if n != m || whole.done != pieces.done || whole.bareLF != pieces.bareLF {
			t.Errorf("%q: %d whole, %d in pieces of %d", raw, n, m, size)
		}
		want, at, begun, bare := 0, 0, false, false
		for line := range bytes.Lines(raw) {
			if !bytes.HasSuffix(line, []byte("\n")) {
				break
			}
			at += len(line)
			text := bytes.TrimSuffix(line, []byte("\n"))
			bare = bare || !bytes.HasSuffix(text, []byte("\r"))
			if empty := len(bytes.TrimSuffix(text, []byte("\r"))) == 0; !empty {
				begun = true
			} else if begun {
				want = at
				break
			}
		}
		if n != want || want > 0 && whole.bareLF != bare {
			t.Errorf("%q: %d, bare LF %t; want %d, %t", raw, n, whole.bareLF, want, bare)
		}
	})
}

// TestBodyEndsWhereItsFramingSays reads bodies that came together with the next
// request, which stays where it is.
func TestBodyEndsWhereItsFramingSays(t *testing.T) {
	const next = "GET /v1/models HTTP/1.1\r\n\r\n"
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	for _, c := range []struct {
		name   string
		length int64
		raw    string
		body   string
		err    error
	}{
		{"none", lengthNone, "", "", nil},
		{"of no length", 0, "", "", nil},
		{"of a length", 5, "hello", "hello", nil},
		{"in chunks", lengthChunked, "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", nil},
		{"in chunks, with extension and trailer", lengthChunked, "5;a=b\r\nhello\r\n0\r\nX: 1\r\n\r\n", "hello", nil},
		{"no chunk but the last", lengthChunked, "0\r\n\r\n", "", nil},
		{"a bad size", lengthChunked, "x\r\n", "", errBadChunks},
		{"bad behind a chunk", lengthChunked, "5\r\nhello\r\nx", "hello", errBadChunks},
		{"bare LF as the end", lengthChunked, "0\r\n\n", "", errBadChunks},
	} {
		for _, size := range []int{1, 3, 64} {
			c0 := clientOn(s, newWire())
			buf := s.buffers.Get()
			n := copy(buf.B[:], c.raw+next)
			c0.read = clientReader{in: buf, to: n}
			c0.read.lazy.Init(noMore{}, s.buffers)
			var b requestBody
			b.begin(c0, c.length, false)
			var got strings.Builder
			p := make([]byte, size)
			var err error
			for err == nil {
				var m int
				m, err = b.Read(p)
				got.Write(p[:m])
			}
			if err == io.EOF {
				err = nil
			}
			if got.String() != c.body || err != c.err {
				t.Errorf("%s, in pieces of %d: %q, %v; want %q, %v", c.name, size, got.String(), err, c.body, c.err)
			}
			if c.err == nil {
				if left := string(c0.read.in.B[c0.read.from:c0.read.to]); left != next || !b.ended {
					t.Errorf("%s, in pieces of %d: left %q", c.name, size, left)
				}
				if m, err := b.Read(p); m != 0 || err != io.EOF {
					t.Errorf("%s: behind the end %d, %v", c.name, m, err)
				}
			}
			if c0.read.in != nil {
				c0.take(c0.read.to - c0.read.from)
			}
			if c0.read.in != nil {
				t.Errorf("%s: keeps the buffer", c.name)
			}
		}
	}
}

func TestBodyThatIsCutIsAnErrorAndItsClientGone(t *testing.T) {
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	for _, c := range []struct {
		name   string
		length int64
		raw    string
	}{
		{"before the first byte", 5, ""},
		{"within", 5, "hell"},
		{"chunks, before the first", lengthChunked, ""},
		{"chunks, in a size", lengthChunked, "5"},
		{"chunks, in one", lengthChunked, "5\r\nhel"},
		{"chunks, between two", lengthChunked, "5\r\nhello\r\n"},
		{"chunks, in the last", lengthChunked, "5\r\nhello\r\n0\r\n"},
		{"chunks, in a trailer", lengthChunked, "5\r\nhello\r\n0\r\nX: 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// A real socket: a body of known length is read past the buffer.
			conn, client := sockets(t, s)
			if _, err := io.WriteString(client, c.raw); err != nil {
				t.Fatal(err)
			}
			client.Close()
			var b requestBody
			b.begin(conn, c.length, false)
			if _, err := io.ReadAll(&b); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v", err)
			}
			if !conn.gone.Load() || b.ended {
				t.Errorf("gone %t, ended %t", conn.gone.Load(), b.ended)
			}
		})
	}
}

func TestContinueIsSentOnceAndOnlyToAClientThatWaits(t *testing.T) {
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	for _, c := range []struct {
		name string
		ask  bool
		came string // of the body, before it is asked for
		want int
	}{
		{"waits", true, "", 1},
		{"has begun by itself", true, "h", 0},
		{"does not wait", false, "h", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire()
			conn := clientOn(s, w)
			if c.came != "" {
				buf := s.buffers.Get()
				conn.read = clientReader{in: buf, to: copy(buf.B[:], c.came)}
			}
			conn.read.lazy.Init(noMore{}, s.buffers)
			var b requestBody
			b.begin(conn, lengthChunked, c.ask)
			for range 3 {
				_, _ = b.Read(make([]byte, 8))
			}
			if got := w.taken(); len(got) != c.want || c.want == 1 && got[0] != "HTTP/1.1 100 Continue\r\n\r\n" {
				t.Errorf("sent %q", got)
			}
		})
	}
}

// TestFasthttpIsHandedTheHeadAlone, whatever it asks for.
func TestFasthttpIsHandedTheHeadAlone(t *testing.T) {
	const head, behind = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", "helloGET / HTTP/1.1\r\n\r\n"
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	for _, size := range []int{1, 7, 4096} {
		conn := clientOn(s, newWire())
		buf := s.buffers.Get()
		conn.read = clientReader{in: buf, to: copy(buf.B[:], head+behind)}
		var got strings.Builder
		p := make([]byte, size)
		for {
			n, err := conn.Read(p)
			got.Write(p[:n])
			if err != nil {
				if err != errHeadTaken {
					t.Errorf("%v", err)
				}
				break
			}
		}
		if left := string(conn.read.in.B[conn.read.from:conn.read.to]); got.String() != head || left != behind {
			t.Errorf("in pieces of %d: handed %q, left %q", size, got.String(), left)
		}
		// The next head, once the body has been read.
		var b requestBody
		b.begin(conn, 5, false)
		if body, err := io.ReadAll(&b); string(body) != "hello" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
		conn.nextHead()
		n, err := conn.Read(make([]byte, 100))
		if n != len(behind)-5 || err != nil || conn.read.in != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
}
