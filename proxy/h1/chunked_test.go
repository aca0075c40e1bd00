package h1

import (
	"bytes"
	"errors"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
)

// decodeIn decodes body in pieces of the given size and returns what came out,
// how much of body belonged to it, and the error.
func decodeIn(body []byte, size int) (payload []byte, used int, done bool, err error) {
	var d Chunked
	for used < len(body) && !d.Done() {
		piece := bytes.Clone(body[used:min(used+size, len(body))])
		p, n, err := d.Decode(piece)
		payload = append(payload, p...)
		used += n
		if err != nil {
			return payload, used, false, err
		}
	}
	return payload, used, d.Done(), nil
}

func TestChunkedDecode(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"empty", "0\r\n\r\n", ""},
		{"one chunk", "5\r\nhello\r\n0\r\n\r\n", "hello"},
		{"several", "1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n", "abcdef"},
		{"hex in both cases", "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"},
		{"leading zeros", "0005\r\nhello\r\n000\r\n\r\n", "hello"},
		{"extension", "5;name=value\r\nhello\r\n0;last\r\n\r\n", "hello"},
		{"quoted extension", "5 ; a=\"b;c\"\r\nhello\r\n0\r\n\r\n", "hello"},
		{"space behind the size", "5 \t\r\nhello\r\n0\r\n\r\n", "hello"},
		{"trailers", "5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n", "hello"},
		{"payload like framing", "7\r\n0\r\n\r\n5\r\r\n0\r\n\r\n", "0\r\n\r\n5\r"},
	} {
		t.Run(c.name, func(t *testing.T) {
			const behind = "HTTP/1.1 200 OK\r\n"
			for size := 1; size <= len(c.body)+len(behind); size++ {
				got, used, done, err := decodeIn([]byte(c.body+behind), size)
				if err != nil || string(got) != c.want || used != len(c.body) || !done {
					t.Fatalf("in pieces of %d: %q, %d bytes used, done %t, %v; want %q, %d", size, got, used, done, err, c.want, len(c.body))
				}
			}
		})
	}
}

func TestChunkedRefuses(t *testing.T) {
	for _, c := range []struct{ name, body string }{
		{"no size", "\r\nhello"},
		{"no hexadecimal digit", "g\r\n"},
		{"prefix 0x", "0x5\r\nhello\r\n"},
		{"signed", "+5\r\nhello\r\n"},
		{"negative", "-5\r\nhello\r\n"},
		{"space before the size", " 5\r\nhello\r\n"},
		{"size beyond 60 bits", "1000000000000000\r\n"},
		{"size that overflows", "ffffffffffffffff1\r\nhello"},
		{"bare LF behind the size", "5\nhello\r\n"},
		{"bare CR behind the size", "5\rhello\r\n"},
		{"bare LF in an extension", "5;a\nhello\r\n"},
		{"control character in an extension", "5;a\x00\r\nhello\r\n"},
		{"payload longer than its size", "5\r\nhello!\r\n"},
		{"LF alone behind the payload", "5\r\nhello\n0\r\n\r\n"},
		{"CR alone behind the payload", "5\r\nhello\rX"},
		{"LF alone as the end", "0\r\n\n"},
		{"bare LF in a trailer", "0\r\nX: 1\n\r\n"},
		{"control character in a trailer", "0\r\nX: \x00\r\n\r\n"},
		{"endless extension", "5;" + strings.Repeat("a", maxChunkExt+1)},
		{"endless trailer", "0\r\n" + strings.Repeat("X: 1\r\n", maxTrailer)},
		{"endless trailer line", "0\r\nX: " + strings.Repeat("1", maxTrailer+1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{1, 7, len(c.body)} {
				if got, _, done, err := decodeIn([]byte(c.body), size); !errors.Is(err, ErrChunk) || done {
					t.Errorf("in pieces of %d: %q, done %t, %v; want ErrChunk", size, got, done, err)
				}
			}
		})
	}
}

func TestChunkedGivesWhatItHasBeforeAnError(t *testing.T) {
	var d Chunked
	p, used, err := d.Decode([]byte("3\r\nabc\r\nX"))
	if string(p) != "abc" || used != 8 || !errors.Is(err, ErrChunk) {
		t.Errorf("%q, %d, %v", p, used, err)
	}
}

func TestChunkedIsNotDoneWithoutItsEnd(t *testing.T) {
	const whole = "5\r\nhello\r\n0\r\n\r\n"
	for cut := range len(whole) {
		if _, _, done, err := decodeIn([]byte(whole[:cut]), cut+1); done || err != nil {
			t.Errorf("%q: done %t, %v", whole[:cut], done, err)
		}
	}
}

func TestChunkedTakesNothingAfterItsEnd(t *testing.T) {
	var d Chunked
	if _, used, err := d.Decode([]byte("0\r\n\r\nnext")); used != 5 || err != nil || !d.Done() {
		t.Fatalf("%d, %v, done %t", used, err, d.Done())
	}
	if p, used, err := d.Decode([]byte("next")); len(p) != 0 || used != 0 || err != nil {
		t.Errorf("%q, %d, %v", p, used, err)
	}
}

func TestChunkedDecodeAllocatesNothing(t *testing.T) {
	body := []byte("5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n")
	scratch := make([]byte, len(body))
	if n := testing.AllocsPerRun(100, func() {
		var d Chunked
		copy(scratch, body)
		_, _, _ = d.Decode(scratch)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestFrameIsWhatAChunkReaderReads(t *testing.T) {
	for _, n := range []int{1, 9, 15, 16, 255, 256, 4095, 4096, 65535, 65536, 1 << 20} {
		buf := make([]byte, ChunkRoom+n+2)
		payload := bytes.Repeat([]byte("x"), n)
		copy(buf[ChunkRoom:], payload)
		from, to := Frame(buf, ChunkRoom, ChunkRoom+n)
		if from < 0 || to != len(buf) {
			t.Fatalf("%d bytes: framed as [%d:%d] of %d", n, from, to, len(buf))
		}
		got, err := io.ReadAll(httputil.NewChunkedReader(io.MultiReader(bytes.NewReader(buf[from:to]), strings.NewReader("0\r\n"))))
		if err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: read back %d bytes, %v", n, len(got), err)
		}
	}
}

func TestFrameHeadFitsItsRoom(t *testing.T) {
	var room [ChunkRoom]byte
	for n, want := range map[int]string{1: "1\r\n", 0xabc: "abc\r\n", 1<<32 - 1: "ffffffff\r\n"} {
		if got := string(room[FrameHead(room[:], n):]); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestHexValue(t *testing.T) {
	const digits = "0123456789abcdef"
	for c := range 256 {
		want := strings.IndexByte(digits, byte(c))
		if c >= 'A' && c <= 'F' {
			want = c - 'A' + 10
		}
		if got := HexValue(byte(c)); got != want {
			t.Errorf("%q: %d, want %d", byte(c), got, want)
		}
	}
}
