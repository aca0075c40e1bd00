package pool

import (
	"io"
	"net"
	"sync"
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

	dialled   int64 // when
	owner     *Upstream
	lease     any // the HostClient's own handle
	tls       bool
	addresses *addressesNow // the lookup that the address was last compared with

	// Deadlines as they stand on the socket, unix nanoseconds, 0 = none. Kept
	// so that a deadline that moves with every event is set once per period
	// and not once per event. mu orders them against Interrupt.
	mu            sync.Mutex
	readDeadline  int64
	writeDeadline int64
	interrupted   bool

	socket  socket
	buffers *Buffers
	more    bool // TLS may hold decrypted bytes of records that came already

	// State of one Alive call, here so that the function value handed to the
	// RawConn is made once per connection.
	pollErr error
	pollFn  func(fd uintptr)
	poll    [1]unix.PollFd
}

// stopped is a deadline that has passed and stays.
const stopped = 1

// ReadBuffer reads at least one byte into (*buf).B[from:to]. Where *buf is nil
// it lends one, and only once bytes have come, so that a quiet stream holds no
// memory; on an error *buf is nil if it was nil. Over TLS it returns what all
// records that came together hold. The errors are those of net.Conn.Read.
func (c *Conn) ReadBuffer(buf **Buffer, from, to int) (int, error) {
	if c.tls {
		return c.readRecords(buf, from, to)
	}
	if *buf != nil {
		return c.Conn.Read((*buf).B[from:to])
	}
	b, n, err := c.socket.lazy.Wait(from, to)
	if err != nil {
		return 0, err
	}
	*buf = b
	return n, nil
}

// Write writes all of p; deadlines and errors are those of net.Conn.Write.
func (c *Conn) Write(p []byte) (int, error) {
	if c.tls {
		return c.Conn.Write(p)
	}
	return c.socket.Write(p)
}

// readRecords reads what TLS has, or will have once the socket has more.
func (c *Conn) readRecords(buf **Buffer, from, to int) (int, error) {
	lent := *buf == nil
	for {
		if !c.more {
			if err := c.socket.fill(); err == io.EOF {
				return 0, io.ErrUnexpectedEOF // no close_notify: cut (RFC 8446 §6.1)
			} else if err != nil {
				return 0, err
			}
		}
		if lent {
			*buf = c.buffers.Get()
		}
		n, err := c.drain((*buf).B[from:to])
		if n > 0 {
			return n, nil
		}
		if lent {
			(*buf).Put()
			*buf = nil
		}
		if err != nil && err != errWouldBlock {
			return 0, err
		}
	}
}

// drain reads records into p until it is full or another record would have to
// be waited for. An error is kept by crypto/tls and comes again.
func (c *Conn) drain(p []byte) (n int, err error) {
	c.socket.noWait = true
	for n < len(p) && err == nil {
		var m int
		m, err = c.Conn.Read(p[n:])
		n += m
	}
	c.socket.noWait = false
	c.more = err != errWouldBlock
	return n, err
}

// Alive looks, without waiting, whether an idle connection may be used again:
// the upstream has neither closed it nor sent anything unasked. Over TLS
// waiting bytes are allowed, since session tickets come whenever the upstream
// likes.
func (c *Conn) Alive() bool {
	c.pollErr = nil
	if err := c.socket.raw.Control(c.pollFn); err != nil {
		return false
	}
	re := c.poll[0].Revents
	if re&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
		return false
	}
	waiting := re&unix.POLLIN != 0
	if c.tls {
		return c.pollErr == nil && c.silent(waiting)
	}
	return c.pollErr == nil && !waiting
}

// silent takes what came unasked over TLS: session tickets are crypto/tls's
// own business, a byte of an answer means that the connection is out of step.
func (c *Conn) silent(waiting bool) bool {
	if waiting && c.socket.peek() != nil {
		return false
	}
	if !waiting && !c.more {
		return true
	}
	var b [1]byte
	n, err := c.drain(b[:])
	return n == 0 && err == errWouldBlock
}

func (c *Conn) pollNow(fd uintptr) {
	c.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}
	c.pollErr = directPoll(c.poll[:])
}

// ReadBy makes reads fail with a timeout at the given time (unix nanoseconds)
// or some time before it: a deadline that only moves away is left where it
// stands, and the owner, woken early, looks at the clock and calls ReadBy
// again with expired true.
func (c *Conn) ReadBy(at int64, expired bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.interrupted || at == c.readDeadline && !expired:
		return nil
	case at == 0:
		c.readDeadline = 0
		return c.Conn.SetReadDeadline(time.Time{})
	case !expired && c.readDeadline != 0 && c.readDeadline <= at:
		return nil
	}
	c.readDeadline = at
	return c.Conn.SetReadDeadline(At(at))
}

// WriteBy makes writes fail with a timeout no sooner than after patience and no
// later than after twice as long; while patience is the same it sets a deadline at
// most once per patience.
func (c *Conn) WriteBy(now int64, patience time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted || c.writeDeadline == stopped ||
		c.writeDeadline >= now+int64(patience) && c.writeDeadline <= now+2*int64(patience)+1 { // of halves, which are rounded
		return nil
	}
	c.writeDeadline = now + 2*int64(patience)
	return c.Conn.SetWriteDeadline(At(c.writeDeadline))
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
// framing is in doubt. Over TLS the socket goes first: crypto/tls would give an
// upstream that has stopped reading five seconds to take a close_notify, which
// would also say that what was cut short is whole.
func (c *Conn) Discard() {
	c.socket.drop()
	if c.tls {
		_ = c.socket.TCPConn.Close()
	}
	c.owner.discard(c)
}
