package h1

import (
	"errors"
	"strings"
	"testing"
)

func TestAnswerParse(t *testing.T) {
	for _, c := range []struct {
		name, head string
		want       Answer // without its slices
		fields     string // content type, content encoding, connection, retry-after
	}{
		{"ordinary", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n",
			Answer{Status: 200, ContentLength: 12}, "application/json|||"},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\nContent-Encoding: gzip\r\n\r\n",
			Answer{Status: 200, ContentLength: -1, Chunked: true}, "|gzip||"},
		{"lines ended by LF", "HTTP/1.1 429 Slow down\nRetry-After: 7\n\n", Answer{Status: 429, ContentLength: -1}, "|||7"},
		{"no reason", "HTTP/1.1 204\r\n\r\n", Answer{Status: 204, ContentLength: -1}, "|||"},
		{"empty reason", "HTTP/1.1 529 \r\n\r\n", Answer{Status: 529, ContentLength: -1}, "|||"},
		{"status 999", "HTTP/1.1 999 x\r\n\r\n", Answer{Status: 999, ContentLength: -1}, "|||"},
		{"HTTP/1.0 closes", "HTTP/1.0 200 OK\r\n\r\n", Answer{Status: 200, ContentLength: -1, HTTP10: true, Close: true}, "|||"},
		{"HTTP/1.0 keeps alive", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n",
			Answer{Status: 200, HTTP10: true}, "||Keep-Alive|"},
		{"close among others", "HTTP/1.1 200 OK\r\nConnection: x-foo, Close\r\n\r\n", Answer{Status: 200, ContentLength: -1, Close: true}, "||x-foo, Close|"},
		{"length twice, agreeing", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", Answer{Status: 200, ContentLength: 3}, "|||"},
		{"interim", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", Answer{Status: 103, ContentLength: -1}, "|||"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a Answer
			behind := c.head + "BODY\r\n\r\n"
			n, err := a.Parse([]byte(behind))
			if err != nil || n != len(c.head) {
				t.Fatalf("length %d, %v; want %d", n, err, len(c.head))
			}
			if got := strings.Join([]string{string(a.ContentType), string(a.ContentEncoding), string(a.Connection), string(a.RetryAfter)}, "|"); got != c.fields {
				t.Errorf("fields %q, want %q", got, c.fields)
			}
			a.ContentType, a.ContentEncoding, a.Connection, a.RetryAfter, a.Block = nil, nil, nil, nil, nil
			if a.Status != c.want.Status || a.HTTP10 != c.want.HTTP10 || a.Close != c.want.Close || a.Chunked != c.want.Chunked || a.ContentLength != c.want.ContentLength {
				t.Errorf("got %+v, want %+v", a, c.want)
			}
			for cut := range len(c.head) {
				if n, err := a.Parse([]byte(c.head[:cut])); n != 0 || err != nil {
					t.Fatalf("of the first %d bytes: %d, %v; want to wait for more", cut, n, err)
				}
			}
		})
	}
}

func TestAnswerParseRefuses(t *testing.T) {
	for _, c := range []struct{ name, head string }{
		{"something else", "SSH-2.0-OpenSSH\r\n"},
		{"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n"},
		{"HTTP/1.2", "HTTP/1.2 200 OK\r\n\r\n"},
		{"lower case", "http/1.1 200 OK\r\n\r\n"},
		{"two digits", "HTTP/1.1 20 OK\r\n\r\n"},
		{"four digits", "HTTP/1.1 2000 OK\r\n\r\n"},
		{"signed status", "HTTP/1.1 +20 OK\r\n\r\n"},
		{"status 099", "HTTP/1.1 099 OK\r\n\r\n"},
		{"two spaces", "HTTP/1.1  200 OK\r\n\r\n"},
		{"control character in the reason", "HTTP/1.1 200 O\x00K\r\n\r\n"},
		{"CR in the reason", "HTTP/1.1 200 O\rK\r\n\r\n"},
		{"blank line first", "\r\nHTTP/1.1 200 OK\r\n\r\n"},
		{"no colon", "HTTP/1.1 200 OK\r\nX-A\r\n\r\n"},
		{"empty name", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"},
		{"space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n"},
		{"folded", "HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\n\r\n"},
		{"NUL in a value", "HTTP/1.1 200 OK\r\nX-A: \x00\r\n\r\n"},
		{"CR in a value", "HTTP/1.1 200 OK\r\nX-A: a\rb\r\n\r\n"},
		{"lengths that differ", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n"},
		{"signed length", "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n"},
		{"huge length", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"},
		{"empty length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n"},
		{"length as a list", "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n"},
		{"length and chunked", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"coding gzip, chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"},
		{"coding identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n"},
		{"chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a Answer
			if n, err := a.Parse([]byte(c.head)); !errors.Is(err, ErrAnswer) || n != 0 {
				t.Errorf("%q: %d, %v; want ErrAnswer", c.head, n, err)
			}
		})
	}
}

func TestAnswerNotHTTPIsRefusedAtItsFirstByte(t *testing.T) {
	var a Answer
	for _, b := range []string{"X", "HTTX", "HTTP/2"} {
		if _, err := a.Parse([]byte(b)); !errors.Is(err, ErrAnswer) {
			t.Errorf("%q: %v", b, err)
		}
	}
}

func TestAnswerForgetsTheOneBefore(t *testing.T) {
	var a Answer
	if _, err := a.Parse([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nRetry-After: 1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Parse([]byte("HTTP/1.1 204 No\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if a.Chunked || a.Close || a.Connection != nil || a.RetryAfter != nil || a.ContentLength != -1 {
		t.Errorf("kept something: %+v", a)
	}
}

func TestNoBody(t *testing.T) {
	for _, c := range []struct {
		status     int
		head, want bool
	}{{200, false, false}, {200, true, true}, {204, false, true}, {304, false, true}, {199, false, true}, {404, false, false}} {
		if got := (&Answer{Status: c.status}).NoBody(c.head); got != c.want {
			t.Errorf("status %d, HEAD %t: %t", c.status, c.head, got)
		}
	}
}

func TestAnswerParseAllocatesNothing(t *testing.T) {
	head := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
	var a Answer
	if n := testing.AllocsPerRun(100, func() { _, _ = a.Parse(head) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
