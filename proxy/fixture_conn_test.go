package proxy

import (
	"bufio"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"streamrelay/pool"
)

// wire is a client's socket without a client: it keeps each write by itself and
// counts what is asked of it.
type wire struct {
	net.Conn // nil: what is not below is not used

	mu        sync.Mutex
	writes    []string
	deadlines int   // SetWriteDeadline
	closes    int   // Close
	failAfter int   // so many writes succeed; -1: all
	err       error // of the others
}

func newWire() *wire { return &wire{failAfter: -1} }

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failAfter >= 0 && len(w.writes) >= w.failAfter {
		return 0, w.err
	}
	w.writes = append(w.writes, string(p))
	return len(p), nil
}

func (w *wire) SetWriteDeadline(time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadlines++
	return nil
}

func (w *wire) SetReadDeadline(time.Time) error { return nil }

func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closes++
	return nil
}

// taken returns the writes so far and forgets them.
func (w *wire) taken() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.writes
	w.writes = nil
	return got
}

// noMore is a socket whose other side has closed.
type noMore struct{}

func (noMore) Control(func(uintptr)) error    { return io.EOF }
func (noMore) Read(func(uintptr) bool) error  { return io.EOF }
func (noMore) Write(func(uintptr) bool) error { return io.EOF }

// clientOn returns a client connection of s over w, which the watcher does not
// know.
func clientOn(s *Server, w net.Conn) *clientConn {
	c := &clientConn{Conn: w, srv: s, out: w}
	c.x.init(c)
	return c
}

// received begins the exchange of the request head raw on c as fasthttp and the
// relay do, up to where it is admitted; ctx is its own.
func received(t testing.TB, c *clientConn, raw []byte) (ctx *fasthttp.RequestCtx, e *apiError, ok bool) {
	t.Helper()
	buf := c.srv.buffers.Get()
	n := copy(buf.B[:], raw)
	if n < len(raw) {
		t.Fatalf("a head of %d bytes", len(raw))
	}
	c.read = clientReader{in: buf, from: 0, to: n}
	c.read.lazy.Init(noMore{}, c.srv.buffers)
	ctx = new(fasthttp.RequestCtx)
	ctx.Init2(c, nil, false)
	ctx.Response.Header.SetNoDefaultContentType(true)
	br := bufio.NewReaderSize(c, 16<<10)
	if ctx.Request.Header.Read(br) != nil {
		c.take(c.read.to - c.read.from)
		return ctx, nil, false
	}
	headerReceived(&ctx.Request.Header)
	x := &c.x
	x.begin(ctx)
	e = c.checkHead(&ctx.Request.Header)
	if e == nil {
		e = c.srv.admit(&ctx.Request.Header, &x.adm, x.set, c.remote)
	}
	x.adopt()
	c.take(c.read.to - c.read.from)
	return ctx, e, true
}

// answered puts raw, an upstream's answer, where the exchange finds it.
func (x *exchange) answered(t testing.TB, raw []byte) (ok bool) {
	t.Helper()
	x.in = x.srv.buffers.Get()
	n := copy(x.in.B[headroom:readEnd], raw)
	if n < len(raw) {
		t.Fatalf("an answer of %d bytes", len(raw))
	}
	x.from, x.till = headroom, headroom+n
	n, err := x.head.Parse(x.in.B[x.from:x.till])
	if err != nil || n == 0 || x.head.Status < 200 {
		return false
	}
	x.from += n
	return true
}

// toward makes up the only one that the exchange may go to, and begins an
// attempt there.
func (x *exchange) toward(up *pool.Upstream) {
	x.to = destination{candidates: pool.NewCandidates([]*pool.Upstream{up}), retry: &x.set.routing.retry}
	x.next.Pin(up.Credentials[0], x.srv.now())
	x.advance()
}

// sent writes ctx's answer as fasthttp does and returns what reached the socket,
// write by write. A transfer that is broken shows there, too.
func sent(ctx *fasthttp.RequestCtx, c *clientConn, w *wire) []string {
	bw := bufio.NewWriterSize(c, writeBuffer)
	if ctx.Response.Write(bw) == nil {
		_ = bw.Flush()
	}
	return w.taken()
}
