package proxy

import (
	"errors"
	"io"
	"time"

	"streamrelay/pool"
	"streamrelay/proxy/peek"
)

const (
	firstBlock  = 16 << 10 // of a body whose length is not known
	maxPrealloc = 1 << 20  // of a body whose length is only promised
	// A body must be there after so many idle timeouts and the time that it
	// takes at minBodyRate, however steadily it trickles.
	maxBodyIdles = 10
	minBodyRate  = 32 << 10 // bytes/s
)

// takeBody reads a body that is held and looks into it; of a form it takes as
// much as is needed to find the model. After it the model's name is known.
func (x *exchange) takeBody() *apiError {
	switch x.adm.body {
	case bodyHeld:
		err := x.holdBody()
		x.captureRequest()
		if err != nil {
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
	length := x.adm.head.length
	size := int64(firstBlock)
	if length > 0 {
		size = min(length, maxPrealloc)
	}
	if err := x.grow(int(size)); err != nil {
		return err
	}
	x.beginBody()
	for {
		b := x.held.B
		if len(b) == cap(b) && int64(len(b)) != length {
			if err := x.grow(2 * cap(b)); err != nil {
				return err
			}
			continue
		}
		n, err := x.reqBody.Read(b[len(b):cap(b)])
		x.held.B = b[:len(b)+n]
		if int64(len(x.held.B)) > int64(x.set.limits.MaxBody) {
			return errBodyTooBig
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return x.bodyError(err)
		}
		x.bodyCame(len(x.held.B))
	}
	x.obs.BytesIn = int64(len(x.held.B))
	x.ready = x.srv.now()
	return nil
}

// beginBody makes the request's body readable and gives its reads their
// deadlines.
func (x *exchange) beginBody() {
	x.reqBody.begin(x.c, x.adm.head.length, x.adm.head.expect && x.ctx.Request.Header.IsHTTP11())
	x.c.read.idle = x.set.limits.BodyIdleTimeout
	x.bodyCame(0)
}

// bodyCame moves the deadline of the whole body on by what n bytes may take.
func (x *exchange) bodyCame(n int) {
	x.c.read.till = x.start + maxBodyIdles*int64(x.set.limits.BodyIdleTimeout) + int64(n)/minBodyRate*int64(time.Second)
}

// bodyError tells a slow client from a broken body.
func (x *exchange) bodyError(err error) *apiError {
	if x.c.drained.Load() {
		return errDraining
	}
	if isTimeout(err) {
		return errBodyTimeout
	}
	return errBodyBroken
}

// grow makes the held block have room for size bytes, within what all held
// bodies together may take.
func (x *exchange) grow(size int) *apiError {
	if limit := int(x.set.limits.MaxBody) + 1; size > limit {
		size = limit
	}
	fresh := x.srv.buffers.Block(size)
	// What an ordinary request holds is not worth a counter that all share.
	if n := int64(cap(fresh.B)); n > pool.BufferSize {
		add := n - x.heldLen
		if x.srv.tel.HeldBytes.Add(add) > int64(x.set.limits.MaxHeld) {
			x.srv.tel.HeldBytes.Add(-add)
			fresh.Put()
			return errHeld
		}
		x.heldLen = n
	}
	old := x.held
	x.held = fresh
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

// formWindow is how far into a form the model is looked for where nothing but
// the records would say it.
const formWindow = 64 << 10

// window is how far into a form the model is looked for. Some SDKs send the file
// first: where a rule depends on the model, as much is held as of a JSON body.
func (x *exchange) window() int {
	if x.set.routing.byModel || !x.adm.rec.AllowsModel(nil) {
		return int(x.set.limits.MaxBody)
	}
	return formWindow
}

// peekForm reads the start of a form up to its field model. What it read waits
// in the held block to be sent first.
func (x *exchange) peekForm() *apiError {
	x.beginBody()
	boundary, ok := peek.Boundary(x.adm.head.contentType)
	if !ok || !endpoints[x.adm.target.endpoint].model {
		return nil
	}
	if err := x.grow(pool.BufferSize); err != nil {
		return err
	}
	window := x.window()
	for ended := false; ; {
		b := x.held.B
		full := len(b) == cap(b)
		if full || ended || len(b) < formWindow { // each look starts anew
			model, at, found, more := peek.FormModel(b, boundary)
			if found {
				x.formModelAt(model, at)
				if !x.adm.rec.AllowsModel(nil) {
					x.form = peek.NewFormWatch(boundary)
					if !x.form.Feed(b[at+len(model):]) {
						return errTwoModels
					}
				}
			}
			if found || !more || ended || len(b) >= window {
				return nil
			}
		}
		if full {
			if err := x.grow(min(2*cap(b), window)); err != nil {
				return err
			}
			if b = x.held.B; len(b) == cap(b) { // limits.max_body is smaller than the window
				return nil
			}
		}
		n, err := x.reqBody.Read(b[len(b):cap(b)])
		x.held.B = b[:len(b)+n]
		if ended = err == io.EOF; err != nil && !ended {
			return x.bodyError(err)
		}
		x.bodyCame(len(x.held.B))
	}
}

// formModelAt notes the model that a form names, and where.
func (x *exchange) formModelAt(model []byte, at int) {
	x.obs.Model = append(x.model[:0], model...)
	x.formModel = peek.Edit{Off: at, Del: len(model)}
}
