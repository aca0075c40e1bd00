package pool

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is the TCP side of a connection. It reads into memory that is lent
// only once bytes are there. Under TLS it is what crypto/tls reads from: then
// it keeps what came in one system call until crypto/tls has taken it.
type socket struct {
	*net.TCPConn
	raw     syscall.RawConn
	buffers *Buffers

	held     *Buffer // under TLS: what crypto/tls has not taken; nil: nothing
	from, to int
	noWait   bool // under TLS: errWouldBlock instead of waiting

	// State of one wait, here so that the function value handed to the RawConn
	// is made once per connection.
	buf    *Buffer
	begin  int
	n      int // the bound going in, the count coming out
	err    error
	readFn func(fd uintptr) bool
}

func (s *socket) init(tcp *net.TCPConn, buffers *Buffers) error {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	s.TCPConn, s.raw, s.buffers = tcp, raw, buffers
	s.readFn = s.readReady
	return nil
}

// wait waits until the socket has bytes and reads them into [from:to] of a
// buffer, which the caller then owns.
func (s *socket) wait(from, to int) (*Buffer, int, error) {
	s.begin, s.n, s.err = from, to, nil
	err := s.raw.Read(s.readFn)
	b, n := s.buf, s.n
	s.buf = nil
	if err == nil {
		err = s.err
	}
	if err != nil {
		b.Put()
		return nil, 0, err
	}
	return b, n, nil
}

// readReady tries one read; false means that nothing is there and that the
// runtime shall wait for the socket.
func (s *socket) readReady(fd uintptr) bool {
	b := s.buffers.Get()
	for {
		n, err := unix.Read(int(fd), b.B[s.begin:s.n])
		switch {
		case n > 0:
			s.buf, s.n = b, n
			return true
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			b.Put()
			return false
		case err != nil:
			b.Put()
			s.err = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
			return true
		default:
			b.Put()
			s.err = io.EOF
			return true
		}
	}
}

// fill waits until crypto/tls has something to take.
func (s *socket) fill() error {
	if s.from < s.to {
		return nil
	}
	b, n, err := s.wait(0, BufferSize)
	if err != nil {
		return err
	}
	s.held, s.from, s.to = b, 0, n
	return nil
}

// Read is crypto/tls's.
func (s *socket) Read(p []byte) (int, error) {
	if s.from == s.to {
		if s.noWait {
			return 0, errWouldBlock
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.held.B[s.from:s.to])
	if s.from += n; s.from == s.to {
		s.drop()
	}
	return n, nil
}

// drop gives back what crypto/tls has not taken.
func (s *socket) drop() {
	s.held.Put()
	s.held, s.from, s.to = nil, 0, 0
}

// errWouldBlock tells crypto/tls that there is no more for now; being
// temporary, it does not end the connection.
var errWouldBlock net.Error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "no more bytes for now" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }
