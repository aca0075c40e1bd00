package proxy

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"streamrelay/pool"
)

func TestWatcherSeesAClientThatLeaves(t *testing.T) {
	for _, c := range []struct {
		name  string
		leave func(*net.TCPConn)
	}{
		{"closes", func(n *net.TCPConn) { n.Close() }},
		{"closes its side", func(n *net.TCPConn) { _ = n.CloseWrite() }},
		{"resets", func(n *net.TCPConn) { _ = n.SetLinger(0); n.Close() }},
		{"closes behind bytes that nobody read", func(n *net.TCPConn) { _, _ = n.Write([]byte("GET")); n.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, oneUpstream("http://127.0.0.1:9"))
			gone, left := sockets(t, s)
			stays, other := sockets(t, s)
			if _, err := other.Write([]byte("a pipelined request is no reason")); err != nil {
				t.Fatal(err)
			}
			c.leave(left)
			eventually(t, "the watcher sees it", gone.gone.Load)
			if gone.goneAt.Load() == 0 {
				t.Error("nobody knows when it left")
			}
			// The event of the one that stayed would have come by now: it is older.
			if stays.gone.Load() {
				t.Error("one that stays is taken for gone")
			}
		})
	}
}

// TestWatcherInterruptsTheUpstreamOfTheClientThatLeft, and of nobody else, also
// when it left before the upstream was there.
func TestWatcherInterruptsTheUpstreamOfTheClientThatLeft(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := newServer(t, oneUpstream("http://"+ln.Addr().String()))
	acquire := func() *pool.Conn {
		up, err := s.settings.Load().routing.set.Upstreams[0].Acquire()
		if err != nil {
			t.Fatal(err)
		}
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		return up
	}
	reading := func(up *pool.Conn) <-chan error {
		ch := make(chan error, 1)
		go func() {
			var b *pool.Buffer
			_, err := up.ReadBuffer(&b, 0, 10)
			b.Put()
			ch <- err
		}()
		return ch
	}

	a, clientA := sockets(t, s)
	b, _ := sockets(t, s)
	upA, upB := acquire(), acquire()
	if !a.watch(upA) || !b.watch(upB) {
		t.Fatal("gone already")
	}
	readA, readB := reading(upA), reading(upB)
	clientA.Close()
	if err := <-readA; !isTimeout(err) {
		t.Errorf("%v", err)
	}
	select {
	case err := <-readB:
		t.Errorf("another exchange was cut: %v", err)
	default:
	}
	a.unwatch()
	upA.Discard()

	// Too late to be interrupted: watch says so.
	if late := acquire(); a.watch(late) {
		t.Error("the client is still there")
	} else {
		a.unwatch()
		late.Discard()
	}
	// Not registered any more: a leaving client interrupts nobody.
	b.unwatch()
	b.clientGone()
	upB.StopReading()
	if err := <-readB; !isTimeout(err) {
		t.Errorf("%v", err)
	}
	upB.Unbounded()
	upB.Release()
	if _, idle := s.settings.Load().routing.set.Upstreams[0].Connections(); idle != 1 {
		t.Errorf("%d idle connections, want the one that nobody interrupted", idle)
	}
}

func TestWatcherIgnoresEventsOfAnOlderConnection(t *testing.T) {
	w, err := newWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	var c1, c2 clientConn
	sock := rawSocket(t)
	if err := w.add(&c1, sock); err != nil {
		t.Fatal(err)
	}
	slot, generation := uint32(c1.slot), uint32(c1.slot>>32)
	if w.lookup(slot, generation) != &c1 {
		t.Fatal("not found")
	}
	w.remove(c1.slot)
	w.remove(c1.slot) // a second time does nothing
	if w.lookup(slot, generation) != nil || len(w.free) != 1 {
		t.Errorf("found after remove, or %d free slots", len(w.free))
	}
	if err := w.add(&c2, rawSocket(t)); err != nil {
		t.Fatal(err)
	}
	if uint32(c2.slot) != slot || c2.slot == c1.slot {
		t.Errorf("slot %x after %x: want it used again, under another generation", c2.slot, c1.slot)
	}
	if w.lookup(slot, generation) != nil {
		t.Error("an event of the first connection finds the second")
	}
	w.remove(c1.slot) // of a connection that is long gone
	if w.lookup(uint32(c2.slot), uint32(c2.slot>>32)) != &c2 {
		t.Error("removed somebody else")
	}
	w.remove(c2.slot)
}

func TestWatcherGivesTheSlotBackWhereItCannotWatch(t *testing.T) {
	w, err := newWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	var c clientConn
	if err := w.add(&c, noMore{}); err == nil {
		t.Error("watches what is no socket")
	}
	if len(w.slots) != 1 || len(w.free) != 1 || w.slots[0].conn != nil {
		t.Errorf("%d slots, %d free", len(w.slots), len(w.free))
	}
}

func TestWatcherCloseEndsItsGoroutine(t *testing.T) {
	for range 50 {
		w, err := newWatcher()
		if err != nil {
			t.Fatal(err)
		}
		w.close()
		select {
		case <-w.done:
		default:
			t.Fatal("still runs")
		}
	}
}

// TestWatcherOverManyConnections opens and closes 10,000, a hundred at a time,
// whose clients leave at any moment, and looks what is left.
func TestWatcherOverManyConnections(t *testing.T) {
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	before := openFiles(t)
	const rounds, together = 100, 100
	for range rounds {
		conns := make([]*clientConn, together)
		var clients sync.WaitGroup
		for i := range together {
			client, err := net.Dial("unix", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			nc, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			s.open.Add(1)
			if conns[i], err = s.newClientConn(nc, nil); err != nil {
				t.Fatal(err)
			}
			clients.Go(func() { client.Close() })
		}
		for i, c := range conns {
			if i%2 == 0 {
				eventually(t, "the watcher sees it", c.gone.Load)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		clients.Wait()
	}
	w := s.watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.slots) > together || len(w.free) != len(w.slots) {
		t.Errorf("%d slots for %d connections at a time, %d free", len(w.slots), together, len(w.free))
	}
	for i, slot := range w.slots {
		if slot.conn != nil {
			t.Errorf("slot %d keeps a connection", i)
		}
	}
	if n := s.open.Load(); n != 0 {
		t.Errorf("%d open", n)
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d open files, %d before", after, before)
	}
}

func TestWatcherDrainTellsEveryExchange(t *testing.T) {
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	a, _ := sockets(t, s)
	b, _ := sockets(t, s)
	b.Close()
	s.watcher.drain()
	if !a.drained.Load() || b.drained.Load() {
		t.Errorf("drained: open %t, closed %t", a.drained.Load(), b.drained.Load())
	}
	if a.gone.Load() {
		t.Error("a client that is to be told counts as gone")
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc: the kernel's list of open files is needed")
	}
	return len(names)
}

// rawSocket returns a socket that stays open to the test's end.
func rawSocket(t *testing.T) syscall.RawConn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
