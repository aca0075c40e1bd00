package pool

import (
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// registered is how the owner of a connection lets others interrupt it, as the
// relay's client connections do.
type registered struct {
	mu sync.Mutex
	up *Conn
}

func (r *registered) set(c *Conn) {
	r.mu.Lock()
	r.up = c
	r.mu.Unlock()
}

// interrupt interrupts whoever is registered.
func (r *registered) interrupt() (hit bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.up != nil {
		r.up.Interrupt()
	}
	return r.up != nil
}

// TestInterruptNeverCutsAnotherExchange lets interrupts race with the release of
// the connection they are meant for. The exchange that gets the connection next
// must not feel them.
func TestInterruptNeverCutsAnotherExchange(t *testing.T) {
	rounds := 50_000
	if testing.Short() {
		rounds = 2_000
	}
	p := listen(t)
	var echoes sync.WaitGroup
	echoes.Add(1)
	go func() {
		defer echoes.Done()
		for nc := range p.came {
			echoes.Add(1)
			go func() {
				defer echoes.Done()
				defer nc.Close()
				echo(nc)
			}()
		}
	}()
	u := upstreamOf(t, "http://"+p.addr, &Buffers{}, nil)

	var r registered
	fire, fired := make(chan struct{}), make(chan int)
	go func() {
		hits := 0
		for range fire {
			if r.interrupt() {
				hits++
			}
		}
		fired <- hits
	}()
	cut := 0
	for i := range rounds {
		c, err := u.Acquire()
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		// An exchange that nobody may interrupt.
		if i%8 == 0 {
			if err := c.ReadBy(time.Now().Add(patience).UnixNano(), true); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte("p")); err != nil {
				t.Fatalf("round %d: write on a connection that was interrupted before: %v", i, err)
			}
			if got := readOnce(c); got.text != "p" || got.err != nil {
				t.Fatalf("round %d: read on a connection that was interrupted before: %+v", i, got)
			}
		}
		c.mu.Lock()
		if c.interrupted {
			t.Fatalf("round %d: acquired an interrupted connection", i)
		}
		c.mu.Unlock()
		// One that is, at any moment from here on.
		r.set(c)
		if i%16 == 0 {
			fire <- struct{}{}
			for range i / 16 % 4 {
				runtime.Gosched()
			}
		}
		r.set(nil)
		c.mu.Lock()
		if c.interrupted {
			cut++
		}
		c.mu.Unlock()
		c.Release()
	}
	close(fire)
	hits := <-fired
	if cut > hits || cut == 0 || cut == rounds/16 {
		t.Errorf("%d connections interrupted by %d interrupts that found one: no race was run", cut, hits)
	}
	t.Logf("%d rounds, %d interrupted", rounds, cut)
	if open, idle := u.Connections(); open > 1 || open != idle {
		t.Errorf("%d open, %d idle", open, idle)
	}
}

func echo(nc net.Conn) {
	b := make([]byte, 16)
	for {
		n, err := nc.Read(b)
		if err != nil {
			return
		}
		if _, err := nc.Write(b[:n]); err != nil {
			return
		}
	}
}
