package proxy

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher notices clients that leave. fasthttp tells nobody while a handler
// waits, so each client socket stands, edge-triggered and for FIN and reset
// alone, in an epoll set beside the Go runtime's own: registered once at
// accept, never touched again, it costs a request nothing.
//
// The set is itself a file that the runtime's poller waits for, so the watcher
// holds no thread. A slot's generation tells an event of a closed connection
// from one of the connection that has its slot or its descriptor now.
type watcher struct {
	set  *os.File
	fd   int
	done chan struct{}

	mu    sync.Mutex // protects what follows; taken per connection and per leaving client
	slots []watchSlot
	free  []uint32
}

type watchSlot struct {
	generation uint32
	conn       *clientConn // nil: free
}

func newWatcher() (*watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll set for leaving clients: %w", os.NewSyscallError("epoll_create1", err))
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else os.File would not use the poller
		_ = unix.Close(fd)
		return nil, fmt.Errorf("create epoll set for leaving clients: %w", err)
	}
	w := &watcher{set: os.NewFile(uintptr(fd), "client watcher"), fd: fd, done: make(chan struct{})}
	go w.run()
	return w, nil
}

// add registers c. The caller owns c, which nobody else knows yet.
func (w *watcher) add(c *clientConn, sock syscall.RawConn) error {
	w.mu.Lock()
	var i uint32
	if n := len(w.free); n > 0 {
		i, w.free = w.free[n-1], w.free[:n-1]
	} else {
		i = uint32(len(w.slots))
		w.slots = append(w.slots, watchSlot{})
	}
	s := &w.slots[i]
	s.conn = c
	c.slot = uint64(s.generation)<<32 | uint64(i)
	event := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: int32(i), Pad: int32(s.generation)}
	w.mu.Unlock()

	var ctlErr error
	err := sock.Control(func(fd uintptr) {
		ctlErr = unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, int(fd), &event)
	})
	if err == nil {
		err = ctlErr
	}
	if err != nil {
		w.remove(c.slot)
		return fmt.Errorf("watch client connection: %w", err)
	}
	return nil
}

// remove forgets a connection that is about to be closed; the kernel takes the
// descriptor out of the set by itself. A second call does nothing.
func (w *watcher) remove(slot uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, generation := uint32(slot), uint32(slot>>32)
	if s := &w.slots[i]; s.generation == generation && s.conn != nil {
		s.generation++
		s.conn = nil
		w.free = append(w.free, i)
	}
}

// run marks the clients that leave until the set is closed.
func (w *watcher) run() {
	defer close(w.done)
	raw, err := w.set.SyscallConn()
	if err != nil {
		return
	}
	var events [128]unix.EpollEvent
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, err = unix.EpollWait(int(fd), events[:], 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
		if err != nil {
			return // closed
		}
		for _, e := range events[:max(n, 0)] {
			if c := w.lookup(uint32(e.Fd), uint32(e.Pad)); c != nil {
				c.left()
			}
		}
	}
}

func (w *watcher) lookup(i, generation uint32) *clientConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := &w.slots[i]; s.generation == generation {
		return s.conn
	}
	return nil
}

// close ends the watcher and waits for its goroutine.
func (w *watcher) close() {
	_ = w.set.Close()
	<-w.done
}

// all returns the connections that are open.
func (w *watcher) all() (list []*clientConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.slots {
		if s.conn != nil {
			list = append(list, s.conn)
		}
	}
	return list
}

// drain tells every exchange under way to end now.
func (w *watcher) drain() {
	for _, c := range w.all() {
		c.drain()
	}
}
