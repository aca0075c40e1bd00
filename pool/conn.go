package pool

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a connection to an upstream. Its owner is the goroutine that
// acquired it; Interrupt alone may be called from another one, and only while
// the owner has it registered (see proxy's watcher). Release or Discard ends
// the ownership.
type Conn struct {
	net.Conn // TCP, or TLS over it

	// Reused says that the connection has carried an exchange before.
	Reused bool

	owner *Upstream
	lease any // the HostClient's own handle
	tls   bool
	raw   syscall.RawConn // the socket under TLS or not

	// Deadlines as they stand on the socket, unix nanoseconds, 0 = none. Kept
	// so that a deadline that moves with every event is set once per period
	// and not once per event. mu orders them against Interrupt.
	mu            sync.Mutex
	readDeadline  int64
	writeDeadline int64
	interrupted   bool

	// State of one ReadBuffer or Alive call, here so that the function values
	// handed to the RawConn are made once per connection.
	buffers *Buffers
	buf     *Buffer
	from    int
	n       int
	err     error
	readFn  func(fd uintptr) bool
	pollFn  func(fd uintptr)
	poll    [1]unix.PollFd
}

func newConn(nc net.Conn, sock *net.TCPConn, u *Upstream, buffers *Buffers) (*Conn, error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	_, isTLS := nc.(*tls.Conn)
	c := &Conn{Conn: nc, owner: u, raw: raw, tls: isTLS, buffers: buffers}
	c.readFn = c.readReady
	c.pollFn = c.pollNow
	return c, nil
}

// stopped is a deadline that has passed and stays.
const stopped = 1

// ReadBuffer reads at least one byte into (*buf).B[from:to]. Where *buf is nil
// it lends one, and over plain TCP only once bytes have come, so that a quiet
// stream holds no memory; on an error without bytes *buf is nil if it was nil.
// The errors are those of net.Conn.Read.
func (c *Conn) ReadBuffer(buf **Buffer, from, to int) (int, error) {
	if c.tls {
		had := *buf != nil
		if !had {
			*buf = c.buffers.Get()
		}
		n, err := c.Conn.Read((*buf).B[from:to])
		if n > 0 {
			return n, nil
		}
		if !had {
			(*buf).Put()
			*buf = nil
		}
		return 0, err
	}
	if *buf != nil {
		return c.Conn.Read((*buf).B[from:to])
	}
	c.from, c.n, c.err = from, to, nil // n carries the bound in and the count out
	err := c.raw.Read(c.readFn)
	b, n := c.buf, c.n
	c.buf = nil
	if err == nil {
		err = c.err
	}
	if err != nil {
		b.Put()
		return 0, err
	}
	*buf = b
	return n, nil
}

// readReady tries one read; false means that nothing is there and that the
// runtime shall wait for the socket.
func (c *Conn) readReady(fd uintptr) bool {
	b := c.buffers.Get()
	for {
		n, err := unix.Read(int(fd), b.B[c.from:c.n])
		switch {
		case n > 0:
			c.buf, c.n = b, n
			return true
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			b.Put()
			return false
		case err != nil:
			b.Put()
			c.err = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
			return true
		default:
			b.Put()
			c.err = io.EOF
			return true
		}
	}
}

// Alive looks, without waiting, whether an idle connection may be used again:
// the upstream has neither closed it nor sent anything unasked. Over TLS
// waiting bytes are allowed, since session tickets come whenever the upstream
// likes.
func (c *Conn) Alive() bool {
	c.err = nil
	if err := c.raw.Control(c.pollFn); err != nil {
		return false
	}
	re := c.poll[0].Revents
	if re&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
		return false
	}
	return c.err == nil && (c.tls || re&unix.POLLIN == 0)
}

func (c *Conn) pollNow(fd uintptr) {
	c.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}
	_, c.err = unix.Poll(c.poll[:], 0)
}

// ReadBy makes reads fail with a timeout at the given time (unix nanoseconds)
// or some time before it: a deadline that only moves away is left where it
// stands, and the owner, woken early, looks at the clock and calls ReadBy
// again with expired true.
func (c *Conn) ReadBy(at int64, expired bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted || (!expired && c.readDeadline != 0 && c.readDeadline <= at) {
		return nil
	}
	c.readDeadline = at
	return c.Conn.SetReadDeadline(time.Unix(0, at))
}

// WriteBy makes writes fail with a timeout no sooner than after patience, and
// sets a deadline at most once per patience.
func (c *Conn) WriteBy(now int64, patience time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted || c.writeDeadline == stopped || c.writeDeadline >= now+int64(patience) {
		return nil
	}
	c.writeDeadline = now + 2*int64(patience)
	return c.Conn.SetWriteDeadline(time.Unix(0, c.writeDeadline))
}

// Interrupt makes the owner's read or write, now or next, fail with a timeout,
// for good: an interrupted connection can only be discarded.
func (c *Conn) Interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupted = true
	_ = c.Conn.SetDeadline(time.Unix(1, 0)) // a closed connection needs no interrupt
}

// StopWriting makes the owner's write, now or next, fail with a timeout. It is
// for a goroutine of the owner's that reads meanwhile.
func (c *Conn) StopWriting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeDeadline = stopped
	_ = c.Conn.SetWriteDeadline(time.Unix(1, 0))
}

// ResumeWriting undoes StopWriting, when all had been written before it.
func (c *Conn) ResumeWriting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeDeadline != stopped || c.interrupted {
		return
	}
	c.writeDeadline = 0
	_ = c.Conn.SetWriteDeadline(time.Time{})
}

// StopReading makes a read that a goroutine of the owner's is in fail with a
// timeout.
func (c *Conn) StopReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readDeadline = stopped
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
}

// Unbounded takes the read deadline away, also one that StopReading set.
func (c *Conn) Unbounded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted {
		return
	}
	c.readDeadline = 0
	_ = c.Conn.SetReadDeadline(time.Time{})
}

// CloseWrite tells the upstream that no more will be sent.
func (c *Conn) CloseWrite() error {
	if t, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return t.CloseWrite()
	}
	return nil
}

// Release gives the connection back for the next exchange. The owner has read
// the answer to its end.
func (c *Conn) Release() {
	c.mu.Lock()
	dead := c.interrupted || c.writeDeadline == stopped
	c.mu.Unlock()
	if dead {
		c.Discard()
		return
	}
	c.Reused = true
	c.owner.release(c)
}

// Discard closes the connection: the answer was not read to its end, or its
// framing is in doubt.
func (c *Conn) Discard() { c.owner.discard(c) }
