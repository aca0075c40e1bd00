package pool

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// LazyReader reads from a socket into memory that is lent only once bytes are
// there, so that waiting holds none. One goroutine at a time reads.
type LazyReader struct {
	raw     syscall.RawConn
	buffers *Buffers

	// State of one Wait, here so that the function value handed to the RawConn
	// is made once per connection.
	buf    *Buffer
	begin  int
	n      int // the bound going in, the count coming out
	err    error
	readFn func(fd uintptr) bool
}

// Init makes r read from raw.
func (r *LazyReader) Init(raw syscall.RawConn, buffers *Buffers) {
	r.raw, r.buffers = raw, buffers
	r.readFn = r.readReady
}

// Wait waits until the socket has bytes and reads them into [from:to] of a
// buffer, which the caller then owns. The errors are those of net.Conn.Read.
func (r *LazyReader) Wait(from, to int) (*Buffer, int, error) {
	r.begin, r.n, r.err = from, to, nil
	err := r.raw.Read(r.readFn)
	b, n := r.buf, r.n
	r.buf = nil
	if err == nil {
		err = r.err
	}
	if err != nil {
		b.Put()
		return nil, 0, err
	}
	return b, n, nil
}

// readReady tries one read; false means that nothing is there and that the
// runtime shall wait for the socket.
func (r *LazyReader) readReady(fd uintptr) bool {
	b := r.buffers.Get()
	for {
		n, err := directRead(int(fd), b.B[r.begin:r.n])
		switch {
		case n > 0:
			r.buf, r.n = b, n
			return true
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			b.Put()
			return false
		case err != nil:
			b.Put()
			r.err = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
			return true
		default:
			b.Put()
			r.err = io.EOF
			return true
		}
	}
}
