package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"streamrelay/pool"
)

// TestWritesAreGathered says of each order of calls how many writes to the
// socket it makes, and what is in each.
func TestWritesAreGathered(t *testing.T) {
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	big := strings.Repeat("x", pool.BufferSize)
	half := strings.Repeat("h", pool.BufferSize/2+1)
	write := func(p string) func(*clientConn) error {
		return func(c *clientConn) error {
			n, err := c.Write([]byte(p))
			if err == nil && n != len(p) {
				return fmt.Errorf("wrote %d of %d", n, len(p))
			}
			return err
		}
	}
	send := func(p string) func(*clientConn) error {
		return func(c *clientConn) error { return c.send([]byte(p)) }
	}
	adopt := func(p string, room int) func(*clientConn) error {
		return func(c *clientConn) error {
			buf := s.buffers.Get()
			from := len(buf.B) - room - len(p)
			copy(buf.B[from:], p)
			c.adopt(buf, from, from+len(p))
			return nil
		}
	}
	cork := func(c *clientConn) error { c.corked = true; return nil }
	uncork := func(c *clientConn) error { c.corked = false; return nil }
	flush := func(c *clientConn) error { return c.flush() }
	for _, c := range []struct {
		name  string
		calls []func(*clientConn) error
		want  []string
	}{
		{"each by itself", []func(*clientConn) error{write("a"), write("b"), send("c")}, []string{"a", "b", "c"}},
		{"nothing", []func(*clientConn) error{flush, send(""), cork, flush}, nil},
		{"head and body in one", []func(*clientConn) error{cork, write("head "), uncork, send("body")}, []string{"head body"}},
		{"head and body in one, written by fasthttp", []func(*clientConn) error{cork, write("head "), write("more "), uncork, write("body")}, []string{"head more body"}},
		{"head alone, flushed before waiting", []func(*clientConn) error{cork, write("head "), flush, uncork, send("body")}, []string{"head ", "body"}},
		{"last event and the end in one", []func(*clientConn) error{adopt("event ", 100), write("end")}, []string{"event end"}},
		{"end does not fit behind the last event", []func(*clientConn) error{adopt("event ", 2), write("end")}, []string{"event ", "end"}},
		{"end does not fit and is corked", []func(*clientConn) error{adopt("event ", 2), cork, write("end"), flush}, []string{"event ", "end"}},
		{"event does not fit behind the head", []func(*clientConn) error{cork, write("head "), uncork, send(big)}, []string{"head ", big}},
		{"a large piece while corked is not gathered", []func(*clientConn) error{cork, write(half), write(half), flush}, []string{half, half}},
		{"larger than the buffer while corked", []func(*clientConn) error{cork, write(big + "x"), flush}, []string{big + "x"}},
		{"fills the buffer to its last byte", []func(*clientConn) error{cork, write(half), write(big[len(half):]), flush}, []string{half + big[len(half):]}},
		{"corked again after a flush", []func(*clientConn) error{cork, write("a"), flush, write("b"), write("c"), flush}, []string{"a", "bc"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire()
			conn := clientOn(s, w)
			for i, call := range c.calls {
				if err := call(conn); err != nil {
					t.Fatalf("call %d: %v", i, err)
				}
			}
			if got := w.taken(); strings.Join(got, "|") != strings.Join(c.want, "|") {
				t.Errorf("writes of %d, want %d: %.80q, want %.80q", lengthsOf(got), lengthsOf(c.want), got, c.want)
			}
			if conn.pendingBuf != nil || len(conn.pending) != 0 {
				t.Error("keeps a buffer")
			}
		})
	}
}

func lengthsOf(s []string) (n []int) {
	for _, one := range s {
		n = append(n, len(one))
	}
	return n
}

// TestWholeAnswerLeavesInOneWrite: where all of an answer has come, head, body
// and end are one system call.
func TestWholeAnswerLeavesInOneWrite(t *testing.T) {
	s := newServer(t, oneUpstream("http://127.0.0.1:9/v1"))
	for _, c := range []struct{ name, answer, body string }{
		{"JSON", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(document), document), document},
		{"JSON in chunks", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunksOf(document, 30), document},
		{"stream", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + chunksOf(chatEvents+chatDone, 60), chatEvents + chatDone},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", ""},
		{"404", "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", "{}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire()
			conn := clientOn(s, w)
			ctx, e, ok := received(t, conn, []byte("GET /v1/chat/completions HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer "+clientKey+"\r\n\r\n"))
			if !ok || e != nil {
				t.Fatal(e)
			}
			x := &conn.x
			x.toward(s.settings.Load().routing.set.Upstreams[0])
			if !x.answered(t, []byte(c.answer)) {
				t.Fatal("no answer")
			}
			if e := x.startAnswer(); e != nil {
				t.Fatal(e)
			}
			if e := x.answer(); e != nil {
				t.Fatal(e)
			}
			writes := sent(ctx, conn, w)
			if len(writes) != 1 {
				t.Fatalf("%d writes: %q", len(writes), writes)
			}
			res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(writes[0])), nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(res.Body); string(body) != c.body || err != nil {
				t.Errorf("body %q, %v", body, err)
			}
			if x.active || x.in != nil || conn.pendingBuf != nil {
				t.Errorf("left behind: active %t, a buffer %t", x.active, x.in != nil || conn.pendingBuf != nil)
			}
		})
	}
}

func TestWriteDeadlineIsNotSetWithEachWrite(t *testing.T) {
	s := newServer(t, oneUpstream("http://127.0.0.1:9")+"limits: {write_idle_timeout: 1h}\n")
	w := newWire()
	c := clientOn(s, w)
	for range 1000 {
		if err := c.send([]byte("event")); err != nil {
			t.Fatal(err)
		}
	}
	if w.deadlines != 1 || len(w.taken()) != 1000 {
		t.Errorf("%d deadlines set in 1000 writes", w.deadlines)
	}
}

func TestFailedWriteMeansThatTheClientIsGone(t *testing.T) {
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	w := newWire()
	w.failAfter, w.err = 1, syscall.EPIPE
	c := clientOn(s, w)
	if err := c.send([]byte("a")); err != nil || c.gone.Load() {
		t.Fatal(err)
	}
	if err := c.send([]byte("b")); !errors.Is(err, syscall.EPIPE) || !c.gone.Load() || c.goneAt.Load() == 0 {
		t.Errorf("%v, gone %t", err, c.gone.Load())
	}
	c.corked = true
	if _, err := c.Write([]byte("c")); err != nil {
		t.Errorf("while corked: %v", err)
	}
	if err := c.flush(); !errors.Is(err, syscall.EPIPE) || c.pendingBuf != nil {
		t.Errorf("%v, keeps a buffer %t", err, c.pendingBuf != nil)
	}
}

func TestMutedConnectionSendsNothing(t *testing.T) {
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	w := newWire()
	c := clientOn(s, w)
	c.mute = true
	if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); !errors.Is(err, syscall.EPIPE) || len(w.taken()) != 0 {
		t.Errorf("%v", err)
	}
}

func TestGatheringAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops what it likes in race builds")
	}
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	c := clientOn(s, discard{})
	head, event := []byte("HTTP/1.1 200 OK\r\n\r\n"), []byte("data: x\n\n")
	if n := testing.AllocsPerRun(1000, func() {
		c.corked = true
		_, _ = c.Write(head)
		c.corked = false
		_ = c.send(event)
		buf := s.buffers.Get()
		c.adopt(buf, 16, 16+copy(buf.B[16:], event))
		_, _ = c.Write(event)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// discard is a socket that takes everything.
type discard struct{ net.Conn }

func (discard) Write(p []byte) (int, error)      { return len(p), nil }
func (discard) SetWriteDeadline(time.Time) error { return nil }

// sockets returns a client connection of s over a real socket, and the client's
// end.
func sockets(t testing.TB, s *Server) (*clientConn, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.open.Add(1) // as the listener does
	c, err := s.newClientConn(nc, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, client.(*net.TCPConn)
}

// TestLingeringCloseLetsTheClientFindItsAnswer: a close with unread bytes makes
// the kernel send a reset, which would destroy the answer on its way.
func TestLingeringCloseLetsTheClientFindItsAnswer(t *testing.T) {
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	c, client := sockets(t, s)
	const answer = "HTTP/1.1 401 Unauthorized\r\n\r\n"
	piece := bytes.Repeat([]byte("x"), 64<<10)
	if _, err := client.Write(piece); err != nil { // which nobody reads
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(answer)); err != nil {
		t.Fatal(err)
	}
	c.linger.Store(true)
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	for range 8 { // the client goes on sending
		if _, err := client.Write(piece); err != nil {
			t.Fatalf("write: %v", err)
		}
	}
	if got, err := io.ReadAll(client); string(got) != answer || err != nil {
		t.Errorf("the client found %q, %v", got, err)
	}
	client.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if n := s.lingering.Load(); n != 0 {
		t.Errorf("%d linger", n)
	}
}

func TestLingeringIsBoundedInNumber(t *testing.T) {
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	c, client := sockets(t, s)
	s.lingering.Store(maxLinger)
	c.linger.Store(true)
	if err := c.Close(); err != nil { // does not wait, though the client stays
		t.Error(err)
	}
	if n := s.lingering.Load(); n != maxLinger {
		t.Errorf("%d linger", n)
	}
	_ = client
	s.lingering.Store(0)
}

func TestConnectionIsClosedAndCountedOnce(t *testing.T) {
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	c, _ := sockets(t, s)
	if open, shown := s.open.Load(), s.tel.OpenConnections.Load(); open != 1 || shown != 1 {
		t.Errorf("%d open, %d shown", open, shown)
	}
	done := make(chan error)
	for range 4 {
		go func() { done <- c.Close() }()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if open, shown := s.open.Load(), s.tel.OpenConnections.Load(); open != 0 || shown != 0 {
		t.Errorf("%d open, %d shown", open, shown)
	}
}
