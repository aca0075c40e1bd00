package pool

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls on sockets that do not block are made without a word to the
// scheduler. It would take each for one that may sleep: it pays for entering
// and leaving, and its monitor thread stays awake at 20 µs to take the
// processor away from calls that are done before another thread has woken. A
// call that moves directMost bytes at most is over in microseconds.
//
// The race detector sees no raw system call, so under it they go by the
// functions that tell it which memory they touch.

// directMost bounds what one such call may copy.
const directMost = 64 << 10

func directRead(fd int, p []byte) (int, error) {
	if raceEnabled || len(p) == 0 {
		return unix.Read(fd, p)
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

func directWrite(fd int, p []byte) (int, error) {
	if raceEnabled || len(p) == 0 {
		return unix.Write(fd, p)
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// directPoll is poll(2) without waiting. A signal that is pending, such as the
// scheduler's own, interrupts even that.
func directPoll(fds []unix.PollFd) error {
	for {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(fds))), uintptr(len(fds)),
			uintptr(unsafe.Pointer(&syscall.Timespec{})), 0, 0, 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// DirectWriter writes to a socket. One goroutine at a time writes; deadlines
// and errors are those of net.Conn.Write.
type DirectWriter struct {
	conn io.Writer // the socket as net has it, for what takes longer
	raw  syscall.RawConn

	// State of one Write, as LazyReader has it.
	p   []byte
	n   int
	err error
	fn  func(fd uintptr) bool
}

// Init makes w write to conn, whose socket is raw.
func (w *DirectWriter) Init(conn io.Writer, raw syscall.RawConn) {
	w.conn, w.raw = conn, raw
	w.fn = w.writeReady
}

// Write writes all of p.
func (w *DirectWriter) Write(p []byte) (int, error) {
	if len(p) > directMost {
		return w.conn.Write(p)
	}
	w.p, w.n, w.err = p, 0, nil
	err := w.raw.Write(w.fn)
	w.p = nil
	if err == nil {
		err = w.err
	}
	return w.n, err
}

// writeReady writes what the socket takes; false means that it takes no more,
// and that the runtime shall wait for it.
func (w *DirectWriter) writeReady(fd uintptr) bool {
	for w.n < len(w.p) {
		n, err := directWrite(int(fd), w.p[w.n:])
		switch {
		case err == nil:
			w.n += n
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false
		default:
			w.err = &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", err)}
			return true
		}
	}
	return true
}
