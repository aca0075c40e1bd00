package proxy

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"streamrelay/auth"
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
	read   clientReader
	out    io.Writer         // the direct one, or TLS
	direct pool.DirectWriter // of a plain connection
	slot   uint64            // the watcher's

	pending       []byte // bytes not yet written, in pendingBuf
	pendingBuf    *pool.Buffer
	corked        bool
	writeDeadline int64       // as it stands on the socket, 0: none
	linger        atomic.Bool // the request was answered before it was read
	mute          bool        // nothing more is to be sent
	stalled       atomic.Bool // the client was given up: it took nothing

	gone    atomic.Bool   // the client closed its side
	goneAt  atomic.Int64  // when the watcher saw it
	drained atomic.Bool   // the relay ends the exchange, being told to stop
	revoked atomic.Bool   // the exchange's key was: the relay ends it
	mu      sync.Mutex    // protects up, wake and rec
	up      *pool.Conn    // whom to interrupt when the client goes; nil: nobody
	wake    chan struct{} // ends a sleep; nil: there was none yet
	rec     *auth.Record  // whose exchange is under way, where a revocation ends it; nil: nobody's

	// idle is since when nothing is under way, unix ns; idleBusy: something is,
	// idleClosed: the relay closes it. What is idle before the relay takes its
	// leave is so since idleEver, which spares a clock reading.
	idle   atomic.Int64
	closed atomic.Bool
	x      exchange // the one exchange that an HTTP/1.1 connection has at a time
}

const (
	idleBusy   = 0
	idleEver   = 1
	idleClosed = -1
)

// setIdle notes that nothing is under way, from the first moment on or behind an
// answer.
func (c *clientConn) setIdle() {
	since := int64(idleEver)
	if c.srv.lame.Load() {
		since = c.srv.now()
	}
	c.idle.Store(since)
}

// setBusy notes that a request has begun, and reports false where the
// connection is being closed under it.
func (c *clientConn) setBusy() bool { return c.idle.Swap(idleBusy) != idleClosed }

// closeIdle closes the connection where it has been idle for patience ns,
// counted from begun at the earliest.
func (c *clientConn) closeIdle(begun, patience int64) {
	since := c.idle.Load()
	if since < idleEver || c.srv.now() < max(since, begun)+patience {
		return
	}
	if c.idle.CompareAndSwap(since, idleClosed) {
		_ = c.Close()
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

// write writes to the socket, under a deadline that is at least
// write_idle_timeout away and is moved at most four times in that time: a
// client that takes nothing is given up a quarter of it late at most.
func (c *clientConn) write(p []byte) (int, error) {
	now := c.srv.now()
	c.x.wrote(now)
	if patience := int64(c.srv.settings.Load().limits.WriteIdleTimeout); patience > 0 {
		if c.writeDeadline < now+patience {
			c.writeDeadline = now + patience + patience/4
			if err := c.Conn.SetWriteDeadline(pool.At(c.writeDeadline)); err != nil {
				return 0, err
			}
			if c.drained.Load() { // whose deadline may have been moved just now
				c.lastWrite()
			}
		}
	}
	n, err := c.out.Write(p)
	if err != nil {
		c.stalled.Store(isTimeout(err)) // before gone, which others look for
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
	return c.mayWait()
}

// mayWait reports whether nothing has happened that ends the exchange.
func (c *clientConn) mayWait() bool {
	return !c.gone.Load() && !c.drained.Load() && !c.revoked.Load()
}

// unwatch takes the registration back; after it nobody interrupts the
// upstream connection any more.
func (c *clientConn) unwatch() {
	c.mu.Lock()
	c.up = nil
	c.mu.Unlock()
}

// holdRecord notes whose exchange is under way.
func (c *clientConn) holdRecord(rec *auth.Record) {
	c.mu.Lock()
	c.rec = rec
	c.mu.Unlock()
	if rec.Ended() { // before anybody could have been told
		c.endIfRevoked()
	}
}

// dropRecord ends what holdRecord began; after it no revocation ends anything.
func (c *clientConn) dropRecord() {
	c.mu.Lock()
	c.rec = nil
	c.revoked.Store(false)
	c.mu.Unlock()
}

// endIfRevoked ends the exchange under way where its key has ended.
func (c *clientConn) endIfRevoked() {
	c.mu.Lock()
	ended := c.rec != nil && c.rec.Ended()
	if ended {
		c.revoked.Store(true)
		c.interruptLocked()
	}
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

// left is clientGone as the watcher calls it, whose goroutine serves all.
func (c *clientConn) left() {
	defer c.srv.contained()
	c.clientGone()
}

// drain ends the exchange under way from outside.
func (c *clientConn) drain() {
	c.drained.Store(true)
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0)) // a body that is being read
	c.lastWrite()
	c.interrupt()
}

// lastWrite leaves a client that takes nothing the time that what is left to
// say takes others, and no more: the relay is about to end.
func (c *clientConn) lastWrite() { _ = c.Conn.SetWriteDeadline(time.Now().Add(lastWriteTime)) }

const lastWriteTime = time.Second

func (c *clientConn) interrupt() {
	c.mu.Lock()
	c.interruptLocked()
	c.mu.Unlock()
}

func (c *clientConn) interruptLocked() {
	if c.up != nil {
		c.up.Interrupt()
	}
	if c.wake != nil {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// sleep waits for d, and reports false as soon as the client has gone or the
// relay drains.
func (c *clientConn) sleep(d time.Duration) bool {
	c.mu.Lock()
	if c.wake == nil {
		c.wake = make(chan struct{}, 1)
	}
	wake := c.wake
	c.mu.Unlock()
	if !c.mayWait() {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-wake:
	case <-t.C:
	}
	return c.mayWait()
}

// Close closes the connection once. Where an answer went out before the
// request was read it first lets the client find that answer: a close with
// unread bytes makes the kernel send a reset, which destroys it.
func (c *clientConn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.srv.watcher.remove(c.slot)
	if c.linger.Load() {
		c.srv.lingerOn(c.Conn)
	}
	if t, is := c.Conn.(*tls.Conn); is && c.stalled.Load() {
		_ = t.NetConn().Close() // or crypto/tls waits for five seconds more
	}
	err := c.Conn.Close()
	c.srv.connClosed()
	return err
}

const (
	lingerTime = 2 * time.Second
	maxLinger  = 256 // connections at a time
)

// lingerOn closes our side of a connection and reads the client's to its end,
// for at most lingerTime: what is closed with bytes unread resets the
// connection, and takes the answer away from the client (RFC 9112 §9.6). A
// server that drains has no time for it.
func (s *Server) lingerOn(conn net.Conn) {
	if s.draining.Load() {
		return
	}
	if s.lingering.Add(1) > maxLinger {
		s.lingering.Add(-1)
		return
	}
	defer s.lingering.Add(-1)
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	buf := s.buffers.Get()
	defer buf.Put()
	for {
		if _, err := conn.Read(buf.B[:]); err != nil {
			return
		}
	}
}
