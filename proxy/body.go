package proxy

import (
	"errors"
	"io"
	"time"

	"streamrelay/pool"
	"streamrelay/proxy/h1"
	"streamrelay/proxy/peek"
	"streamrelay/telemetry"
)

// bodyTaken: the body has been read to its end.
const bodyTaken bodyPlan = 255

const (
	firstBlock  = 16 << 10 // of a body whose length is not known
	maxPrealloc = 1 << 20  // of a body whose length is only promised
	// A held body must be there after so many idle timeouts, however steadily
	// it trickles.
	maxBodyIdles = 10
)

// takeBody reads a body that is held and looks into it; of a form it takes as
// much as is needed to find the model. After it the model's name is known.
func (x *exchange) takeBody() *apiError {
	switch x.adm.body {
	case bodyHeld:
		if err := x.holdBody(); err != nil {
			return err
		}
		if err := x.req.Parse(x.held.B); err != nil {
			var p *peek.Error
			if errors.As(err, &p) {
				e := badRequest(p.Code, p.Message)
				e.param = p.Param
				return e
			}
			return badRequest("invalid_json", "The request body is not JSON.")
		}
		x.obs.Model = append(x.model[:0], x.req.Model...) // the body is given back before the record is made
		x.obs.Stream = x.req.Stream
	case bodyStream:
		return x.peekForm()
	}
	return nil
}

// holdBody reads the whole body into one block.
func (x *exchange) holdBody() *apiError {
	length := x.ctx.Request.Header.ContentLength()
	size := firstBlock
	if length > 0 {
		size = min(length+1, maxPrealloc) // one more, to see the end without growing
	}
	if err := x.grow(size); err != nil {
		return err
	}
	r := x.ctx.RequestBodyStream()
	if r == nil {
		return errBodyBroken
	}
	idle := x.srv.limits.BodyIdleTimeout
	x.c.bodyIdle = idle
	defer func() { x.c.bodyIdle = 0 }()
	until := x.start + int64(maxBodyIdles*idle)
	for {
		b := x.held.B
		if len(b) == cap(b) {
			if length >= 0 && len(b) >= length {
				// Full and whole: ask once more for the end alone.
				if n, err := r.Read(x.scratch[:1]); n != 0 || err != io.EOF {
					return x.bodyError(err)
				}
				break
			}
			if err := x.grow(2 * cap(b)); err != nil {
				return err
			}
			continue
		}
		n, err := r.Read(b[len(b):cap(b)])
		x.held.B = b[:len(b)+n]
		if int64(len(x.held.B)) > int64(x.srv.limits.MaxBody) {
			return errBodyTooBig
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return x.bodyError(err)
		}
		if idle > 0 && x.srv.now() > until {
			return errBodyTimeout
		}
	}
	if length >= 0 && len(x.held.B) != length {
		return errBodyBroken
	}
	x.obs.BytesIn = int64(len(x.held.B))
	x.adm.body = bodyTaken
	return nil
}

// bodyError tells a slow client from a broken body.
func (x *exchange) bodyError(err error) *apiError {
	var t interface{ Timeout() bool }
	if errors.As(err, &t) && t.Timeout() {
		return errBodyTimeout
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		x.c.clientGone()
	}
	return errBodyBroken
}

// grow makes the held block have room for size bytes, within what all held
// bodies together may take.
func (x *exchange) grow(size int) *apiError {
	if limit := int(x.srv.limits.MaxBody) + 1; size > limit {
		size = limit
	}
	// What an ordinary request holds is not worth a counter that all share.
	if size > pool.BufferSize {
		add := int64(size) - x.heldLen
		if x.srv.tel.HeldBytes.Add(add) > int64(x.srv.limits.MaxHeld) {
			x.srv.tel.HeldBytes.Add(-add)
			return errHeld
		}
		x.heldLen += add
	}
	old := x.held
	x.held = x.srv.buffers.Block(size)
	if old != nil {
		x.held.B = append(x.held.B, old.B...)
		old.Put()
	}
	return nil
}

// releaseBody gives the held body back.
func (x *exchange) releaseBody() {
	x.held.Put()
	x.held = nil
	if x.heldLen != 0 {
		x.srv.tel.HeldBytes.Add(-x.heldLen)
		x.heldLen = 0
	}
}

// formWindow is how far into a form the model is looked for.
const formWindow = 64 << 10

// peekForm reads the start of a form up to its field model. What it read waits
// in the held block to be sent first.
func (x *exchange) peekForm() *apiError {
	boundary, ok := peek.Boundary(x.adm.head.contentType)
	if !ok {
		return nil
	}
	if err := x.grow(pool.BufferSize); err != nil {
		return err
	}
	x.c.bodyIdle = x.srv.limits.BodyIdleTimeout
	defer func() { x.c.bodyIdle = 0 }()
	r := x.ctx.RequestBodyStream()
	if r == nil {
		return errBodyBroken
	}
	for {
		model, found, more := peek.FormModel(x.held.B, boundary)
		if found {
			x.obs.Model = append(x.model[:0], model...)
			return nil
		}
		if !more || len(x.held.B) >= formWindow {
			return nil
		}
		if len(x.held.B) == cap(x.held.B) {
			if err := x.grow(min(2*cap(x.held.B), formWindow)); err != nil {
				return err
			}
		}
		b := x.held.B
		n, err := r.Read(b[len(b):cap(b)])
		x.held.B = b[:len(b)+n]
		if err == io.EOF {
			model, found, _ := peek.FormModel(x.held.B, boundary)
			if found {
				x.obs.Model = append(x.model[:0], model...)
			}
			return nil
		}
		if err != nil {
			return x.bodyError(err)
		}
	}
}

// uploadBody sends a streamed body to the upstream as it comes: what peekForm
// read first, then the rest. chunked says that the client gave no length.
func (x *exchange) uploadBody(chunked bool) *apiError {
	x.c.bodyIdle = x.srv.limits.BodyIdleTimeout
	defer func() { x.c.bodyIdle = 0 }()
	if x.held != nil && len(x.held.B) > 0 {
		if err := x.uploadPiece(x.held.B, chunked); err != nil {
			return err
		}
	}
	x.releaseBody()
	buf := x.srv.buffers.Get()
	defer buf.Put()
	r := x.ctx.RequestBodyStream()
	if r == nil {
		return errBodyBroken
	}
	for {
		n, err := r.Read(buf.B[h1.ChunkRoom : pool.BufferSize-2])
		if n > 0 {
			from, to := h1.ChunkRoom, h1.ChunkRoom+n
			if chunked {
				from, to = h1.Frame(buf.B[:], from, to)
			}
			if e := x.upload(buf.B[from:to], n); e != nil {
				return e
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return x.bodyError(err)
		}
	}
	x.adm.body = bodyTaken
	if chunked {
		return x.upload(lastChunk, 0)
	}
	if length := x.ctx.Request.Header.ContentLength(); int64(length) != x.obs.BytesIn {
		return errBodyBroken
	}
	return nil
}

var lastChunk = []byte("0\r\n\r\n")

// uploadPiece sends bytes that stand in a block, which has no room for framing.
func (x *exchange) uploadPiece(p []byte, chunked bool) *apiError {
	if !chunked {
		return x.upload(p, len(p))
	}
	var frame [h1.ChunkRoom]byte
	if e := x.upload(frame[h1.FrameHead(frame[:], len(p)):], 0); e != nil {
		return e
	}
	if e := x.upload(p, len(p)); e != nil {
		return e
	}
	return x.upload(crlf, 0)
}

var crlf = []byte("\r\n")

// upload writes p, which carries n bytes of the body.
func (x *exchange) upload(p []byte, n int) *apiError {
	x.obs.BytesIn += int64(n)
	if x.obs.BytesIn > int64(x.srv.limits.MaxUpload) {
		return errBodyTooBig
	}
	if err := x.conn.WriteBy(x.srv.now(), uploadPatience(x.up.Timeouts.Head)); err != nil {
		return errUpstreamCut
	}
	if _, err := x.conn.Write(p); err != nil {
		if x.c.gone.Load() {
			return errUpstreamCut // refuse will see that the client is gone
		}
		return errStoppedReading
	}
	return nil
}

// uploadPatience is how long an upstream may take nothing of a request.
func uploadPatience(head time.Duration) time.Duration {
	if head <= 0 {
		return time.Minute
	}
	return head
}

// errStoppedReading marks an upstream that takes no more of the request; it
// may have answered already, which is looked for.
var errStoppedReading = &apiError{status: 502, typ: "api_error", code: "upstream_error", end: telemetry.UpstreamCut, retry: "false",
	message: "The upstream stopped reading the request."}
