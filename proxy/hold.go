package proxy

import (
	"github.com/valyala/fasthttp"
)

// holdBytes bounds what is kept of a stream whose head is held back: an error
// event is much smaller.
const holdBytes = 64 << 10

// startAnswer prepares for the body of the answer. Of a stream that another
// account could take over, it waits for the first event, at most head_hold:
// until the head has left, an error may still become another attempt, and a
// timeout a real 504. Of a 400 it waits for all.
func (x *exchange) startAnswer() *apiError {
	x.firstFailed = false
	noBody := x.head.NoBody(x.ctx.IsHead())
	ep := &endpoints[x.adm.target.endpoint]
	x.ans.start(&x.head, noBody, x.adm.target.dialect, ep.family,
		&x.up.Timeouts, &x.set.stream, int64(x.set.limits.MaxStream), x.sent, x.srv.now())
	x.ans.output = ep.model && x.ctx.IsPost()
	if (x.learn || ep.later && x.bill == billUsage) && x.head.Status/100 == 2 {
		x.ans.wantIDs()
	}
	if e := x.interpret(noBody); e != nil {
		return e
	}
	hold := x.set.stream.HeadHold
	if hold <= 0 || noBody || x.head.Status != fasthttp.StatusOK || x.ans.kind != kindEvents || x.ans.coded || !x.mayFallBack() {
		return nil
	}
	return x.readEarly(x.srv.now()+int64(hold), x.decided)
}

// readEarly reads what comes of the body before the head leaves, until enough
// says so, until a time (unix ns), or the body's end.
func (x *exchange) readEarly(until int64, enough func() bool) *apiError {
	// What comes is read behind the head, which stands in x.in until it is
	// written.
	behind := x.from
	for readEnd-behind >= 1<<10 {
		if x.till > x.from {
			if e := x.feedEarly(); e != nil {
				return e
			}
		}
		if x.ans.over || x.lateFailure != nil || enough() {
			return nil
		}
		due := x.ans.deadline()
		if due == 0 || until < due {
			due = until
		}
		x.from, x.till = behind, behind
		n, what := x.receive(behind, due)
		switch what {
		case arrivedBytes:
			x.till = behind + n
		case arrivedTime:
			if now := x.srv.now(); now >= until {
				return nil
			} else if _, e := x.ans.expired(now); e != nil {
				return e
			}
		case arrivedEnd:
			if e := x.ans.eof(); e != nil {
				return e
			}
			return nil
		case relayDrains, keyEnded:
			return endedBy(what)
		default:
			return errUpstreamCut
		}
	}
	return nil
}

// mayFallBack reports whether an error as the first event may become another
// attempt.
func (x *exchange) mayFallBack() bool {
	r := x.to.retry
	return r.event && x.pinned == nil && x.obs.Attempts < r.attempts && x.to.candidates.Accounts() > 1 && x.adm.body != bodyStream
}

// feedEarly takes the bytes that came before the head left, and keeps what is
// to be sent. What ends the stream behind its first event is left to the pump.
func (x *exchange) feedEarly() *apiError {
	held, body, used, e := x.ans.feed(x.in.B[x.from:x.till], x.srv.now())
	x.from += used
	x.keepEarly(held)
	x.keepEarly(body)
	if x.ans.kind != kindEvents {
		return e
	}
	x.firstFailed = x.head.Status < 300 && x.ans.events.FirstIsError()
	if e != nil && x.ans.events.Events() > 0 {
		x.lateFailure = e
		return nil
	}
	return e
}

// decided reports whether there is nothing more to hold the head for.
func (x *exchange) decided() bool {
	return x.ans.events.Events() > 0 || x.early != nil && len(x.early.B) >= holdBytes
}

// keepEarly copies b behind what is kept.
func (x *exchange) keepEarly(b []byte) {
	if len(b) == 0 {
		return
	}
	if x.early == nil {
		x.early = x.srv.buffers.Block(max(len(b), 4<<10))
	}
	if need := len(x.early.B) + len(b); need > cap(x.early.B) {
		wider := x.srv.buffers.Block(max(need, 2*cap(x.early.B)))
		wider.B = append(wider.B, x.early.B...)
		x.early.Put()
		x.early = wider
	}
	x.early.B = append(x.early.B, b...)
}

// sendEarly sends what was kept, and reports whether the pump may go on.
func (x *exchange) sendEarly(out outlet) bool {
	if x.early != nil {
		b := x.early
		x.early = nil
		err := out.copy(b.B)
		b.Put()
		if err != nil {
			return false
		}
	}
	if e := x.lateFailure; e != nil {
		x.lateFailure = nil
		return x.fail(out, e)
	}
	return true
}
