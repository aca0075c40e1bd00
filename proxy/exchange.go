package proxy

import (
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"streamrelay/auth/limits"
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

	active     bool // between begin and finish
	adm        admission
	requestID  []byte // the client's own, or idText
	idText     [36]byte
	start      int64
	ready      int64 // when the request was there, its body included
	connecting int64 // ns spent on connections
	obs        telemetry.Request

	// What it may use.
	grant   limits.Grant
	refusal limits.Refusal // why it may not; of Kind None: it may

	// The request's body.
	reqBody   requestBody
	held      *pool.Block // where it is held
	heldLen   int64       // what it counts for in limits.max_held
	req       peek.Request
	edits     [2]peek.Edit
	nEdits    int
	formModel peek.Edit           // the model's place in a form
	form      *peek.FormWatch     // looks for another one, where the key may not use every model; nil: it may
	scratch   [peek.MaxModel]byte // an alias that needs escapes
	model     [peek.MaxModel]byte // the model's name, for rules and record

	// Where it may go, and where it has been.
	set       *settings // those that it began with
	to        destination
	modelHash uint64
	pinned    *pool.Credential // the one account that can answer; nil: any
	learn     bool             // the answer names objects that only the account has
	learnt    int              // how many of them are noted
	tried     pool.Tried
	elsewhere bool         // more than one account was asked
	next      pool.Attempt // chosen, not begun

	// The attempt.
	try  pool.Attempt
	upID [maxUpstreamID]byte // what the provider calls the request
	up   *pool.Upstream
	conn *pool.Conn
	sent int64 // when the request had left

	// The answer.
	head        h1.Answer
	in          *pool.Buffer // bytes from the upstream; nil while nothing is there
	from, till  int          // what of in has not been looked at
	early       *pool.Block  // what is to be sent of a stream whose head was held; nil: nothing
	means       int          // the answer's status for the account, which may be another than the client gets
	withheld    bool         // its text speaks of the credential
	firstFailed bool         // its first event is an error
	lateFailure *apiError    // what ended it behind its first event
	wide        *pool.Block  // where an unusually large head stands; nil: in in
	ans         answer
	failure     *apiError       // what ended the answer early
	counted     bool            // among the active streams
	bill        billing         // whose tokens the answer counts
	booked      bool            // what it owes, or looks at, was found
	owedWork    *work           // what it looks at and has to count; nil: nothing
	more        telemetry.Usage // … of it
	paid        int64           // … by the estimate of its prompt, tokens
	delivered   bool            // all of the answer has been written
	came        int64           // when the bytes came that are to be written next; 0: none wait
	delays      telemetry.Delays
	keptRequest capture // the start of both bodies, where the request log wants them
	keptAnswer  capture
	body        bodyReader
}

// init prepares the exchange of a new connection.
func (x *exchange) init(c *clientConn) {
	x.c, x.srv = c, c.srv
	x.body.x = x
	x.ans.events.Holds = &c.srv.holds
}

// begin starts the exchange for ctx's request. Each struct is emptied by itself,
// and filled by field: what the compiler makes up elsewhere and copies waits at
// the copy for all stores before it.
func (x *exchange) begin(ctx *fasthttp.RequestCtx) {
	x.ctx, x.active = ctx, true
	x.start = x.srv.now()
	wall := time.Now().UnixNano() // for people, who may set it
	x.sent, x.nEdits, x.failure, x.delivered = 0, 0, nil, false
	x.set = x.srv.settings.Load()
	x.firstFailed, x.lateFailure, x.learn, x.learnt, x.elsewhere = false, nil, false, 0, false
	x.formModel = peek.Edit{}
	x.form = nil
	x.came, x.bill, x.booked, x.owedWork, x.paid = 0, billUsage, false, nil, 0
	x.delays = telemetry.Delays{}
	x.keptRequest = capture{}
	x.keptAnswer = capture{}
	x.grant = limits.Grant{}
	x.refusal = limits.Refusal{}
	x.ready, x.connecting = x.start, 0
	x.obs = telemetry.Request{}
	o := &x.obs
	o.ID, o.Start = telemetry.NewID(wall), wall
	o.Upstream, o.Credential, o.Endpoint = -1, -1, endpointOther
	o.Method, o.Client = ctx.Request.Header.Method(), x.c.remote
	u := &o.Usage
	u.Input, u.Output, u.Cached, u.CacheWrite, u.Reasoning = -1, -1, -1, -1, -1
	x.requestID = formatID(&x.idText, x.obs.ID)
	x.adm = admission{}
	x.adm.target.scratch, x.adm.target.endpoint = x.scratch[:0], endpointOther // scratch is used before the alias is
	x.reqBody = requestBody{}
	x.ans.reset()
	x.srv.tel.InFlight.Inc()
}

// wrote notes that what came has been handed to the client's connection, the
// time it takes the client to read it left out.
func (x *exchange) wrote(now int64) {
	if x.came != 0 {
		x.delays.Add(now - x.came)
		x.came = 0
	}
}

// formatID writes id into dst, which holds it for as long as the exchange lasts.
func formatID(dst *[36]byte, id [16]byte) []byte { return telemetry.AppendID(dst[:0], id) }

var otherMethod = []byte("other")

// adopt takes over what the admission found, for the record and the answer.
func (x *exchange) adopt() {
	a := &x.adm
	if validRequestID(a.head.requestID) {
		x.requestID = a.head.requestID
	}
	x.obs.RequestID = x.requestID
	if !knownMethod(x.obs.Method) {
		x.obs.Method = otherMethod // a key may stand anywhere in what is no request
	}
	x.obs.Endpoint = a.target.endpoint
	x.obs.Path = a.target.path
	x.obs.UserAgent = a.head.userAgent
	x.obs.Tenant = a.tenant
	if a.head.traced {
		x.obs.TraceID, x.obs.ParentID = a.head.trace.trace, a.head.trace.parent
	}
	if a.rec != nil {
		x.obs.KeyID = a.rec.ID
	}
}

// handle is fasthttp's handler: fixed routes by the router, the rest to relay.
func (s *Server) handle(fixed fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		c := ctx.Conn().(*clientConn)
		x := &c.x
		defer x.recovered(ctx)
		if s.lame.Load() {
			defer ctx.SetConnectionClose() // the client shall connect anew, to whoever serves then
		}
		if !fixedRoute(ctx.Request.Header.RequestURI()) {
			s.relay(ctx)
			return
		}
		var a admission
		_ = a.describe(&ctx.Request.Header) // for the body's length
		if err := c.checkHead(&ctx.Request.Header); err != nil {
			x.begin(ctx)
			x.adm.head.length = a.head.length
			x.refuse(err)
			return
		}
		fixed(ctx)
		if a.head.hasBody() { // nobody reads it
			ctx.SetConnectionClose()
			c.linger.Store(true)
		}
	}
}

// relay serves a request that is to be relayed.
func (s *Server) relay(ctx *fasthttp.RequestCtx) {
	x := &ctx.Conn().(*clientConn).x
	x.begin(ctx)
	err := x.c.checkHead(&ctx.Request.Header)
	if err != nil {
		_ = x.adm.describe(&ctx.Request.Header) // for the answer's dialect
	} else {
		err = s.admit(&ctx.Request.Header, &x.adm, x.set, x.c.remote)
	}
	x.adopt()
	if x.adm.rec != nil {
		x.wantBodies()
	}
	if err == nil {
		if x.set.endRevoked {
			x.c.holdRecord(x.adm.rec)
		}
		err = x.takeBody()
	}
	if err == nil {
		var listed bool
		if listed, err = x.listModels(); listed {
			return
		}
	}
	if err == nil {
		err = x.plan()
	}
	if err == nil {
		err = x.admitted()
	}
	if err == nil {
		err = x.forward()
	}
	if err == nil && x.c.gone.Load() {
		err = errUpstreamCut // refuse says what it is
	}
	if err == nil {
		err = x.answer()
	}
	if err != nil {
		x.refuse(err)
	}
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
	if x.refusal.Kind != limits.None {
		x.writeHeadroom(&x.ctx.Response.Header)
		x.ctx.Response.Header.Set("Retry-After-Ms", strconv.FormatInt(max(x.refusal.Retry.Milliseconds(), 1), 10))
	}
	if x.elsewhere {
		x.ctx.Response.Header.Set("X-Should-Retry", "false") // others were asked already
	}
	if x.bodyUnread() {
		x.ctx.Response.Header.SetConnectionClose()
		x.c.linger.Store(true)
	}
	x.obs.Status = e.status
	if x.keptAnswer.limit > 0 {
		x.keptAnswer.add(x.srv, int64(x.set.limits.MaxHeld), x.ctx.Response.Body())
	}
	x.finish(e.end, e)
}

// bodyUnread reports whether the client may still be sending its request.
func (x *exchange) bodyUnread() bool {
	return x.adm.head.hasBody() && !(x.reqBody.c != nil && x.reqBody.ended)
}

// codeStalled is the error of a client that did not leave: it was given up,
// having taken nothing for write_idle_timeout.
const codeStalled = "client_stalled"

// finish ends the exchange: everything lent goes back, one observation is
// made. e is the relay's own error, nil if there was none.
func (x *exchange) finish(end telemetry.EndReason, e *apiError) {
	if !x.active {
		return
	}
	x.active = false
	defer x.uncount() // whatever panics
	now := x.srv.now()
	x.releaseUpstream()
	x.releaseBody()
	x.wide.Put()
	x.wide = nil
	x.early.Put()
	x.early = nil
	x.in.Put()
	x.in = nil
	if x.brokeOff(end) {
		x.try.Failed(now, end.String())
	}
	x.try.End(wentWell(end, x.means))
	if x.set.endRevoked {
		x.c.dropRecord()
	}
	x.c.read.idle = 0
	o := &x.obs
	o.Duration = now - x.start
	if e != nil {
		o.Error = e.code
		x.srv.countRefusal(e)
	}
	if end == telemetry.ClientGone && x.c.stalled.Load() {
		if o.Error = codeStalled; x.c.drained.Load() { // slow, and cut short
			end, o.Error = telemetry.Drained, errDraining.code
		}
	}
	if end == telemetry.ClientGone && o.Status == 0 {
		o.Status = 499 // nginx's number for a client that left; nothing was sent
	}
	o.End = end
	x.ans.end(now)
	x.observe()
	if x.delays.N > 0 {
		o.Delays = &x.delays
	}
	x.settle()
	x.showBodies(o)
	maskKeys(o)
	x.srv.tel.Observe(o)
	x.ctx = nil
}

// brokeOff reports whether the upstream failed behind the answer's head, which
// judge could not know of.
func (x *exchange) brokeOff(end telemetry.EndReason) bool {
	switch x.failure {
	case errUpstreamCut, errUpstreamGarbage, errFirstEventTimeout, errIdleTimeout:
		return end == x.failure.end && x.obs.UpstreamStatus < 500 && !x.firstFailed
	}
	return false
}

// wentWell reports whether an exchange says that its account is in order; status
// is what the provider's answer means.
func wentWell(end telemetry.EndReason, status int) bool {
	switch status {
	case 401, 402, 403, 429:
		return false
	}
	return end == telemetry.Completed || end == telemetry.UpstreamStatus && status < 500
}

// uncount takes the exchange, and what it kept, out of what is under way.
func (x *exchange) uncount() {
	x.releaseBodies()
	x.srv.tel.InFlight.Dec()
	if x.counted {
		x.counted = false
		x.srv.tel.ActiveStreams.Dec()
	}
}

// releaseUpstream gives the connection back, or closes it where its answer was
// not read to the end.
func (x *exchange) releaseUpstream() {
	if x.conn == nil {
		return
	}
	x.c.unwatch()
	if x.ans.reusable() && x.from == x.till {
		x.conn.Release()
	} else {
		x.conn.Discard()
		if at := x.c.goneAt.Load(); at != 0 && !x.ans.over && x.failure == nil {
			x.obs.Cancel = max(x.srv.now()-at, 1)
		}
	}
	x.conn = nil
}

// recovered answers a request whose handler panicked and ends its exchange. It
// is deferred by whoever owns the exchange.
func (x *exchange) recovered(ctx *fasthttp.RequestCtx) {
	v := recover()
	if v == nil {
		return
	}
	if !x.active { // a fixed route's: what stands here is of an exchange before
		x.requestID = formatID(&x.idText, telemetry.NewID(time.Now().UnixNano()))
		x.adm = admission{}
	}
	x.panicked(v)
	x.c.corked = false
	x.c.linger.Store(true)
	writeError(ctx, errPanic, x.adm.target.dialect, x.requestID)
	x.obs.Status = errPanic.status
	x.finish(telemetry.Internal, errPanic)
}

// panicked logs and counts a panic; the process lives on.
func (x *exchange) panicked(v any) { x.srv.panicked(v, x.requestID) }

func (s *Server) panicked(v any, requestID []byte) {
	s.tel.Panics.Inc()
	s.log.Error().Str("panic", fmt.Sprint(v)).Bytes("request_id", requestID).Bytes("stack", debug.Stack()).Msg("BUG: panic while serving")
}

// contained is deferred by goroutines that serve no single exchange.
func (s *Server) contained() {
	if v := recover(); v != nil {
		s.panicked(v, nil)
	}
}
