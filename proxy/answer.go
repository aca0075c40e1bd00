package proxy

import (
	"bytes"
	"time"

	"github.com/valyala/fasthttp"

	"streamrelay/proxy/h1"
)

// answer gives the upstream's answer to the client: the head now, the body by
// the carrier that fits it.
func (x *exchange) answer() *apiError {
	if x.means == fasthttp.StatusForbidden {
		shown, e := x.mayShow()
		if e != nil {
			return e
		}
		x.withheld = !shown
	}
	if x.withheld {
		return errUpstreamAuth
	}
	if x.head.Status/100 == 3 && x.redirected() {
		return errUpstreamRedirect
	}
	ctx := x.ctx
	noBody := x.head.NoBody(ctx.IsHead())
	if x.learn {
		x.remember() // of what was kept while the head was held
	}
	x.obs.Status = x.head.Status
	if x.ans.kind == kindEvents && !noBody {
		x.counted = true
		x.srv.tel.ActiveStreams.Inc()
	}
	x.writeHead()
	if x.bodyUnread() { // the upstream answered without reading on
		ctx.Response.Header.SetConnectionClose()
		x.c.linger.Store(true)
	}
	x.releaseBody() // nothing is sent twice from here on

	length := x.head.ContentLength
	// Of events the relay may take one out or add its own: their length is not known.
	sized := !x.head.Chunked && length >= 0 && (x.ans.kind != kindEvents || x.ans.coded)
	switch {
	case noBody:
		if ctx.IsHead() && length >= 0 {
			ctx.Response.Header.SetContentLength(int(length))
		}
		x.finish(x.ans.reason(x.head.Status, nil, false), nil)
	case sized:
		x.body.sized = true
		ctx.Response.ImmediateHeaderFlush = true
		x.c.corked = true
		ctx.Response.SetBodyStream(&x.body, int(length))
	case !ctx.Request.Header.IsHTTP11():
		// HTTP/1.0 knows no chunks: the close ends the body (RFC 9112 §7).
		ctx.Response.Header.SetContentLength(-2)
		ctx.HijackSetNoResponse(true)
		ctx.Hijack(x.closeDelimited)
	case x.set.stream.Carrier == "writer":
		x.detach()
		ctx.Response.ImmediateHeaderFlush = true
		ctx.Response.SetBodyStream(x.newWriterCarrier(), -1)
	default:
		x.body.sized = false
		ctx.Response.ImmediateHeaderFlush = true
		x.c.corked = true
		ctx.Response.SetBodyStream(&x.body, -1)
	}
	return nil
}

// redirected reports whether the upstream wants the request at another address.
// The SDKs would go there by themselves, past the relay, with the prompt and,
// where it does not stand in Authorization, the relay's key. What asks for an
// object alone may go: providers keep files elsewhere.
func (x *exchange) redirected() bool {
	if x.ctx.IsGet() || x.ctx.IsHead() {
		return false
	}
	for f := h1.NewFields(x.head.Block); f.Next(); {
		if h1.EqualFold(f.Name, "location") {
			to, _, _ := bytes.Cut(f.Value, []byte{'?'}) // what follows may be a secret
			x.srv.log.WarnEvery("redirect "+x.up.Name, 10*time.Second).Str("upstream", x.up.Name).Int("status", x.head.Status).
				Bytes("location", to).Msg("upstream redirects: set base_url to the address where its API is")
			return true
		}
	}
	return false
}

// writeHead puts the answer's head into fasthttp's.
func (x *exchange) writeHead() {
	res := &x.ctx.Response
	res.SetStatusCode(x.head.Status)
	h := &res.Header
	stream := x.ans.kind == kindEvents
	for f := h1.NewFields(x.head.Block); f.Next(); {
		switch classifyAnswer(f.Name) {
		case fieldPass:
		case fieldContentType:
			h.SetContentTypeBytes(f.Value)
			continue
		case fieldCacheControl:
			if stream {
				continue
			}
		case fieldUpstreamID:
			h.AddBytesV("X-Upstream-Request-Id", f.Value)
			continue
		default:
			continue
		}
		if x.head.HopByHop(f.Name) {
			continue
		}
		h.AddBytesKV(f.Name, f.Value)
	}
	h.SetBytesV("X-Request-Id", x.requestID)
	x.writeHeadroom(h)
	if stream {
		// Or a proxy in front keeps the events until the end.
		h.Set("Cache-Control", "no-cache, no-transform")
		h.Set("X-Accel-Buffering", "no")
	}
	if x.elsewhere && x.to.retry.covers(x.head.Status) {
		h.Set("X-Should-Retry", "false") // others were asked already
	}
	if x.head.Status == fasthttp.StatusTooManyRequests && len(x.head.RetryAfter) == 0 {
		h.Set("Retry-After", "1") // without it SDKs try again after half of that
	}
}
