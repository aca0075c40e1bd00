package proxy

import (
	"errors"
	"net"
	"strconv"
	"time"

	"streamrelay/pool"
	"streamrelay/telemetry"
)

// maxStale bounds how many idle connections may turn out to be dead.
const maxStale = 3

// forward sends the request to an account of those that plan found and reads
// the head of its answer; of a stream that another account could take over, up
// to its first event. Where an attempt fails it makes another one, by the
// rules of judge. When it returns nil the answer is to be given to the client:
// a good one, or the last failure as its upstream put it.
func (x *exchange) forward() *apiError {
	x.srv.budget.deposit()
	if e := x.firstAttempt(); e != nil {
		return e
	}
	for {
		e := x.attempt()
		if e == nil {
			e = x.startAnswer()
		}
		if !x.judge(e) {
			return e
		}
	}
}

// firstAttempt chooses who is asked first.
func (x *exchange) firstAttempt() *apiError {
	now := x.srv.now()
	x.tried, x.elsewhere = pool.Tried{}, false
	if x.pinned != nil {
		x.next.Pin(x.pinned, now)
	} else if !x.to.candidates.Choose(&x.next, &x.tried, x.modelHash, now) {
		e := *errNoneReady
		e.retryAfter = int(min(x.to.candidates.ReadyIn(x.modelHash, now)+time.Second-1, time.Minute) / time.Second)
		e.retryAfter = max(e.retryAfter, 1)
		return &e
	}
	x.obs.Attempts = 0
	x.advance()
	return nil
}

// advance makes the attempt that was chosen the current one.
func (x *exchange) advance() {
	x.try, x.next = x.next, pool.Attempt{}
	x.up = x.try.Upstream
	x.obs.Attempts++
	x.obs.Upstream, x.obs.Credential = x.up.Index, x.try.Index
	x.obs.UpstreamHead, x.obs.UpstreamStatus, x.obs.Failure = 0, 0, telemetry.FailureNone
	x.obs.UpstreamRequestID = nil
	x.sent, x.means = 0, 0
	x.ans.reset()
	x.ans.begin(&x.up.Timeouts, x.start)
	x.prepareBody()
}

// attempt sends the request and reads the head of the answer. Only a
// connection that took no byte is replaced here.
func (x *exchange) attempt() *apiError {
	for stale := 0; ; stale++ {
		if err := x.connect(); err != nil {
			return err
		}
		again, err := x.sendRequest()
		if err == nil {
			break
		}
		if !again || stale == maxStale {
			if err == errStoppedReading {
				// A part of the request is owed, which the next one's bytes would
				// be taken for: the connection carries no other.
				x.conn.StopWriting()
				e := x.readHead()
				if e == nil || e == errTotalTimeout {
					return e // it answered instead of reading on, or its time is up
				}
			}
			return err
		}
		x.c.unwatch()
		x.conn.Discard()
		x.conn = nil
	}
	return x.readHead()
}

// connect acquires the connection and makes it the one that the client's
// leaving interrupts.
func (x *exchange) connect() *apiError {
	before := x.srv.now()
	if t := x.ans.total; t > 0 && before >= t {
		return errTotalTimeout
	}
	conn, err := x.up.Acquire()
	x.connecting += x.srv.now() - before
	if err != nil {
		return x.noConnection(err)
	}
	x.conn = conn
	if !x.c.watch(conn) {
		if e := endedBy(x.interrupted()); e != nil {
			return e
		}
		return errUpstreamCut // the client left meanwhile: refuse says what it is
	}
	return nil
}

// noConnection says what err, of Acquire, means.
func (x *exchange) noConnection(err error) *apiError {
	if e := endedBy(x.interrupted()); e != nil {
		return e
	}
	if errors.Is(err, pool.ErrBusy) {
		x.obs.Failure = telemetry.FailureBusy
		return errUpstreamBusy
	}
	e := errUpstreamConnect
	var t interface{ Timeout() bool }
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		x.obs.Failure = telemetry.FailureDNS
	case errors.As(err, &t) && t.Timeout():
		x.obs.Failure, e = telemetry.FailureTimeoutConnect, errConnectTimeout
	case errors.Is(err, pool.ErrHandshake):
		x.obs.Failure = telemetry.FailureTLS
	default:
		x.obs.Failure = telemetry.FailureConnect
	}
	event := x.srv.log.WarnEvery("connect "+x.up.Name, 10*time.Second).Err(err).Str("upstream", x.up.Name)
	if hint := pool.Hint(err); hint != "" {
		event = event.Str("hint", hint)
	}
	event.Msg("connect to upstream")
	return e
}

// judge tells the pool how the attempt went so far, and whether another one
// follows, which then is the current one. e is what ended it, nil where there
// is an answer for the client.
//
// No account is given a request twice, unless nothing of it had left or the
// account answered 429 or 503 and the time that it asked for has passed.
// Nothing is tried again once a byte may have gone to the client, nor when a
// body that was not held has begun to leave.
func (x *exchange) judge(e *apiError) bool {
	if x.interrupted() != arrivedBytes {
		return false
	}
	v := x.assess(e)
	if !v.again || x.obs.Attempts >= x.to.retry.attempts || v.sent && x.adm.body == bodyStream {
		return false
	}
	if t := x.ans.total; t > 0 && x.srv.now() >= t {
		return false
	}
	if !x.srv.budget.withdraw() {
		x.srv.retriesDenied.Add(1)
		return false
	}
	again := x.tried.Has(x.try.Credential)
	x.tried.Add(x.try.Credential)
	if !x.chooseNext(v, again) {
		x.srv.budget.refund()
		return false
	}
	x.obs.Tries[x.obs.Attempts-1] = telemetry.Try{
		Upstream: int16(x.up.Index), Credential: int16(x.try.Index), Status: uint16(x.obs.UpstreamStatus), Failure: v.failure,
	}
	x.srv.tel.Retried(x.up.Index, v.failure)
	x.elsewhere = x.elsewhere || x.next.Credential != x.try.Credential
	x.abandon()
	x.advance()
	return true
}

// verdict is what an attempt came to.
type verdict struct {
	again   bool // the policy allows another one
	sent    bool // the account got some of the request
	same    bool // the account itself may be asked again at once: it got nothing
	busy    bool // the account did nothing and may be asked again after wait
	wait    time.Duration
	failure telemetry.UpstreamFailure
}

// assess tells the pool what became of the attempt.
func (x *exchange) assess(e *apiError) verdict {
	now := x.srv.now()
	v := verdict{sent: x.sent != 0 || x.conn != nil, failure: x.obs.Failure}
	p := x.to.retry
	switch e {
	case nil:
		if !x.firstFailed {
			return x.assessStatus(now)
		}
		x.try.Failed(now, "an error as the first event")
		v.again, v.failure = p.event, telemetry.FailureEvent
	case errUpstreamConnect:
		x.try.Failed(now, v.failure.String())
		v.again, v.sent, v.same = p.connect, false, true
	case errConnectTimeout: // the same again would take as long again
		x.try.Failed(now, v.failure.String())
		v.again, v.sent = p.connect, false
	case errUpstreamBusy:
		v.again, v.sent = p.connect, false
	case errUpstreamCut, errUpstreamGarbage, errStoppedReading, errHeadTimeout, errFirstEventTimeout, errIdleTimeout:
		x.try.Failed(now, e.end.String())
	}
	return v
}

// assessStatus is assess for an attempt that was answered.
func (x *exchange) assessStatus(now int64) verdict {
	status := x.means
	v := verdict{sent: true, again: x.to.retry.covers(status), failure: telemetry.FailureOf(status)}
	switch {
	case status == 429:
		v.busy, v.wait = true, x.try.Limited(x.modelHash, now, retryAfter(&x.head))
	case status == 401 || status == 402:
		x.try.Refused(now, strconv.Itoa(x.head.Status))
	case status == 403:
		x.try.Forbidden(now)
	case status >= 500:
		if status == 503 {
			v.busy, v.wait = true, max(retryAfter(&x.head), 250*time.Millisecond)
		}
		x.try.Failed(now, strconv.Itoa(status))
	}
	if status < 500 { // also where the account is at fault: the upstream is there
		x.try.Answered()
	}
	return v
}

// chooseNext chooses who is asked next: somebody else, or else the same account
// once more, if it got nothing of the request, or only asked for time and that
// has passed. again says that it was asked before.
func (x *exchange) chooseNext(v verdict, again bool) bool {
	now := x.srv.now()
	if x.pinned == nil && x.to.candidates.Choose(&x.next, &x.tried, x.modelHash, now) {
		return true
	}
	if v.same && !again {
		x.next.Pin(x.try.Credential, now)
		return true
	}
	if !v.busy || v.wait > x.to.retry.maxWait {
		return false
	}
	if t := x.ans.total; t > 0 && now+int64(v.wait) >= t {
		return false
	}
	if !x.c.sleep(v.wait) {
		return false
	}
	x.next.Pin(x.try.Credential, x.srv.now())
	return true
}

// abandon gives back what the attempt held. Its answer is not read to the end,
// so that the connection cannot be used again.
func (x *exchange) abandon() {
	if x.conn != nil {
		x.c.unwatch()
		x.conn.Discard()
		x.conn = nil
	}
	x.in.Put()
	x.in = nil
	x.from, x.till = 0, 0
	x.wide.Put()
	x.wide = nil
	x.early.Put()
	x.early = nil
	x.lateFailure = nil
	x.ans.end(x.srv.now()) // its decoder is a coroutine
	x.try.End(false)
}
