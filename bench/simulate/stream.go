package simulate

import (
	"net/http"
	"strconv"
	"time"
)

// Phases of an answer in which a client can leave.
const (
	beforeHead = "before_head" // of a stream or an error
	midStream  = "mid_stream"
	nonStream  = "non_stream"
)

// stream answers with content events at their times. It reports whether the
// connection goes on.
func (c *conn) stream() bool {
	c.p.stats.streams.Add(1)
	c.p.stats.open.Add(1)
	defer c.p.stats.open.Add(-1)
	a, s := &c.answer, c.head.route.shape
	p := &a.profile
	first := c.started.Add(c.ttft())
	opens := first
	if p.Head > 0 && p.Head < p.TTFT {
		opens = c.started.Add(p.Head)
	}
	if !c.wait(opens) {
		return c.cancelled(beforeHead)
	}
	if ended := c.reached(BeforeHead, beforeHead); ended {
		return false
	}
	c.startHead(200, s.contentType)
	c.endHead(-1)
	c.event = s.open(c.event[:0], a)
	c.frame()
	if !p.OneWrite && !c.flush() {
		return c.cancelled(midStream)
	}
	if !c.wait(first) {
		return c.cancelled(midStream)
	}
	if !c.content(first) {
		return false
	}
	if p.Hold > 0 {
		if len(c.out) > 0 && !c.flush() || !c.wait(time.Now().Add(p.Hold)) {
			return c.cancelled(midStream)
		}
	}
	c.event = s.end(c.event[:0], a)
	if !p.NoDone {
		c.event = s.done(c.event, a)
	}
	c.frame()
	if !c.head.http10 {
		c.out = append(c.out, "0\r\n\r\n"...)
	}
	if !c.flush() {
		return c.cancelled(midStream)
	}
	return !c.head.close
}

// content sends the content events, the first at due. It returns false when
// the answer has ended in any way.
func (c *conn) content(due time.Time) bool {
	a, s := &c.answer, c.head.route.shape
	p := &a.profile
	sent := 0
	defer func() { c.p.stats.events.Add(int64(sent)) }()
	for i := range p.Events {
		if c.reached(After(i), midStream) {
			return false
		}
		if i > 0 && !p.Burst && !p.OneWrite && (p.Gap > 0 || p.Jitter > 0) {
			due = due.Add(c.gap())
			if !c.wait(due) {
				return c.cancelled(midStream)
			}
		}
		if After(i) == p.Drop {
			continue
		}
		c.event = s.content(c.event[:0], a, i, Now())
		if After(i) == p.Alter {
			c.event[min(8, len(c.event)-1)] ^= 1 // in a name: the event stays well formed, and its send time whole
		}
		c.frame()
		if !p.OneWrite && !c.flush() {
			return c.cancelled(midStream)
		}
		sent++
	}
	return !c.reached(After(p.Events), midStream)
}

// takes is how long a JSON answer is made: in a trace, what its stream takes to
// the last content event.
func (c *conn) takes() time.Duration {
	p := &c.answer.profile
	d := c.ttft()
	switch {
	case !c.head.route.timed:
	case p.Dist == Traced:
		for range p.Events - 1 {
			d += c.gap()
		}
	default:
		d += time.Duration(p.Events) * p.Gap
	}
	return d
}

// whole answers with one JSON body.
func (c *conn) whole() bool {
	r := &c.head.route
	p := &c.answer.profile
	if !c.wait(c.started.Add(c.takes())) {
		return c.cancelled(nonStream)
	}
	if c.reached(BeforeHead, nonStream) {
		return false
	}
	c.event = c.event[:0]
	if r.array {
		c.event = append(c.event, '[')
	}
	c.event = r.shape.json(c.event, &c.answer, Now())
	if r.array {
		c.event = append(c.event, ']')
	}
	c.startHead(200, "application/json")
	c.endHead(len(c.event))
	if p.Stall != 0 || p.Cut != 0 || p.Fail != 0 {
		// A point after n events is a point inside the body.
		c.out = append(c.out, c.event[:len(c.event)/2]...)
		if !c.flush() || p.Stall == 0 {
			return c.cut()
		}
		c.wait(time.Now().Add(maxDuration))
		return c.cancelled(nonStream)
	}
	c.out = append(c.out, c.event...)
	if !c.flush() {
		return c.cancelled(nonStream)
	}
	return !c.head.close
}

// reached does what the profile asks for at a point and reports whether that
// ended the answer.
func (c *conn) reached(at Point, phase string) bool {
	p := &c.answer.profile
	switch at {
	case p.Stall:
		if len(c.out) > 0 && !c.flush() || !c.wait(time.Now().Add(maxDuration)) {
			c.cancelled(phase)
		}
		return true
	case p.Cut, p.Fail:
		if at == p.Fail && at != BeforeHead {
			c.event = c.event[:0]
			if fail := c.head.route.shape.fail; fail != nil {
				c.event = fail(c.event)
			}
			c.frame()
		}
		if len(c.out) > 0 {
			c.flush()
		}
		c.cut()
		return true
	}
	return false
}

// problem answers with an error in the route's dialect.
func (c *conn) problem(status int, message string) bool {
	c.p.stats.errors.Add(1)
	s := c.head.route.shape
	openai, anthropic, gemini := kindOf(status)
	kind := openai
	switch s {
	case &messagesShape, &countTokensShape:
		kind = anthropic
	case &geminiShape:
		kind = gemini
	}
	quoted := quote(message)
	c.event = s.problem(c.event[:0], status, kind, quoted[1:len(quoted)-1])
	c.startHead(status, "application/json")
	if retry := c.answer.profile.Retry; retry > 0 {
		c.out = append(c.out, "Retry-After: "...)
		c.out = appendInt(c.out, retry)
		c.out = append(c.out, "\r\n"...)
	}
	c.endHead(len(c.event))
	c.out = append(c.out, c.event...)
	return c.flush() && !c.head.close
}

// startHead appends an answer's head up to the headers that only some have.
func (c *conn) startHead(status int, contentType string) {
	c.out = append(c.out, "HTTP/1.1 "...)
	c.out = appendInt(c.out, status)
	c.out = append(c.out, ' ')
	c.out = append(c.out, http.StatusText(status)...)
	c.out = append(c.out, "\r\nContent-Type: "...)
	c.out = append(c.out, contentType...)
	c.out = append(c.out, "\r\nX-Request-Id: req_"...)
	c.out = append(c.out, c.answer.id...)
	c.out = append(c.out, "\r\n"...)
}

// endHead appends the framing of a body of length bytes, -1: a stream.
func (c *conn) endHead(length int) {
	if c.head.close {
		c.out = append(c.out, "Connection: close\r\n"...)
	}
	switch {
	case length >= 0:
		c.out = append(c.out, "Content-Length: "...)
		c.out = appendInt(c.out, length)
		c.out = append(c.out, "\r\n\r\n"...)
	case c.head.http10:
		c.out = append(c.out, "\r\n"...)
	default:
		c.out = append(c.out, "Transfer-Encoding: chunked\r\n\r\n"...)
	}
}

// frame appends c.event to what goes out, as a chunk where the client takes
// them. An empty one would be the last chunk, so it is left out.
func (c *conn) frame() {
	if len(c.event) == 0 {
		return
	}
	if c.head.http10 {
		c.out = append(c.out, c.event...)
		return
	}
	c.out = strconv.AppendInt(c.out, int64(len(c.event)), 16)
	c.out = append(c.out, "\r\n"...)
	c.out = append(c.out, c.event...)
	c.out = append(c.out, "\r\n"...)
}
