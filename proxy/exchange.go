package proxy

import (
	"encoding/hex"
	"runtime/debug"

	"github.com/valyala/fasthttp"

	"streamrelay/pool"
	"streamrelay/proxy/h1"
	"streamrelay/proxy/peek"
	"streamrelay/telemetry"
)

// exchange is one request and its answer. It is part of the client connection
// and owned by the goroutine that serves it: fasthttp's worker from the head
// to the last byte of the answer, except that the writer carrier and the
// hijack of an HTTP/1.0 stream take it over for the answer's body. begin
// starts it; finish, called exactly once between two begins, ends it.
type exchange struct {
	c   *clientConn
	srv *Server
	ctx *fasthttp.RequestCtx

	active    bool // between begin and finish
	adm       admission
	requestID []byte // the client's own, or idText
	idText    [36]byte
	start     int64
	obs       telemetry.Request

	// The request's body.
	bodyDone func()      // see readingBody; made once, since each one made is an allocation
	held     *pool.Block // where it is held
	heldLen  int64       // what it counts for in limits.max_held
	req      peek.Request
	edits    [2]peek.Edit
	nEdits   int
	scratch  [peek.MaxModel]byte // an alias that needs escapes
	model    [peek.MaxModel]byte // the model's name, for rules and record

	// The attempt.
	up   *pool.Upstream
	cred *pool.Credential
	conn *pool.Conn
	sent int64 // when the request had left

	// The answer.
	head     h1.Answer
	in       *pool.Buffer // bytes from the upstream; nil while nothing is there
	from, to int          // what of in has not been looked at
	ans      answer
	failure  *apiError // what ended the answer early
	counted  bool      // among the active streams
	body     bodyReader
}

// init prepares the exchange of a new connection.
func (x *exchange) init(c *clientConn) {
	x.c, x.srv = c, c.srv
	x.body.x = x
	x.bodyDone = func() { c.bodyIdle = 0 }
}

// begin starts the exchange for ctx's request.
func (x *exchange) begin(ctx *fasthttp.RequestCtx) {
	x.ctx, x.active = ctx, true
	x.start = x.srv.now()
	x.sent, x.nEdits, x.failure = 0, 0, nil
	x.obs = telemetry.Request{
		ID: telemetry.NewID(x.start), Start: x.start,
		Upstream: -1, Credential: -1, Endpoint: endpointOther,
		Method: ctx.Request.Header.Method(), Client: x.c.remote,
		Usage: telemetry.Usage{Input: -1, Output: -1, Cached: -1, CacheWrite: -1, Reasoning: -1},
	}
	x.requestID = formatID(&x.idText, x.obs.ID)
	x.adm = admission{}
	x.ans.reset()
	x.srv.tel.InFlight.Inc()
	flushEach(ctx)
}

// formatID writes id in the form of RFC 9562 §4.
func formatID(dst *[36]byte, id [16]byte) []byte {
	hex.Encode(dst[0:8], id[0:4])
	hex.Encode(dst[9:13], id[4:6])
	hex.Encode(dst[14:18], id[6:8])
	hex.Encode(dst[19:23], id[8:10])
	hex.Encode(dst[24:36], id[10:16])
	dst[8], dst[13], dst[18], dst[23] = '-', '-', '-', '-'
	return dst[:]
}

// adopt takes over what the admission found, for the record and the answer.
func (x *exchange) adopt() {
	a := &x.adm
	if validRequestID(a.head.requestID) {
		x.requestID = a.head.requestID
	}
	x.obs.RequestID = x.requestID
	x.obs.Endpoint = a.target.endpoint
	x.obs.Path = a.target.path
	x.obs.UserAgent = a.head.userAgent
	x.obs.Tenant = a.tenant
	if a.rec != nil {
		x.obs.KeyID = a.rec.ID
	}
}

// relay serves a request that is to be relayed.
func (s *Server) relay(ctx *fasthttp.RequestCtx) {
	x := &ctx.Conn().(*clientConn).x
	defer x.recovered()
	x.begin(ctx)
	err := x.lateCheck()
	if err == nil {
		err = s.admit(&ctx.Request.Header, &x.adm)
	} else {
		_ = x.adm.describe(&ctx.Request.Header)
	}
	x.adopt()
	if err == nil {
		err = x.takeBody()
	}
	if err == nil {
		err = x.choose()
	}
	if err == nil {
		err = x.forward()
	}
	if err == nil {
		err = x.answer()
	}
	if err != nil {
		x.refuse(err)
	}
}

// lateCheck refuses what could not be refused before the body was begun:
// fasthttp asks ExpectHandler for HTTP/1.1 alone, and does not show how the
// request line ended.
func (x *exchange) lateCheck() *apiError {
	h := &x.ctx.Request.Header
	if !h.IsHTTP11() {
		if err := badHead(h); err != nil {
			return err
		}
	}
	if x.c.bareLF {
		return badFraming("The request line does not end in CRLF.")
	}
	if h.ContentLength() == -1 {
		// fasthttp takes chunks that end in more ways than RFC 9112 §7.1
		// knows. So that nobody finds a second request behind them, the
		// connection carries none.
		x.ctx.SetConnectionClose()
	}
	return nil
}

// refuse answers with e where the client is still there, and ends the
// exchange.
func (x *exchange) refuse(e *apiError) {
	x.adopt()
	x.c.corked = false
	if x.c.gone.Load() {
		x.c.mute = true
		x.finish(telemetry.ClientGone, nil)
		return
	}
	writeError(x.ctx, e, x.adm.target.dialect, x.requestID)
	if x.bodyUnread() {
		x.ctx.Response.Header.SetConnectionClose()
		x.c.linger = true
	}
	x.obs.Status = e.status
	x.finish(e.end, e)
}

// bodyUnread reports whether the client may still be sending its request.
func (x *exchange) bodyUnread() bool {
	return x.adm.body != bodyTaken && x.ctx.Request.Header.ContentLength() != 0 && x.ctx.Request.Header.ContentLength() != -2
}

// finish ends the exchange: everything lent goes back, one observation is
// made. e is the relay's own error, nil if there was none.
func (x *exchange) finish(end telemetry.EndReason, e *apiError) {
	if !x.active {
		return
	}
	x.active = false
	now := x.srv.now()
	x.releaseUpstream(now)
	x.releaseBody()
	if x.in != nil {
		x.in.Put()
		x.in = nil
	}
	x.c.bodyIdle = 0
	o := &x.obs
	o.End = end
	o.Duration = now - x.start
	if e != nil {
		o.Error = e.code
		x.srv.countRefusal(e)
	}
	if end == telemetry.ClientGone && o.Status == 0 {
		o.Status = 499 // nginx's number for a client that left; nothing was sent
	}
	x.ans.end(now)
	x.ans.observe(o, x.start)
	x.srv.tel.InFlight.Dec()
	if x.counted {
		x.counted = false
		x.srv.tel.ActiveStreams.Dec()
	}
	x.srv.tel.Observe(o)
	x.ctx = nil
}

// releaseUpstream gives the connection back, or closes it where its answer was
// not read to the end.
func (x *exchange) releaseUpstream(now int64) {
	if x.conn == nil {
		return
	}
	x.c.unwatch()
	if x.ans.reusable() && x.from == x.to && !x.c.gone.Load() {
		x.conn.Release()
	} else {
		x.conn.Discard()
		if at := x.c.goneAt.Load(); at != 0 && !x.ans.over && x.failure == nil {
			x.obs.Cancel = max(x.srv.now()-at, 1)
		}
	}
	x.conn = nil
}

// recovered ends an exchange whose code panicked. It is deferred by whoever
// owns the exchange and recovers on their behalf.
func (x *exchange) recovered() {
	v := recover()
	if v == nil {
		return
	}
	x.panicked(v)
	if x.ctx == nil {
		return
	}
	ctx := x.ctx
	x.c.corked = false
	writeError(ctx, errPanic, x.adm.target.dialect, x.requestID)
	x.obs.Status = errPanic.status
	x.c.linger = true
	x.finish(telemetry.Internal, errPanic)
}

// panicked logs and counts a panic; the process lives on.
func (x *exchange) panicked(v any) {
	x.srv.tel.Panics.Inc()
	x.srv.log.Error().Interface("panic", v).Bytes("request_id", x.requestID).Bytes("stack", debug.Stack()).Msg("BUG: panic while serving a request")
}
