package proxy

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"streamrelay/pool"
)

// clientConn is a client's connection as fasthttp sees it. It belongs to the
// goroutine that serves it; the watcher alone calls clientGone from outside,
// and Close may come from anywhere.
//
// It gathers writes: while corked, what fasthttp writes (the head of an
// answer) waits to leave together with the first bytes of the body in one
// system call. Whoever corks it flushes before it waits for anything.
type clientConn struct {
	net.Conn
	srv    *Server
	remote netip.Addr
	slot   uint64 // the watcher's

	pending       []byte // bytes not yet written, in pendingBuf
	pendingBuf    *pool.Buffer
	corked        bool
	writeDeadline int64         // as it stands on the socket, 0: none
	bodyIdle      time.Duration // >0: each read is of a request body and has so long
	bodyUntil     int64         // … but no longer than to here, unix ns
	linger        bool          // the request was answered before it was read
	eof           bool          // a read found the client's side closed
	mute          bool          // nothing more is to be sent
	line          lineState
	lastCR        bool // the last byte of a request line so far
	bareLF        bool // the request line ended in LF alone

	gone    atomic.Bool  // the client closed its side
	goneAt  atomic.Int64 // when the watcher saw it
	drained atomic.Bool  // the relay ends the exchange, being told to stop
	mu      sync.Mutex   // protects up
	up      *pool.Conn   // whom to interrupt when the client goes; nil: nobody

	closed atomic.Bool
	x      exchange // the one exchange that an HTTP/1.1 connection has at a time
}

// Read reads from the client; while a request body is being read it gives
// each read its own deadline.
func (c *clientConn) Read(p []byte) (int, error) {
	if c.bodyIdle > 0 {
		until := min(c.srv.now()+int64(c.bodyIdle), c.bodyUntil)
		if err := c.Conn.SetReadDeadline(time.Unix(0, until)); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(p)
	if n == 0 && err != nil {
		c.eof = true
	}
	if c.line != lineSeen && n > 0 {
		c.readLine(p[:n])
	}
	return n, err
}

// How far the request line has been seen on the wire.
type lineState uint8

const (
	lineFresh lineState = iota // nothing of the request has been read
	lineBegun                  // its first bytes have
	lineSeen                   // its line end has, or it came with the request before
)

// readLine looks how the request line ends, which fasthttp does not show: a
// bare LF is refused. A request line that was read together with the request
// before it is not seen here.
func (c *clientConn) readLine(p []byte) {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		c.line, c.lastCR = lineBegun, p[len(p)-1] == '\r'
		return
	}
	if i > 0 {
		c.lastCR = p[i-1] == '\r'
	}
	c.bareLF = !c.lastCR
	c.line, c.lastCR = lineSeen, false
}

// connState follows fasthttp from request to request.
func connState(nc net.Conn, state fasthttp.ConnState) {
	c, ok := nc.(*clientConn)
	if !ok {
		return
	}
	switch state {
	case fasthttp.StateIdle:
		c.line, c.lastCR, c.bareLF = lineFresh, false, false
	case fasthttp.StateActive:
		if c.line == lineFresh { // the first byte was there without a read
			c.line = lineSeen
		}
	}
}

// Write writes p behind what is pending, or keeps it while corked.
func (c *clientConn) Write(p []byte) (int, error) {
	if c.mute {
		return 0, syscall.EPIPE
	}
	if !c.corked && len(c.pending) == 0 {
		return c.write(p)
	}
	if len(c.pending)+len(p) > cap(c.pending) && c.pendingBuf != nil {
		if err := c.flush(); err != nil {
			return 0, err
		}
		if !c.corked || len(p) > pool.BufferSize/2 {
			return c.write(p)
		}
	}
	c.hold(p)
	if !c.corked {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// hold copies p behind what is pending; it fits.
func (c *clientConn) hold(p []byte) {
	if c.pendingBuf == nil {
		c.pendingBuf = c.srv.buffers.Get()
		c.pending = c.pendingBuf.B[:0]
	}
	c.pending = append(c.pending, p...)
}

// adopt makes buf, of which from:to is to be written, what is pending; the
// connection gives buf back. Nothing is pending before.
func (c *clientConn) adopt(buf *pool.Buffer, from, to int) {
	c.pendingBuf, c.pending = buf, buf.B[from:to]
}

// send writes what is pending and p in one call where both fit.
func (c *clientConn) send(p []byte) error {
	if len(c.pending) > 0 {
		if len(c.pending)+len(p) <= cap(c.pending) {
			c.pending = append(c.pending, p...)
			return c.flush()
		}
		if err := c.flush(); err != nil {
			return err
		}
	}
	if len(p) == 0 {
		return nil
	}
	_, err := c.write(p)
	return err
}

// flush writes what is pending and gives its buffer back.
func (c *clientConn) flush() error {
	p, buf := c.pending, c.pendingBuf
	c.pending, c.pendingBuf = nil, nil
	if buf == nil {
		return nil
	}
	_, err := c.write(p)
	buf.Put()
	return err
}

// SetWriteDeadline does nothing: write sets the socket's own. fasthttp, told
// by flushEach that the handler has set one, calls it.
func (c *clientConn) SetWriteDeadline(time.Time) error { return nil }

// flushEach makes fasthttp flush the answer even where the next request waits
// already: it would keep the end of this one until that one is answered, which
// may be minutes. It flushes each answer of a handler that set a write
// deadline, since it cannot know how long that one holds.
func flushEach(ctx *fasthttp.RequestCtx) { _ = ctx.SetWriteDeadline(time.Time{}) }

// write writes to the socket, under a deadline that is at least
// write_idle_timeout away and is moved at most once in that time: a client
// that takes nothing for one to two times the setting is given up.
func (c *clientConn) write(p []byte) (int, error) {
	if patience := int64(c.srv.limits.WriteIdleTimeout); patience > 0 {
		now := c.srv.now()
		if c.writeDeadline < now+patience {
			c.writeDeadline = now + 2*patience
			if err := c.Conn.SetWriteDeadline(time.Unix(0, c.writeDeadline)); err != nil {
				return 0, err
			}
		}
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		c.clientGone()
	}
	return n, err
}

// watch registers the upstream connection that is to be interrupted when the
// client goes, and reports whether the client is still there.
func (c *clientConn) watch(up *pool.Conn) bool {
	c.mu.Lock()
	c.up = up
	c.mu.Unlock()
	return !c.gone.Load() && !c.drained.Load()
}

// unwatch takes the registration back; after it nobody interrupts the
// upstream connection any more.
func (c *clientConn) unwatch() {
	c.mu.Lock()
	c.up = nil
	c.mu.Unlock()
}

// clientGone marks the client as gone and interrupts the exchange's upstream.
func (c *clientConn) clientGone() {
	if c.gone.Swap(true) {
		return
	}
	c.goneAt.Store(c.srv.now())
	c.interrupt()
}

// drain ends the exchange under way from outside.
func (c *clientConn) drain() {
	c.drained.Store(true)
	c.interrupt()
}

func (c *clientConn) interrupt() {
	c.mu.Lock()
	if c.up != nil {
		c.up.Interrupt()
	}
	c.mu.Unlock()
}

// Close closes the connection once. Where an answer went out before the
// request was read it first lets the client find that answer: a close with
// unread bytes makes the kernel send a reset, which destroys it.
func (c *clientConn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.srv.watcher.remove(c.slot)
	if c.linger {
		c.lingerClose()
	}
	if c.pendingBuf != nil {
		c.pendingBuf.Put()
		c.pending, c.pendingBuf = nil, nil
	}
	err := c.Conn.Close()
	c.srv.connClosed()
	return err
}

const (
	lingerTime = 2 * time.Second
	maxLinger  = 256 // connections at a time
)

// lingerClose closes our side and reads the client's to its end, for at most
// lingerTime.
func (c *clientConn) lingerClose() {
	if c.srv.lingering.Add(1) > maxLinger {
		c.srv.lingering.Add(-1)
		return
	}
	defer c.srv.lingering.Add(-1)
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	buf := c.srv.buffers.Get()
	defer buf.Put()
	for {
		if _, err := c.Conn.Read(buf.B[:]); err != nil {
			return
		}
	}
}
