package pool

import (
	"io"
	"net"
	"syscall"
)

// socket is the TCP side of a connection. Under TLS it is what crypto/tls
// reads from: then it keeps what came in one system call until crypto/tls has
// taken it.
type socket struct {
	*net.TCPConn
	raw  syscall.RawConn
	lazy LazyReader
	out  DirectWriter

	held     *Buffer // under TLS: what crypto/tls has not taken; nil: nothing
	from, to int
	noWait   bool // under TLS: errWouldBlock instead of waiting
}

func (s *socket) init(tcp *net.TCPConn, buffers *Buffers) error {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	s.TCPConn, s.raw = tcp, raw
	s.lazy.Init(raw, buffers)
	s.out.Init(tcp, raw)
	return nil
}

// fill waits until crypto/tls has something to take.
func (s *socket) fill() error {
	if s.from < s.to {
		return nil
	}
	b, n, err := s.lazy.Wait(0, BufferSize)
	if err != nil {
		return err
	}
	s.held, s.from, s.to = b, 0, n
	return nil
}

// peek is fill without waiting and without regard to deadlines.
func (s *socket) peek() error {
	if s.from < s.to {
		return nil
	}
	b, n := s.lazy.buffers.Get(), 0
	var err error
	if ctl := s.raw.Control(func(fd uintptr) { n, err = directRead(int(fd), b.B[:]) }); ctl != nil {
		err = ctl
	}
	if n <= 0 {
		b.Put()
		if err == nil {
			err = io.EOF
		}
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

// Write is crypto/tls's, and the connection's where there is no TLS.
func (s *socket) Write(p []byte) (int, error) { return s.out.Write(p) }

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
