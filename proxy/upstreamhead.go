package proxy

import (
	"errors"
	"time"

	"streamrelay/telemetry"
)

// maxAnswerHead bounds an upstream's head; maxInterim its 1xx answers.
const (
	maxAnswerHead = 32 << 10
	maxInterim    = 16
	maxUpstreamID = 64 // more of a provider's request id is not recorded
)

// readHead reads the head of the answer into x.head; what follows it waits in
// x.in[x.from:x.till].
func (x *exchange) readHead() *apiError {
	if x.sent == 0 {
		x.sent = x.srv.now()
	}
	if x.in == nil {
		x.from, x.till = headroom, headroom
	}
	for interim := 0; ; {
		if e := x.parseHead(); e != nil {
			return e
		}
		if x.head.Status >= 200 {
			x.obs.UpstreamHead = x.srv.now() - x.start
			x.obs.UpstreamStatus = x.head.Status
			x.obs.UpstreamRequestID = x.upID[:copy(x.upID[:], x.head.RequestID)]
			return nil
		}
		if interim++; interim > maxInterim || x.head.Status == 101 {
			return x.badAnswer(errors.New("too many interim answers, or an upgrade nobody asked for"))
		}
	}
}

// parseHead reads until one head is whole and takes it.
func (x *exchange) parseHead() *apiError {
	for {
		if x.from == x.till {
			x.from, x.till = headroom, headroom
		} else {
			n, err := x.head.Parse(x.in.B[x.from:x.till])
			if err != nil {
				return x.badAnswer(err)
			}
			if n > 0 {
				x.from += n
				return nil
			}
		}
		if x.till == readEnd {
			return x.parseWideHead()
		}
		n, e := x.readOn(x.till)
		if e != nil {
			return e
		}
		x.till += n
	}
}

// parseWideHead goes on where a head does not fit into x.in.
func (x *exchange) parseWideHead() *apiError {
	x.wide.Put()
	x.wide = x.srv.buffers.Block(maxAnswerHead)
	w := x.wide
	w.B = append(w.B, x.in.B[x.from:x.till]...)
	for {
		x.from, x.till = headroom, headroom
		n, e := x.readOn(headroom)
		if e != nil {
			return e
		}
		if len(w.B)+n > maxAnswerHead {
			return x.badAnswer(errors.New("its head is too large"))
		}
		before := len(w.B)
		w.B = append(w.B, x.in.B[headroom:headroom+n]...)
		end, err := x.head.Parse(w.B)
		if err != nil {
			return x.badAnswer(err)
		}
		if end > 0 {
			x.from, x.till = headroom+end-before, headroom+n
			return nil
		}
	}
}

// readOn reads on for the head, into x.in from at on.
func (x *exchange) readOn(at int) (int, *apiError) {
	n, what := x.receive(at, x.headDeadline())
	switch what {
	case arrivedBytes:
		return n, nil
	case relayDrains, keyEnded:
		return 0, endedBy(what)
	case arrivedTime:
		if t := x.ans.total; t > 0 && x.srv.now() >= t {
			return 0, errTotalTimeout
		}
		return 0, errHeadTimeout
	case arrivedEnd, arrivedCut:
		x.obs.Failure = telemetry.FailureCut
	}
	return 0, errUpstreamCut // or the client has left: refuse says what it is
}

// headDeadline is until when the head must have come.
func (x *exchange) headDeadline() int64 {
	limit := x.ans.total
	if d := x.up.Timeouts.Head; d > 0 && (limit == 0 || x.sent+int64(d) < limit) {
		limit = x.sent + int64(d)
	}
	return limit
}

func (x *exchange) badAnswer(err error) *apiError {
	x.obs.Failure = telemetry.FailureProtocol
	x.srv.log.WarnEvery("protocol "+x.up.Name, 10*time.Second).Err(err).Str("upstream", x.up.Name).Msg("read an upstream's head")
	return errUpstreamGarbage
}
