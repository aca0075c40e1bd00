package blackbox

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// upstream is a scripted provider: each connection is read by a goroutine that
// hands every request, raw, to the test's script.
type upstream struct {
	t      testing.TB
	url    string // http(s)://host:port
	addr   string
	caFile string // of its certificate, "" when it speaks plain HTTP

	connections atomic.Int64 // accepted so far
	requests    atomic.Int64 // read whole so far
	done        chan struct{}
	hard        bool // ends by resets, as a killed process does

	mu   sync.Mutex // protects open
	open map[net.Conn]struct{}
	wg   sync.WaitGroup
}

// upstreamConn is the upstream's end of one connection. It belongs to the
// script that runs on it.
type upstreamConn struct {
	net.Conn
	up     *upstream
	r      *bufio.Reader
	number int64 // 1 is the upstream's first connection
	over   bool  // the script has closed it
}

// received is a request as the upstream got it.
type received struct {
	*upstreamConn
	number int    // 1 is the connection's first request
	line   string // the request line
	head   string // raw, with the empty line
	raw    string // the body as it stood on the wire, chunked or not
	body   string // decoded
}

// newUpstream starts an upstream that runs script for each request, in the
// connection's goroutine. After the script the connection waits for the next
// request, unless the script closed it. A script must not call t.Fatal.
func newUpstream(t testing.TB, script func(*received)) *upstream {
	t.Helper()
	return newRawUpstream(t, nil, func(c *upstreamConn) { c.serve(script) })
}

// newTLSUpstream is newUpstream over TLS.
func newTLSUpstream(t testing.TB, cert *certificate, script func(*received)) *upstream {
	t.Helper()
	return newRawUpstream(t, cert, func(c *upstreamConn) { c.serve(script) })
}

// newRawUpstream starts an upstream that runs script for each connection, and
// closes it afterwards. cert nil: plain.
func newRawUpstream(t testing.TB, cert *certificate, script func(*upstreamConn)) *upstream {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up := &upstream{
		t: t, addr: ln.Addr().String(), url: "http://" + ln.Addr().String(),
		done: make(chan struct{}), open: make(map[net.Conn]struct{}),
	}
	if cert != nil {
		up.url, up.caFile = "https://"+up.addr, cert.certFile
		ln = tls.NewListener(ln, cert.server)
	}
	t.Cleanup(up.start(ln, script))
	return up
}

// serveRaw is newRawUpstream on a listener of the caller's, until the returned
// function is called, which resets every connection.
func serveRaw(t testing.TB, ln net.Listener, script func(*upstreamConn)) (stop func()) {
	up := &upstream{t: t, addr: ln.Addr().String(), done: make(chan struct{}), open: make(map[net.Conn]struct{}), hard: true}
	return up.start(ln, script)
}

// start serves ln until the returned function is called.
func (up *upstream) start(ln net.Listener, script func(*upstreamConn)) (stop func()) {
	up.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			c := &upstreamConn{Conn: conn, up: up, r: bufio.NewReaderSize(conn, 64<<10), number: up.connections.Add(1)}
			up.mu.Lock()
			up.open[conn] = struct{}{}
			up.mu.Unlock()
			up.wg.Go(func() {
				defer up.forget(c)
				script(c)
			})
		}
	})
	return func() {
		close(up.done)
		_ = ln.Close()
		up.mu.Lock()
		for conn := range up.open {
			if tcp, ok := conn.(*net.TCPConn); ok && up.hard {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		}
		up.mu.Unlock()
		up.wg.Wait()
	}
}

// listenAgain listens at an address that was listened at before.
func listenAgain(t testing.TB, addr string) net.Listener {
	t.Helper()
	var ln net.Listener
	eventually(t, "the port is free", func() (ok bool) {
		var err error
		ln, err = net.Listen("tcp", addr)
		return err == nil
	})
	return ln
}

func (up *upstream) forget(c *upstreamConn) {
	_ = c.Conn.Close()
	up.mu.Lock()
	delete(up.open, c.Conn)
	up.mu.Unlock()
}

func (c *upstreamConn) serve(script func(*received)) {
	for n := 1; ; n++ {
		rq, err := c.readRequest()
		if err != nil {
			return
		}
		rq.number = n
		script(rq)
		if c.over {
			return
		}
	}
}

// readRequest reads one request with its body.
func (c *upstreamConn) readRequest() (*received, error) {
	rq, err := c.readHead()
	if err != nil {
		return nil, err
	}
	if err := rq.readBody(); err != nil {
		return nil, err
	}
	c.up.requests.Add(1)
	return rq, nil
}

// readHead reads a request's head alone.
func (c *upstreamConn) readHead() (*received, error) {
	rq := &received{upstreamConn: c}
	var head strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if head.Len() == 0 {
			rq.line = strings.TrimRight(line, "\r\n")
		}
		head.WriteString(line)
		if line == "\r\n" {
			break
		}
	}
	rq.head = head.String()
	return rq, nil
}

// readBody reads the body that the head announces.
func (rq *received) readBody() error {
	if strings.EqualFold(rq.get("Transfer-Encoding"), "chunked") {
		return rq.readChunks()
	}
	n, _ := strconv.Atoi(rq.get("Content-Length"))
	b := make([]byte, n)
	if _, err := io.ReadFull(rq.r, b); err != nil {
		return err
	}
	rq.raw, rq.body = string(b), string(b)
	return nil
}

func (rq *received) readChunks() error {
	var raw, body strings.Builder
	for {
		line, err := rq.r.ReadString('\n')
		if err != nil {
			return err
		}
		raw.WriteString(line)
		n, err := strconv.ParseInt(strings.TrimSuffix(line, "\r\n"), 16, 64)
		if err != nil {
			return fmt.Errorf("chunk %q: %w", line, err)
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(rq.r, b); err != nil {
			return err
		}
		raw.Write(b)
		body.Write(b[:n])
		if n == 0 {
			rq.raw, rq.body = raw.String(), body.String()
			return nil
		}
	}
}

// get returns the first value of a field of the request.
func (rq *received) get(name string) string {
	for _, line := range strings.Split(rq.head, "\r\n")[1:] {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// send writes s in one write; an error, as after a cancel, is the relay's
// business and ignored.
func (c *upstreamConn) send(s string) { _, _ = io.WriteString(c.Conn, s) }

// reply answers with a JSON body of known length.
func (c *upstreamConn) reply(status int, body string, fields ...string) {
	c.send(reply(status, body, fields...))
}

// reply is an answer with a JSON body of known length.
func reply(status int, body string, fields ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d Status\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", status, len(body))
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	return b.String() + "\r\n" + body
}

// streamHead is the head of a chunked event stream.
const streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"

// lastChunk ends a chunked body.
const lastChunk = "0\r\n\r\n"

// chunk frames s.
func chunk(s string) string {
	if s == "" {
		return "" // an empty chunk would end the body
	}
	return fmt.Sprintf("%x\r\n%s\r\n", len(s), s)
}

// stream answers with a whole event stream, an event a chunk.
func (c *upstreamConn) stream(events ...string) {
	c.send(streamHead)
	for _, e := range events {
		c.send(chunk(e))
	}
	c.send(lastChunk)
}

// close closes the connection with a FIN.
func (c *upstreamConn) close() {
	c.over = true
	_ = c.Conn.Close()
}

// reset closes the connection with a RST.
func (c *upstreamConn) reset() {
	conn := c.Conn
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	c.over = true
	_ = conn.Close()
}

// gone waits until the relay closes the connection, and reports whether it did
// so without sending another byte.
func (c *upstreamConn) gone() bool {
	c.over = true
	_ = c.SetReadDeadline(time.Now().Add(patience))
	n, err := io.Copy(io.Discard, c.r)
	return n == 0 && !isTimeout(err)
}

// await waits for ch, and reports false when the test ended first.
func (c *upstreamConn) await(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	case <-c.up.done:
		c.over = true
		return false
	}
}

var errNotInTime = errors.New("not in time")

// receive takes a value from ch, or fails the test.
func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal(errNotInTime)
		panic("unreachable")
	}
}
