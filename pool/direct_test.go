package pool

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// directPair returns a writer to one end of a TCP connection with small socket
// buffers, and both ends.
func directPair(t *testing.T) (w *DirectWriter, ours, theirs *net.TCPConn) {
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
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = nc.(*net.TCPConn), peer.(*net.TCPConn)
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	_, _ = ours.SetWriteBuffer(16<<10), theirs.SetReadBuffer(16<<10)
	raw, err := ours.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	w = &DirectWriter{}
	w.Init(ours, raw)
	return w, ours, theirs
}

// A socket that takes only a part at a time gets all of it, in order.
func TestDirectWriterWritesAllOfWhatTheSocketTakesInParts(t *testing.T) {
	w, ours, theirs := directPair(t)
	sizes := []int{0, 1, 5, 4096, directMost - 1, directMost, directMost + 1, 4 * directMost}
	var want []byte
	for _, n := range sizes {
		p := make([]byte, n)
		_, _ = rand.Read(p)
		want = append(want, p...)
	}
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(theirs)
		got <- b
	}()
	rest := want
	for _, n := range sizes {
		m, err := w.Write(rest[:n])
		if m != n || err != nil {
			t.Fatalf("%d of %d bytes: %v", m, n, err)
		}
		rest = rest[n:]
	}
	ours.CloseWrite()
	if b := <-got; !bytes.Equal(b, want) {
		t.Errorf("%d bytes came, other than the %d that were written", len(b), len(want))
	}
}

// Its errors are net.Conn's: what passed before is counted.
func TestDirectWriterFailsAsAConnDoes(t *testing.T) {
	w, ours, theirs := directPair(t)
	if err := ours.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var err error
	n, total := 0, 0
	for err == nil { // nobody reads
		n, err = w.Write(make([]byte, directMost))
		total += n
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || total == 0 {
		t.Errorf("%d bytes, %v", total, err)
	}
	if err := ours.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	_ = theirs.SetLinger(0)
	_ = theirs.Close() // a reset
	for err = nil; err == nil; {
		_, err = w.Write([]byte("x"))
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("to a peer that is gone: %v", err)
	}
	_ = ours.Close()
	if _, err := w.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("to a closed connection: %v", err)
	}
}
