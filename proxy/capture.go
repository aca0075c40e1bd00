package proxy

import (
	"streamrelay/pool"
	"streamrelay/telemetry"
)

// capture keeps the first bytes of one body for the request log, in blocks that
// count for limits.max_held, of whose last half they take nothing: the log must
// not be what a request is refused for. Where they have no room, less is kept.
// The zero value keeps nothing.
type capture struct {
	limit   int
	block   *pool.Block
	counted int64
}

// firstCapture is what a body is given at first; it doubles as the body grows.
const firstCapture = 4 << 10

// want makes the capture keep up to limit bytes.
func (c *capture) want(limit int) { c.limit = limit }

// add keeps what of b is within the limit.
func (c *capture) add(s *Server, maxHeld int64, b []byte) {
	have := 0
	if c.block != nil {
		have = len(c.block.B)
	}
	b = b[:min(len(b), c.limit-have)]
	if len(b) == 0 {
		return
	}
	if c.block == nil || have+len(b) > cap(c.block.B) {
		if !c.grow(s, maxHeld, have+len(b)) {
			c.limit = have // what follows would leave a hole
			return
		}
	}
	c.block.B = append(c.block.B, b...)
}

// grow makes room for size bytes, and reports false where there is none.
func (c *capture) grow(s *Server, maxHeld int64, size int) bool {
	if c.block != nil {
		size = max(size, 2*cap(c.block.B))
	}
	fresh := s.buffers.Block(min(max(size, firstCapture), c.limit))
	more := int64(cap(fresh.B)) - c.counted
	if s.tel.HeldBytes.Add(more) > maxHeld/2 {
		s.tel.HeldBytes.Add(-more)
		fresh.Put()
		return false
	}
	c.counted += more
	if c.block != nil {
		fresh.B = append(fresh.B, c.block.B...)
		c.block.Put()
	}
	c.block = fresh
	return true
}

// bytes is what was kept, nil for nothing. It is the capture's.
func (c *capture) bytes() []byte {
	if c.block == nil {
		return nil
	}
	return c.block.B
}

// release gives back what was kept.
func (c *capture) release(s *Server) {
	c.block.Put()
	s.tel.HeldBytes.Add(-c.counted)
	*c = capture{}
}

// wantBodies makes the exchange keep its bodies where the request log wants
// those of its tenant.
func (x *exchange) wantBodies() {
	limit := x.set.cfg.RequestLog.CapturesBody(x.adm.tenant)
	x.keptRequest.want(limit)
	x.keptAnswer.want(limit)
}

// captureRequest keeps the start of the request's body as the client sent it.
// Bodies that are passed through as they come, which are files, are not kept.
func (x *exchange) captureRequest() {
	if x.keptRequest.limit > 0 && x.held != nil {
		x.keptRequest.add(x.srv, int64(x.set.limits.MaxHeld), x.held.B)
	}
}

// captureAnswer keeps b of an answer that can be read: JSON and events.
func (x *exchange) captureAnswer(b []byte) {
	if x.keptAnswer.limit > 0 && x.ans.kind != kindOpaque && !x.ans.coded {
		x.keptAnswer.add(x.srv, int64(x.set.limits.MaxHeld), b)
	}
}

// showBodies lends what was kept to o, until releaseBodies.
func (x *exchange) showBodies(o *telemetry.Request) {
	o.RequestBody, o.AnswerBody = x.keptRequest.bytes(), x.keptAnswer.bytes()
}

func (x *exchange) releaseBodies() {
	if x.keptRequest.block != nil {
		x.keptRequest.release(x.srv)
	}
	if x.keptAnswer.block != nil {
		x.keptAnswer.release(x.srv)
	}
}
