package proxy

import (
	"bytes"

	"streamrelay/configs"
	"streamrelay/proxy/h1"
	"streamrelay/proxy/watch"
	"streamrelay/telemetry"
)

// answer is the rules of an answer's body, without any I/O: it is fed with the
// bytes that came from the upstream and the time, and says what to send, until
// when to wait, and how it ended. It stops and goes on at any byte and holds no
// memory while nothing is pending, so that any carrier can drive it.
type answer struct {
	framing framing
	kind    bodyKind
	strip   bool // the relay asked for the usage event, the client did not
	output  bool // a model's output was asked for, not a stored object
	begun   bool // start was called
	closed  bool // end was called
	over    bool // the body ended properly
	failed  bool // it ended otherwise
	dialect dialect
	shape   watch.Family

	chunk  h1.Chunked
	left   int64 // of a body whose length is known
	events watch.Stream
	doc    watch.JSON
	packed watch.Inflate // looks into a compressed body
	coded  bool          // packed is in use

	close  bool  // the connection ends with this answer
	bytes  int64 // of the body, as they came
	max    int64
	total  int64 // deadlines, unix ns; 0: none
	first  int64
	idle   int64 // ns
	quiet  int64 // ns of silence before a comment; 0: none
	heard  int64 // last read
	spoken int64 // last comment, or heard
}

// framing is how the upstream ends the body (RFC 9112 §6.3).
type framing uint8

const (
	framedByLength framing = iota
	framedByChunks
	framedByClose
)

// bodyKind is how a body is looked into.
type bodyKind uint8

const (
	kindOpaque   bodyKind = iota // passed on, no more
	kindEvents                   // server-sent events
	kindDocument                 // JSON, also line by line
	kindPage                     // HTML: nothing that a model's API says
)

// reset forgets the answer before.
func (a *answer) reset() {
	a.begun, a.over, a.failed, a.strip, a.coded = false, false, false, false, false
	a.total, a.bytes = 0, 0
}

// begin notes the deadlines that count from the request's start.
func (a *answer) begin(t *configs.Timeouts, start int64) {
	if t.Total > 0 {
		a.total = start + int64(t.Total)
	}
}

// start prepares for the body that follows head. sent is when the request had
// left, now when the head came.
func (a *answer) start(head *h1.Answer, noBody bool, d dialect, shape watch.Family, t *configs.Timeouts, s *configs.Stream, maxBytes, sent, now int64) {
	a.begun, a.closed = true, false
	a.dialect, a.shape = d, shape
	a.close = head.Close
	a.chunk = h1.Chunked{}
	a.left, a.max = 0, maxBytes
	a.heard, a.spoken = now, now
	a.idle, a.first, a.quiet = int64(t.Idle), 0, 0
	switch {
	case noBody:
		a.framing, a.over = framedByLength, true
	case head.Chunked:
		a.framing = framedByChunks
	case head.ContentLength >= 0:
		a.framing, a.left = framedByLength, head.ContentLength
		a.over = a.left == 0
	default:
		a.framing, a.close = framedByClose, true
	}
	a.kind = kindOf(head.ContentType)
	switch a.kind {
	case kindEvents:
		if t.FirstEvent > 0 {
			a.first = sent + int64(t.FirstEvent)
		}
		a.quiet = int64(s.KeepaliveComment)
		a.events.Reset(shape, a.strip)
	case kindDocument:
		a.doc.Reset()
	}
	if len(head.ContentEncoding) > 0 && !h1.EqualFold(head.ContentEncoding, "identity") {
		a.unpack(head.ContentEncoding)
	}
}

// wantIDs makes the watchers look for ids of stored objects.
func (a *answer) wantIDs() {
	a.events.WantIDs()
	a.doc.WantIDs()
}

// ids returns hashes of the stored objects that were named so far.
func (a *answer) ids() []uint64 {
	switch a.kind {
	case kindEvents:
		return a.events.IDs()
	case kindDocument:
		return a.doc.IDs()
	}
	return nil
}

// unpack makes the watchers look at an inflated copy: the client gets the
// bytes as they came. Nothing can be withheld then, nor may the relay put
// anything between compressed bytes.
func (a *answer) unpack(coding []byte) {
	a.quiet = 0
	a.coded = true
	if a.kind == kindEvents {
		a.events.Reset(a.shape, false)
	}
	watched := a.kind == kindEvents || a.kind == kindDocument
	if a.over || !watched || !a.packed.Start(string(bytes.ToLower(coding)), a.look) {
		if a.coded, a.first = false, 0; watched {
			a.kind = kindOpaque
		}
	}
}

// look shows the watchers inflated bytes, within packed.Write and packed.Close.
func (a *answer) look(p []byte, now int64) {
	switch a.kind {
	case kindEvents:
		a.events.Feed(p, now)
	case kindDocument:
		a.doc.Feed(p)
	}
}

func kindOf(contentType []byte) bodyKind {
	media, _, _ := bytes.Cut(contentType, []byte{';'})
	media = bytes.TrimSpace(media)
	switch {
	case h1.EqualFold(media, "text/event-stream"):
		return kindEvents
	case jsonType(media), h1.EqualFold(media, "application/x-ndjson"), h1.EqualFold(media, "application/jsonl"):
		return kindDocument
	case h1.EqualFold(media, "text/html"):
		return kindPage
	}
	return kindOpaque
}

// feed takes the bytes that came at now and returns what to send: first held,
// then out, which is a part of raw. used says how many bytes of raw belong to
// the body. After an error, which comes with the bytes before it, the body has
// failed.
func (a *answer) feed(raw []byte, now int64) (held, out []byte, used int, e *apiError) {
	a.heard, a.spoken = now, now
	used = len(raw)
	switch a.framing {
	case framedByChunks:
		var err error
		raw, used, err = a.chunk.Decode(raw)
		if err != nil {
			e = errUpstreamGarbage
		}
		a.over = a.chunk.Done()
	case framedByLength:
		if int64(used) > a.left {
			used = int(a.left)
			raw = raw[:used]
		}
		a.left -= int64(used)
		a.over = a.left == 0
	}
	if a.bytes += int64(len(raw)); a.max > 0 && a.bytes > a.max {
		e = errStreamTooLong
	}
	out = raw
	switch {
	case a.coded:
		a.packed.Write(raw, now)
	case a.kind == kindEvents:
		held, out = a.events.Feed(raw, now)
	case a.kind == kindDocument:
		a.doc.Feed(raw)
	}
	if e != nil {
		a.over, a.failed = false, true
	}
	return held, out, used, e
}

// eof takes the end of the upstream's connection. Only a body that is framed
// by it may end so: of a dialect that names its last event only after that,
// and of a document only with its last bracket. Anything else is a cut.
func (a *answer) eof() *apiError {
	if a.framing == framedByClose && (a.coded || !a.unfinished()) {
		a.over = true
		return nil
	}
	a.failed = true
	return errUpstreamCut
}

// unfinished reports whether the body itself says that more was to come.
func (a *answer) unfinished() bool {
	switch a.kind {
	case kindEvents:
		return a.shape <= watch.Interactions && !a.events.Terminal()
	case kindDocument:
		return a.doc.Cut()
	}
	return false
}

// incomplete reports whether a body that is over lacks what its dialect ends with.
func (a *answer) incomplete() bool {
	if a.coded || a.framing != framedByChunks && a.bytes == 0 {
		return false
	}
	switch a.kind {
	case kindEvents:
		return a.events.Incomplete()
	case kindDocument:
		return a.shape == watch.Gemini && a.doc.Incomplete()
	}
	return false
}

// end closes the watchers and returns bytes that may go out now that the body
// has ended. Further calls do nothing.
func (a *answer) end(now int64) (held []byte) {
	if !a.begun || a.closed {
		return nil
	}
	a.closed = true
	if a.coded {
		a.packed.Close()
	}
	if a.kind == kindEvents {
		held = a.events.End(now, a.over)
	}
	return held
}

// ended reports whether the body has ended, one way or the other.
func (a *answer) ended() bool { return a.over || a.failed }

// reusable reports whether the upstream's connection can carry another
// exchange.
func (a *answer) reusable() bool { return a.begun && a.over && !a.close }

// deadline is until when to wait for the upstream's next bytes; 0: for ever.
func (a *answer) deadline() int64 {
	at := a.total
	sooner := func(t int64) {
		if at == 0 || t < at {
			at = t
		}
	}
	if a.idle > 0 {
		sooner(a.heard + a.idle)
	}
	if a.first > 0 && !a.coded && a.events.Events() == 0 {
		sooner(a.first)
	}
	if a.quiet > 0 {
		sooner(a.spoken + a.quiet)
	}
	return at
}

// expired says what to do when now has come and nothing else: send a comment,
// give up, or neither because it is early.
func (a *answer) expired(now int64) (comment bool, e *apiError) {
	switch {
	case a.total > 0 && now >= a.total:
		e = errTotalTimeout
	case a.first > 0 && !a.coded && a.events.Events() == 0 && now >= a.first:
		e = errFirstEventTimeout
	case a.idle > 0 && now >= a.heard+a.idle:
		e = errIdleTimeout
	case a.quiet > 0 && now >= a.spoken+a.quiet:
		a.spoken = now
		return !a.events.MidEvent(), nil
	default:
		return false, nil
	}
	a.failed = true
	return false, e
}

// keepalive is a block of its own: some clients lose an event that stands in
// one block with a comment.
var keepalive = []byte(": keep-alive\n\n")

// appendFailure appends what tells the client within the body that e ended it:
// an error event, behind whatever was half sent. Nothing where the body is no
// event stream; there the broken transfer is the only sign.
func (a *answer) appendFailure(dst []byte, e *apiError, requestID []byte) []byte {
	if a.kind != kindEvents || a.coded {
		return dst
	}
	if a.events.Terminal() {
		return dst // the client has all that the dialect promises
	}
	if a.events.MidEvent() {
		dst = append(dst, "\n\n"...)
	}
	return appendErrorEvent(dst, e, a.dialect, a.shape == watch.Responses && a.dialect != dialectAnthropic, a.events.Sequence()+1, requestID)
}

// reason is the end reason of an exchange whose answer was relayed; e is what
// ended it early, nil for nothing.
func (a *answer) reason(status int, e *apiError, clientGone bool) telemetry.EndReason {
	terminal := a.kind == kindEvents && a.events.Terminal()
	switch {
	case a.kind == kindEvents && a.events.ErrorEvent() && status < 400:
		return telemetry.UpstreamError
	case terminal, a.over && !clientGone:
		if status >= 400 {
			return telemetry.UpstreamStatus
		}
		if a.output && (a.kind == kindPage || a.kind == kindDocument && a.doc.Failed()) {
			return telemetry.UpstreamError // in the form of an answer; the client has it as it came
		}
		if a.incomplete() {
			return telemetry.UpstreamIncomplete // the client has it as it came, its end too
		}
		return telemetry.Completed
	case e != nil: // set only while the client was there
		return e.end
	case clientGone:
		return telemetry.ClientGone
	}
	return telemetry.UpstreamCut
}

// observe puts what the watchers found into the observation.
func (a *answer) observe(o *telemetry.Request, start int64) {
	if !a.begun {
		return
	}
	var u watch.Usage
	var known, final bool
	switch a.kind {
	case kindEvents:
		u, known = a.events.Usage()
		final = a.events.UsageFinal()
		o.Stream = true
		o.Events, o.ContentEvents = a.events.Events(), a.events.ContentEvents()
		o.Gaps = &a.events.Gaps
		if t := a.events.FirstEvent(); t > 0 {
			o.FirstEvent = t - start
		}
		if t := a.events.FirstContent(); t > 0 {
			o.TTFT = t - start
		}
	case kindDocument:
		u, known = a.doc.Usage()
		final = a.over
	}
	if known {
		o.Usage = telemetry.Usage(u)
		o.UsageSource = telemetry.UsagePartial
		if final {
			o.UsageSource = telemetry.UsageProvider
		}
	}
}
