package pool

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"streamrelay/configs"
)

func TestReadBufferReadsWhatCame(t *testing.T) {
	c, server := listen(t).connect()
	defer c.Discard()
	if _, err := server.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if r := readOnce(c); r.text != "hello" || r.err != nil {
		t.Errorf("%+v", r)
	}
	// Into a buffer that is there already, where it is told to.
	b := c.buffers.Get()
	defer b.Put()
	b.B[100], b.B[103] = 'a', 'z'
	arrived(t, server)
	if _, err := server.Write([]byte("12345")); err != nil {
		t.Fatal(err)
	}
	arrived(t, server)
	same := b
	n, err := c.ReadBuffer(&b, 101, 103)
	if n != 2 || err != nil || b != same || string(b.B[100:104]) != "a12z" {
		t.Errorf("%d, %v: %q", n, err, b.B[100:104])
	}
}

func TestReadBufferHoldsNoBufferWhileItWaits(t *testing.T) {
	p := listen(t)
	buffers := newCounted()
	u := upstreamOf(t, "http://"+p.addr, &buffers.Buffers, nil)
	c := acquire(t, u)
	defer c.Discard()
	server := p.next()
	for range 3 {
		r := inBackground(c)
		buffers.noneHeld(t)
		if _, err := server.Write([]byte("event")); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, r); got.text != "event" || !got.lent {
			t.Errorf("%+v", got)
		}
	}
	buffers.noneHeld(t)
	if buffers.made.Load() == 0 {
		t.Error("no buffer was ever lent: this test sees nothing")
	}
}

func TestReadBufferLendsNothingOnAnError(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(c *Conn, server *net.TCPConn)
		want func(error) bool
	}{
		{"closed by the upstream", func(_ *Conn, server *net.TCPConn) { server.Close() }, func(err error) bool { return err == io.EOF }},
		{"deadline", func(c *Conn, _ *net.TCPConn) { _ = c.ReadBy(1, false) }, func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
		{"interrupted", func(c *Conn, _ *net.TCPConn) { c.Interrupt() }, func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
		{"closed here", func(c *Conn, _ *net.TCPConn) { _ = c.Close() }, func(err error) bool { return err != nil && !errors.Is(err, os.ErrDeadlineExceeded) }},
		{"reset", func(_ *Conn, server *net.TCPConn) {
			_ = server.SetLinger(0)
			server.Close()
		}, func(err error) bool { return errors.Is(err, syscall.ECONNRESET) || err == io.EOF }}, // the kernel tells it once
	} {
		t.Run(c.name, func(t *testing.T) {
			p := listen(t)
			buffers := newCounted()
			u := upstreamOf(t, "http://"+p.addr, &buffers.Buffers, nil)
			conn := acquire(t, u)
			defer conn.Discard()
			server := p.next()
			c.do(conn, server)
			for range 2 { // and it stays so
				if r := readOnce(conn); !c.want(r.err) || r.lent {
					t.Errorf("%+v", r)
				}
			}
			// The same with a buffer that is there, which stays the caller's.
			b := conn.buffers.Get()
			same := b
			if n, err := conn.ReadBuffer(&b, 0, 10); n != 0 || !c.want(err) || b != same {
				t.Errorf("with a buffer: %d, %v", n, err)
			}
			b.Put()
			b, same = nil, nil
			buffers.noneHeld(t)
		})
	}
}

func TestAlive(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(c *Conn, server *net.TCPConn)
		want bool
	}{
		{name: "idle", want: true},
		{name: "closed by the upstream", do: func(_ *Conn, s *net.TCPConn) {
			s.Close()
		}},
		{name: "half-closed by the upstream", do: func(_ *Conn, s *net.TCPConn) {
			_ = s.CloseWrite()
		}},
		{name: "reset", do: func(_ *Conn, s *net.TCPConn) {
			_ = s.SetLinger(0)
			s.Close()
		}},
		{name: "a byte nobody asked for", do: func(_ *Conn, s *net.TCPConn) {
			_, _ = s.Write([]byte("x"))
		}},
		{name: "an answer that came too late", do: func(_ *Conn, s *net.TCPConn) {
			_, _ = s.Write([]byte("HTTP/1.1 408 Request Timeout\r\n\r\n"))
			s.Close()
		}},
		{name: "closed here", do: func(c *Conn, _ *net.TCPConn) {
			_ = c.Close()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, server := listen(t).connect()
			defer conn.Discard()
			if c.do != nil {
				c.do(conn, server)
				eventually(t, "the connection is found dead", func() bool { return !conn.Alive() })
			}
			for range 3 {
				if got := conn.Alive(); got != c.want {
					t.Errorf("alive %t", got)
				}
			}
		})
	}
}

func TestAliveAllocatesNothing(t *testing.T) {
	c, _ := listen(t).connect()
	defer c.Discard()
	if n := testing.AllocsPerRun(100, func() {
		if !c.Alive() {
			t.Fatal("dead")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestReleasedConnectionIsUsedAgain(t *testing.T) {
	p := listen(t)
	u := upstreamOf(t, "http://"+p.addr, &Buffers{}, nil)
	first := acquire(t, u)
	if first.Reused {
		t.Error("a new connection says that it was used before")
	}
	first.Release()
	if open, idle := u.Connections(); open != 1 || idle != 1 {
		t.Errorf("%d open, %d idle", open, idle)
	}
	again := acquire(t, u)
	if again != first || !again.Reused {
		t.Errorf("another connection, or one that forgot: reused %t", again.Reused)
	}
	again.Discard()
	if open, idle := u.Connections(); open != 0 || idle != 0 {
		t.Errorf("after discard %d open, %d idle", open, idle)
	}
}

func TestAcquireThrowsDeadIdleConnectionsAway(t *testing.T) {
	p := listen(t)
	u := upstreamOf(t, "http://"+p.addr, &Buffers{}, nil)
	const n = 5
	var conns []*Conn
	for range n {
		conns = append(conns, acquire(t, u))
	}
	for _, c := range conns {
		c.Release()
	}
	for i := range n {
		server := p.next()
		if i%2 == 0 {
			server.Close()
		} else if _, err := server.Write([]byte("HTTP/1.1 408 Too late\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range conns {
		eventually(t, "the connection is found dead", func() bool { return !c.Alive() })
	}
	fresh := acquire(t, u)
	defer fresh.Discard()
	if fresh.Reused {
		t.Error("took a dead connection")
	}
	if open, idle := u.Connections(); open != 1 || idle != 0 {
		t.Errorf("%d open, %d idle", open, idle)
	}
}

func TestReuseAllocatesNothing(t *testing.T) {
	p := listen(t)
	u := upstreamOf(t, "http://"+p.addr, &Buffers{}, nil)
	acquire(t, u).Release()
	server := p.next()
	go func() { // echoes until the end
		b := make([]byte, 64)
		for {
			n, err := server.Read(b)
			if err != nil {
				return
			}
			if _, err := server.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	ping := []byte("ping")
	exchange := func() {
		c, err := u.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now().UnixNano()
		if err := c.WriteBy(now, time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(ping); err != nil {
			t.Fatal(err)
		}
		if err := c.ReadBy(now+int64(time.Minute), false); err != nil {
			t.Fatal(err)
		}
		var b *Buffer
		if n, err := c.ReadBuffer(&b, 0, BufferSize); n != 4 || err != nil {
			t.Fatal(n, err)
		}
		b.Put()
		c.Release()
	}
	exchange()
	if n := testing.AllocsPerRun(500, exchange); n != 0 && !raceEnabled {
		t.Errorf("%v allocations per exchange", n)
	}
}

func TestAcquireIsBusyAtTheLimit(t *testing.T) {
	p := listen(t)
	u := upstreamOf(t, "http://"+p.addr, &Buffers{}, func(c *configs.Upstream) { c.MaxConnections = 2 })
	a, b := acquire(t, u), acquire(t, u)
	if _, err := u.Acquire(); err != ErrBusy {
		t.Errorf("%v", err)
	}
	a.Discard()
	c := acquire(t, u)
	b.Release()
	if d := acquire(t, u); d != b {
		t.Error("the idle one was not taken")
	} else {
		d.Discard()
	}
	c.Discard()
	if open, _ := u.Connections(); open != 0 {
		t.Errorf("%d open", open)
	}
}

func TestAcquireFailsWhereNobodyListens(t *testing.T) {
	u := upstreamOf(t, "http://127.0.0.1:1", &Buffers{}, nil)
	_, err := u.Acquire()
	var timeout interface{ Timeout() bool }
	if !errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%v", err)
	}
	u = upstreamOf(t, "http://no-such-host.invalid", &Buffers{}, nil)
	if _, err := u.Acquire(); err == nil || !strings.Contains(err.Error(), "no-such-host.invalid") {
		t.Errorf("%v", err)
	}
	if open, idle := u.Connections(); open != 0 || idle != 0 {
		t.Errorf("%d open, %d idle", open, idle)
	}
}

// The client dials for one that waits, and lays the connection aside where it
// no longer does: it is idle before it carried anything.
func TestAConnectionOfAWaiterThatGaveUpIsLookedAtBeforeItIsUsed(t *testing.T) {
	p := listen(t)
	cert, ca := certificate(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12}
	u := upstreamOf(t, "https://"+p.addr, &Buffers{}, func(c *configs.Upstream) {
		c.CAFile, c.MaxConnections, c.ConnectionWait = ca, 1, 200*time.Millisecond
	})
	go func() { _ = tls.Server(p.next(), cfg).Handshake() }()
	busy := acquire(t, u)
	waiter := make(chan error, 1)
	go func() { _, err := u.Acquire(); waiter <- err }()
	time.Sleep(50 * time.Millisecond) // it waits
	busy.Discard()                    // now it is dialled for
	late := p.next()
	if err := <-waiter; !errors.Is(err, ErrBusy) {
		t.Fatalf("%v, want ErrBusy", err)
	}
	server := tls.Server(late, cfg)
	if err := server.Handshake(); err != nil { // longer than the waiter waited
		t.Fatal(err)
	}
	eventually(t, "it lies idle", func() bool { _, idle := u.Connections(); return idle == 1 })
	_, _ = server.Write([]byte("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	server.Close()
	go func() { _ = tls.Server(p.next(), cfg).Handshake() }()
	c := acquire(t, u)
	defer c.Discard()
	if c.LocalAddr().String() == late.RemoteAddr().String() {
		t.Fatalf("the dead connection was given out, on which stands %q", readOnce(c).text)
	}
}
