package watch

import "sync"

// maxHold bounds the bytes of one event that are kept back; the event that
// include_usage adds is a few hundred.
const maxHold = 64 << 10

// strip is what Stream keeps between calls to take an event out.
type strip struct {
	on     bool
	maybe  bool // the open event may still be the one
	dropLF bool // a removed event ended in CR, an LF now belongs to it
	size   int  // bytes of the open event in earlier calls
	hold   hold // the event's bytes kept back
	lent   hold // what the last call returned
}

// begin starts an event at its first field; comments before it have passed.
func (t *strip) begin() { t.maybe, t.size = true, 0 }

// release hands the held bytes out and keeps nothing more of the open event.
func (t *strip) release() []byte {
	t.maybe = false
	t.lent, t.hold = t.hold, hold{}
	return t.lent.bytes()
}

// A cutter gathers what is left of one read: p[base:w] is kept, p[from:] is
// undecided.
type cutter struct {
	p             []byte
	base, w, from int
	event         int // where the open event begins, 0 if before p
	held          []byte
}

func (c *cutter) begin(i int) { c.event = i }

// keep moves p[from:to] to the kept bytes.
func (c *cutter) keep(to int) {
	if c.w == c.base {
		c.base, c.w = c.from, to
	} else if c.from == c.w {
		c.w = to
	} else {
		c.w += copy(c.p[c.w:], c.p[c.from:to])
	}
	c.from = to
}

// usageOnly reports whether the open event, were it complete, is the one to be
// taken out.
func (s *Stream) usageOnly() bool {
	return s.strip.maybe && s.strip.size <= maxHold && s.json.state == ended &&
		s.json.doc.usageOnly() && s.lines.event() != kindError
}

// cut decides on the event whose empty line stands at p[end:after].
func (s *Stream) cut(c *cutter, end, after int) {
	t := &s.strip
	t.size += end + 1 - c.event
	t.dropLF = false
	switch {
	case s.usageOnly():
		if t.hold.n > 0 {
			s.Holds.put(&t.hold)
		} else {
			c.keep(c.event)
		}
		if s.lines.comment {
			c.from = end // it closes the block of the comments that have passed
		} else {
			c.from = after
			t.dropLF = s.lines.cr
		}
	case t.hold.n > 0:
		c.held = t.release()
	}
	t.maybe = false
	c.event = 0
}

// finish keeps back the open event while it may be the one, and returns what
// may be sent.
func (s *Stream) finish(c *cutter) (held, out []byte) {
	t := &s.strip
	if t.maybe {
		t.size += len(c.p) - c.event
		if t.size <= maxHold && s.json.doc.marks&notUsage == 0 {
			if t.hold.n == 0 {
				c.keep(c.event)
			}
			t.hold.add(s.Holds, c.p[c.event:])
			return c.held, c.p[c.base:c.w]
		}
		if t.maybe = false; t.hold.n > 0 {
			c.held = t.release()
		}
	}
	c.keep(len(c.p))
	return c.held, c.p[c.base:c.w]
}

// hold is a pooled buffer of up to maxHold bytes; n is 0 when it has none. It
// begins small, since what is held is nearly always a part of one chunk.
type hold struct {
	n     int
	small *[smallHold]byte
	large *[maxHold]byte
}

const smallHold = 4 << 10

// Holds lends the buffers in which Streams keep events back. The zero value is
// ready; safe for concurrent use.
type Holds struct {
	small sync.Pool // *[smallHold]byte
	large sync.Pool // *[maxHold]byte
}

// getSmall and getLarge allocate where there are no Holds.
func (p *Holds) getSmall() *[smallHold]byte {
	if p != nil {
		if b, ok := p.small.Get().(*[smallHold]byte); ok {
			return b
		}
	}
	return new([smallHold]byte)
}

func (p *Holds) getLarge() *[maxHold]byte {
	if p != nil {
		if b, ok := p.large.Get().(*[maxHold]byte); ok {
			return b
		}
	}
	return new([maxHold]byte)
}

// put takes back what h has, if anything, and empties it.
func (p *Holds) put(h *hold) {
	if p != nil && h.small != nil {
		p.small.Put(h.small)
	}
	if p != nil && h.large != nil {
		p.large.Put(h.large)
	}
	*h = hold{}
}

// add appends b, of which there is at least a byte and at most the rest of maxHold.
func (h *hold) add(p *Holds, b []byte) {
	if h.large == nil && h.n+len(b) > len(h.small) {
		large := p.getLarge()
		n := copy(large[:], h.bytes())
		p.put(h)
		h.large, h.n = large, n
	}
	if h.large == nil && h.small == nil {
		h.small = p.getSmall()
	}
	if h.large != nil {
		h.n += copy(h.large[h.n:], b)
	} else {
		h.n += copy(h.small[h.n:], b)
	}
}

func (h *hold) bytes() []byte {
	if h.large != nil {
		return h.large[:h.n]
	}
	if h.small != nil {
		return h.small[:h.n]
	}
	return nil
}
