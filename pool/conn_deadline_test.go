package pool

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// clocked is a connection that counts how often a deadline is set on it.
type clocked struct {
	net.Conn
	read, write time.Time
	reads       int
	writes      int
	both        int
}

func (c *clocked) SetReadDeadline(t time.Time) error {
	c.reads++
	c.read = t
	return nil
}

func (c *clocked) SetWriteDeadline(t time.Time) error {
	c.writes++
	c.write = t
	return nil
}

func (c *clocked) SetDeadline(t time.Time) error {
	c.both++
	c.read, c.write = t, t
	return nil
}

const second = int64(time.Second)

// TestReadBySetsADeadlineOnlyWhereItComesNearer: one that moves away with every
// event is left where it stands.
func TestReadBySetsADeadlineOnlyWhereItComesNearer(t *testing.T) {
	fake := &clocked{}
	c := &Conn{Conn: fake}
	for _, s := range []struct {
		name    string
		at      int64
		expired bool
		calls   int   // in all
		stands  int64 // afterwards
	}{
		{"the first", 100, false, 1, 100},
		{"later", 120, false, 1, 100},
		{"the same", 100, false, 1, 100},
		{"sooner", 50, false, 2, 50},
		{"later again", 400, false, 2, 50},
		{"woken early, goes on", 400, true, 3, 400},
		{"woken, the same", 400, true, 4, 400},
	} {
		if err := c.ReadBy(s.at*second, s.expired); err != nil {
			t.Fatal(err)
		}
		if fake.reads != s.calls || !fake.read.Equal(time.Unix(s.stands, 0)) {
			t.Errorf("%s: %d calls, stands at %v", s.name, fake.reads, fake.read.Unix())
		}
	}
	// 1000 events, each with 60 s more: not one call.
	before := fake.reads
	for i := range int64(1000) {
		if err := c.ReadBy((1000+i)*second, false); err != nil {
			t.Fatal(err)
		}
	}
	if fake.reads != before {
		t.Errorf("%d calls in 1000 events", fake.reads-before)
	}
	c.Unbounded()
	if fake.reads != before+1 || !fake.read.IsZero() {
		t.Errorf("unbounded: stands at %v", fake.read)
	}
	if err := c.ReadBy(5000*second, false); err != nil || fake.reads != before+2 {
		t.Errorf("after unbounded: %d calls", fake.reads-before)
	}
}

// TestWriteByGivesEachWriteItsPatience: the deadline is at least patience away
// and is moved at most once per patience.
func TestWriteByGivesEachWriteItsPatience(t *testing.T) {
	fake := &clocked{}
	c := &Conn{Conn: fake}
	const patience = 10 * time.Second
	last := int64(0)
	for now := int64(0); now < 1000*second; now += second / 2 {
		calls := fake.writes
		if err := c.WriteBy(now, patience); err != nil {
			t.Fatal(err)
		}
		if left := fake.write.UnixNano() - now; left < int64(patience) || left > 2*int64(patience) {
			t.Fatalf("at %d: %v left", now/second, time.Duration(left))
		}
		if fake.writes != calls {
			if calls > 0 && now-last <= int64(patience) {
				t.Fatalf("moved at %d and at %d", last/second, now/second)
			}
			last = now
		}
	}
	if fake.writes > 100 {
		t.Errorf("%d calls in 1000 s", fake.writes)
	}
	// More patience than stands there: now.
	calls := fake.writes
	if err := c.WriteBy(1000*second, time.Hour); err != nil || fake.writes != calls+1 {
		t.Errorf("%v, %d calls", err, fake.writes-calls)
	}
	// Less: now, too.
	calls = fake.writes
	if err := c.WriteBy(1000*second, time.Second); err != nil || fake.writes != calls+1 || fake.write.UnixNano() != 1002*second {
		t.Errorf("%v, %d calls, until %d", err, fake.writes-calls, fake.write.UnixNano()/second)
	}
}

func TestInterruptIsForGood(t *testing.T) {
	fake := &clocked{}
	c := &Conn{Conn: fake}
	c.Interrupt()
	past := time.Unix(1, 0)
	for name, do := range map[string]func(){
		"ReadBy":          func() { _ = c.ReadBy(100*second, false) },
		"ReadBy, expired": func() { _ = c.ReadBy(100*second, true) },
		"WriteBy":         func() { _ = c.WriteBy(100*second, time.Second) },
		"Unbounded":       c.Unbounded,
		"ResumeWriting":   c.ResumeWriting,
		"StopWriting":     c.StopWriting,
		"StopReading":     c.StopReading,
		"both, resumed":   func() { c.StopWriting(); c.ResumeWriting(); c.StopReading(); c.Unbounded() },
		"Interrupt again": c.Interrupt,
	} {
		do()
		if !fake.read.Equal(past) || !fake.write.Equal(past) {
			t.Errorf("%s took the interruption back: read %v, write %v", name, fake.read, fake.write)
		}
	}
}

func TestStoppedWritingStaysUntilItIsResumed(t *testing.T) {
	fake := &clocked{}
	c := &Conn{Conn: fake}
	past := time.Unix(1, 0)
	c.ResumeWriting() // nothing was stopped
	if fake.writes != 0 {
		t.Error("resumed what was not stopped")
	}
	_ = c.WriteBy(100*second, time.Second)
	c.StopWriting()
	_ = c.WriteBy(200*second, time.Second)
	if !fake.write.Equal(past) {
		t.Errorf("WriteBy took it back: %v", fake.write)
	}
	c.ResumeWriting()
	if !fake.write.IsZero() {
		t.Errorf("resumed to %v", fake.write)
	}
	_ = c.WriteBy(100*second, time.Second)
	if !fake.write.Equal(time.Unix(102, 0)) {
		t.Errorf("after it WriteBy set %v", fake.write)
	}
}

func TestInterruptEndsAReadAndAWriteThatWait(t *testing.T) {
	c, _ := listen(t).connect()
	defer c.Discard()
	written := make(chan error, 1)
	go func() {
		piece := make([]byte, 1<<20)
		for { // nobody reads
			if _, err := c.Write(piece); err != nil {
				written <- err
				return
			}
		}
	}()
	r := inBackground(c)
	c.Interrupt()
	if got := wait(t, r); !errors.Is(got.err, os.ErrDeadlineExceeded) || got.lent {
		t.Errorf("read: %+v", got)
	}
	select {
	case err := <-written:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the write does not return")
	}
}

func TestInterruptBeforeAReadEndsIt(t *testing.T) {
	c, server := listen(t).connect()
	defer c.Discard()
	c.Interrupt()
	if _, err := server.Write([]byte("too late")); err != nil {
		t.Fatal(err)
	}
	arrived(t, server)
	if err := c.ReadBy(time.Now().Add(time.Hour).UnixNano(), true); err != nil {
		t.Fatal(err)
	}
	if r := readOnce(c); !errors.Is(r.err, os.ErrDeadlineExceeded) {
		t.Errorf("%+v", r)
	}
}

func TestStopReadingEndsAReadAndUnboundedAllowsTheNext(t *testing.T) {
	c, server := listen(t).connect()
	defer c.Discard()
	for range 3 {
		r := inBackground(c)
		c.StopReading()
		if got := wait(t, r); !errors.Is(got.err, os.ErrDeadlineExceeded) {
			t.Errorf("%+v", got)
		}
		c.Unbounded()
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if r := readOnce(c); r.text != "x" || r.err != nil {
		t.Errorf("%+v", r)
	}
}

func TestInterruptedOrStoppedConnectionIsNotReleased(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*Conn)
		idle int
	}{
		"interrupted":                     {(*Conn).Interrupt, 0},
		"stopped writing":                 {(*Conn).StopWriting, 0},
		"stopped and resumed":             {func(c *Conn) { c.StopWriting(); c.ResumeWriting() }, 1},
		"stopped reading, then unbounded": {func(c *Conn) { c.StopReading(); c.Unbounded() }, 1},
		"nothing":                         {func(*Conn) {}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := listen(t)
			u := upstreamOf(t, "http://"+p.addr, &Buffers{}, nil)
			conn := acquire(t, u)
			p.next()
			c.do(conn)
			conn.Release()
			if open, idle := u.Connections(); open != c.idle || idle != c.idle {
				t.Errorf("%d open, %d idle; want %d", open, idle, c.idle)
			}
		})
	}
}

// 0 is no deadline: one that stood before is taken away, and does not end a
// read that may wait for ever.
func TestReadByZeroTakesTheDeadlineAway(t *testing.T) {
	c, server := listen(t).connect()
	defer c.Discard()
	if err := c.ReadBy(Now()+int64(20*time.Millisecond), false); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadBy(0, false); err != nil {
		t.Fatal(err)
	}
	time.Sleep(60 * time.Millisecond) // past what stood
	if _, err := server.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if r := readOnce(c); r.text != "x" {
		t.Errorf("%+v", r)
	}
}
