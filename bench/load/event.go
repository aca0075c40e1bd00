package load

import "errors"

// errStale is an answer that was written before its request was due, out of a
// cache, say: none of its times is one of the endpoint's.
var errStale = errors.New("an answer older than its request")

// exactEvent counts a content event of the simulated provider. One that was sent
// before the request, yet within the run, is of an earlier answer; any other time
// that cannot be is of another clock.
func (c *client) exactEvent(sent int64) {
	c.event()
	switch {
	case sent <= c.now && sent >= c.began:
	case sent < c.began && sent >= c.run.began:
		c.stale = true
		return
	default:
		c.run.strange.Store(true)
	}
	if !c.asked.Load().stream {
		return
	}
	// By when it was sent: what is held up until the window has closed belongs to it.
	if s := c.arm.slice(sent); s != nil {
		c.arm.delay.Add(c.now - sent)
		s.delay.Add(c.now - sent)
		if c.run.compared() {
			s.delays.add(c.now - sent)
		}
	}
}

func (c *client) formEvent() { c.event() }

func (c *client) event() {
	c.arm.events.Add(1)
	if c.firstAt == 0 {
		c.firstAt = c.now
		c.arm.begun.Add(1)
		c.arm.open.Add(1)
	} else {
		gap := c.now - c.lastAt
		c.largest = max(c.largest, gap)
		if c.run.touches(c.lastAt, c.now) {
			c.arm.gap.Add(gap)
		}
	}
	c.lastAt = c.now
}
