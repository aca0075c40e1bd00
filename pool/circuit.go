package pool

import (
	"sync"
	"sync/atomic"
	"time"

	"streamrelay/configs"
)

// circuit leaves an upstream alone that failed several times in a row. After a
// while one exchange, the probe, finds out whether it is back. Reading it costs
// one load; only a change of state takes the lock.
type circuit struct {
	cfg configs.Circuit

	until    atomic.Int64 // unix ns; 0: closed, else open until then and half-open afterwards
	failures atomic.Int32 // in a row
	probing  atomic.Bool  // half-open, and somebody is on the way
	times    atomic.Int32 // that it closed: what began before the last time says nothing of now

	mu     sync.Mutex // protects opened, and orders changes of state
	opened int32      // times in a row
}

// State is how an upstream or a credential stands.
type State string

// The states.
const (
	StateUp       State = "up"
	StateOpen     State = "open"      // left alone after failures
	StateHalfOpen State = "half_open" // one exchange at a time finds out
	StateDown     State = "down"      // its health check fails
	StateResting  State = "resting"   // a credential: some model's limit was reached
	StateRefused  State = "refused"   // a credential: the provider does not take it
)

// state returns the circuit's at now.
func (c *circuit) state(now int64) State {
	switch until := c.until.Load(); {
	case until == 0:
		return StateUp
	case now < until:
		return StateOpen
	}
	return StateHalfOpen
}

// allows reports whether an exchange may go that way.
func (c *circuit) allows(now int64) bool {
	until := c.until.Load()
	return until == 0 || now >= until && !c.probing.Load()
}

// enter is allows for the one who goes; probe says that it has to find out.
func (c *circuit) enter(now int64) (probe, ok bool) {
	until := c.until.Load()
	if until == 0 {
		return false, true
	}
	if now < until || !c.probing.CompareAndSwap(false, true) {
		return false, false
	}
	if c.until.Load() != until { // closed or opened anew meanwhile
		c.probing.Store(false)
		return false, c.until.Load() == 0
	}
	return true, true
}

// failed counts a failure of an exchange that began when the circuit had closed
// times times. It reports whether the circuit opened by it, and for how long.
func (c *circuit) failed(now int64, probe bool, times int32) (bool, time.Duration) {
	if times != c.times.Load() { // it hung in an outage that is over
		return false, 0
	}
	n := int(c.failures.Add(1))
	if !probe && (c.cfg.Failures == 0 || n < c.cfg.Failures || c.until.Load() != 0) {
		return false, 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !probe && c.until.Load() != 0 {
		return false, 0
	}
	d := backoff(c.cfg.OpenFor, c.cfg.MaxOpen, c.opened)
	c.opened++
	c.until.Store(now + int64(d))
	if probe {
		c.probing.Store(false)
	}
	return true, d
}

// answered takes a probe's answer, which closes the circuit; the next failure
// opens it again, until an exchange has gone well. It returns how often the
// circuit has closed.
func (c *circuit) answered() (times int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures.Store(int32(max(c.cfg.Failures-1, 1))) // not 0, or well would have nothing to forget
	times = c.times.Add(1)
	c.until.Store(0)
	c.probing.Store(false)
	return times
}

// well takes an exchange that went well to its end.
func (c *circuit) well() {
	if c.failures.Load() == 0 || c.until.Load() != 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until.Load() == 0 {
		c.failures.Store(0)
		c.opened = 0
	}
}
