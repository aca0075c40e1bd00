package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"streamrelay/pool"
	"streamrelay/proxy/h1"
	"streamrelay/proxy/peek"
	"streamrelay/telemetry"
)

const (
	// oneWrite is up to which size head and body leave in one write, at the
	// cost of copying the body.
	oneWrite = 64 << 10
	// maxAnswerHead bounds an upstream's head; maxInterim its 1xx answers.
	maxAnswerHead = 32 << 10
	maxInterim    = 16
	// maxStale bounds how many idle connections may turn out to be dead.
	maxStale = 3
)

// choose applies the key's rights and finds the upstream.
func (x *exchange) choose() *apiError {
	a := &x.adm
	ep := &endpoints[a.target.endpoint]
	model := x.obs.Model
	if a.target.pathModel != nil {
		model = a.target.pathModel
		x.obs.Model = append(x.model[:0], model[:min(len(model), len(x.model))]...)
	}
	unnamed := len(model) == 0 && !x.modelCall()
	if !unnamed && !a.rec.AllowsModel(model) {
		return errModelNotAllowed
	}
	r := x.srv.routing.Load()
	var u *pool.Upstream
	var alias []byte
	var err *apiError
	if unnamed {
		if a.body != bodyNone && ep.blind && !a.rec.AllowsModel(nil) {
			return errModelNotAllowed // nobody knows which model it asks for
		}
		// Lists, files and batches belong to no model: the first route for
		// every model takes them, or else the first upstream.
		if u, _, err = r.choose(a.target.dialect, nil); err == errModelNotFound {
			u, err = r.any(a.target.dialect)
		}
	} else {
		u, alias, err = r.choose(a.target.dialect, model)
	}
	if err == errModelNotFound && len(model) == 0 && a.body == bodyStream {
		err = errModelFirst
	}
	if err != nil {
		return err
	}
	if alias != nil && a.body != bodyHeld {
		return errAlias
	}
	x.up = u
	x.obs.Upstream = u.Index
	x.ans.strip = false
	opt := peek.EditOptions{Model: alias, Scratch: x.scratch[:0]}
	edits := x.edits[:0]
	if a.body == bodyHeld {
		if x.srv.includeUsage && ep.usage && a.target.dialect != dialectAnthropic {
			opt.IncludeUsage = x.req.AsksUsage()
			x.ans.strip = opt.IncludeUsage
		}
		edits = x.req.Edits(edits, opt)
	}
	x.nEdits = len(edits)
	return nil
}

// modelCall reports whether the request is one that a model answers: rules for
// models apply to it even where it names none.
func (x *exchange) modelCall() bool {
	a := &x.adm
	ep := &endpoints[a.target.endpoint]
	if !ep.model || !x.ctx.IsPost() || a.body == bodyNone {
		return false
	}
	return !ep.exact || len(a.target.tail) == 0
}

// forward sends the request to the upstream and reads the head of its answer.
// Nothing is sent twice: only a connection that took no byte is replaced.
func (x *exchange) forward() *apiError {
	x.cred = x.up.Credential()
	if x.cred != nil {
		x.obs.Credential = x.cred.Index
	}
	x.obs.Attempts = 1
	x.ans.begin(&x.up.Timeouts, x.start)
	for stale := 0; ; stale++ {
		if err := x.connect(); err != nil {
			return err
		}
		again, err := x.sendRequest()
		if err == nil {
			break
		}
		if !again || stale == maxStale {
			if err == errStoppedReading && x.readHead() == nil {
				return nil // it answered instead of reading on
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
	conn, err := x.up.Acquire()
	x.connecting += x.srv.now() - before
	if err != nil {
		var t interface{ Timeout() bool }
		switch {
		case errors.Is(err, pool.ErrBusy):
			return errUpstreamBusy
		case errors.As(err, &t) && t.Timeout():
			x.obs.Failure = telemetry.FailureTimeoutConnect
			return errConnectTimeout
		}
		x.obs.Failure = telemetry.FailureConnect
		x.srv.log.WarnEvery("connect "+x.up.Name, 10*time.Second).Err(err).Str("upstream", x.up.Name).Msg("connect to upstream")
		return errUpstreamConnect
	}
	x.conn = conn
	if !x.c.watch(conn) {
		return errDraining // or the client left meanwhile: refuse looks
	}
	return nil
}

// sendRequest writes head and body. again says that the connection had been
// closed by the upstream before it took anything, so that another may be used.
func (x *exchange) sendRequest() (again bool, e *apiError) {
	held := x.adm.body == bodyHeld
	edits := x.edits[:x.nEdits]
	bodyLen := 0
	if held {
		bodyLen = peek.EditedLen(len(x.held.B), edits)
	}
	size := len(x.ctx.Request.Header.RawHeaders()) + len(x.adm.target.path) + len(x.adm.target.query) + len(x.up.Set) + 2048
	together := held && size+bodyLen <= oneWrite
	if together {
		size += bodyLen
	}
	block := x.srv.buffers.Block(size)
	defer block.Put()
	block.B = x.appendHead(block.B, bodyLen)
	if together {
		block.B = peek.AppendEdited(block.B, x.held.B, edits)
	}
	now := x.srv.now()
	x.obs.Overhead = now - x.ready - x.connecting
	if err := x.conn.WriteBy(now, uploadPatience(x.up.Timeouts.Head)); err != nil {
		return false, errUpstreamCut
	}
	n, err := x.conn.Write(block.B)
	if err != nil {
		if x.c.gone.Load() {
			return false, errUpstreamCut
		}
		return n == 0 && x.conn.Reused, errStoppedReading
	}
	if held && !together {
		e = x.sendHeld(edits)
	} else if x.adm.body == bodyStream {
		e = x.uploadBody(x.adm.head.length == lengthChunked)
	}
	if e == nil {
		x.conn.ResumeWriting()
	}
	x.sent = x.srv.now()
	return false, e
}

// sendHeld writes a large held body, with its edits, in its pieces.
func (x *exchange) sendHeld(edits []peek.Edit) *apiError {
	defer x.listen()()
	at := 0
	for i := 0; i <= len(edits); i++ {
		end := len(x.held.B)
		if i < len(edits) {
			end = edits[i].Off
		}
		for at < end {
			// In pieces, so that patience is with each and not with 64 MiB.
			n := min(end-at, 1<<20)
			if e := x.sendPiece(x.held.B[at : at+n]); e != nil {
				return e
			}
			at += n
		}
		if i < len(edits) {
			if e := x.sendPiece(edits[i].Ins); e != nil {
				return e
			}
			at += edits[i].Del
		}
	}
	return nil
}

func (x *exchange) sendPiece(p []byte) *apiError {
	if len(p) == 0 {
		return nil
	}
	if err := x.conn.WriteBy(x.srv.now(), uploadPatience(x.up.Timeouts.Head)); err != nil {
		return errUpstreamCut
	}
	if _, err := x.conn.Write(p); err != nil {
		return errStoppedReading
	}
	return nil
}

// appendHead appends the head of the upstream's request: our own fields, then
// the client's end-to-end ones as they came.
func (x *exchange) appendHead(b []byte, bodyLen int) []byte {
	a, u := &x.adm, x.up
	h := &x.ctx.Request.Header
	b = append(b, h.Method()...)
	b = append(b, ' ')
	b = append(b, u.Path...)
	b = append(b, a.target.rest...)
	if len(u.Path)+len(a.target.rest) == 0 {
		b = append(b, '/')
	}
	if len(a.target.query) > 0 {
		b = append(b, '?')
		n := len(b)
		b, _ = peek.StripQuery(b, a.target.query, queryKeys[:]...)
		if len(b) == n {
			b = b[:n-1]
		}
	}
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, u.Host...)
	b = append(b, "\r\n"...)
	if x.cred != nil {
		b = x.cred.AppendTo(b, presents(u))
	}
	b = append(b, u.Set...)
	if endpoints[a.target.endpoint].model || a.target.dialect == dialectGemini {
		b = append(b, "Accept-Encoding: identity\r\n"...)
	}
	for f := h1.NewFields(h.RawHeaders()); f.Next(); {
		switch classifyRequest(f.Name) {
		case fieldPass, fieldContentType, fieldContentEncoding, fieldAnthropicVersion, fieldUserAgent:
			if (a.head.connections > 0 && a.head.namedByConnection(f.Name)) || removed(u.Remove, f.Name) {
				continue
			}
			b = append(b, f.Name...)
			b = append(b, ": "...)
			b = append(b, f.Value...)
			b = append(b, "\r\n"...)
		}
	}
	switch {
	case a.body == bodyHeld:
		b = appendLength(b, int64(bodyLen))
	case a.body == bodyStream && a.head.length == lengthChunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case a.body == bodyStream:
		b = appendLength(b, a.head.length)
	case h.IsPost() || h.IsPut() || string(h.Method()) == "PATCH":
		b = append(b, "Content-Length: 0\r\n"...)
	}
	return append(b, "\r\n"...)
}

func removed(names []string, name []byte) bool {
	return slices.ContainsFunc(names, func(n string) bool { return h1.EqualFold(name, n) })
}

// readHead reads the head of the answer into x.head; what follows it waits in
// x.in[x.from:x.to].
func (x *exchange) readHead() *apiError {
	if x.sent == 0 {
		x.sent = x.srv.now()
	}
	if x.in == nil {
		x.from, x.to = headroom, headroom
	}
	for interim := 0; ; {
		if e := x.parseHead(); e != nil {
			return e
		}
		if x.head.Status >= 200 {
			x.obs.UpstreamHead = x.srv.now() - x.start
			x.obs.UpstreamStatus = x.head.Status
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
		if x.from == x.to {
			x.from, x.to = headroom, headroom
		} else {
			n, err := x.head.Parse(x.in.B[x.from:x.to])
			if err != nil {
				return x.badAnswer(err)
			}
			if n > 0 {
				x.from += n
				return nil
			}
		}
		if x.to == readEnd {
			return x.parseWideHead()
		}
		n, e := x.readInto(&x.in, x.to)
		if e != nil {
			return e
		}
		x.to += n
	}
}

// parseWideHead goes on where a head does not fit into x.in.
func (x *exchange) parseWideHead() *apiError {
	x.wide.Put()
	x.wide = x.srv.buffers.Block(maxAnswerHead)
	w := x.wide
	w.B = append(w.B, x.in.B[x.from:x.to]...)
	for {
		x.from, x.to = headroom, headroom
		n, e := x.readInto(&x.in, headroom)
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
			x.from, x.to = headroom+end-before, headroom+n
			return nil
		}
	}
}

// readInto reads on for the head, into buf from at on.
func (x *exchange) readInto(buf **pool.Buffer, at int) (int, *apiError) {
	limit := x.headDeadline()
	expired := false
	for {
		if err := x.conn.ReadBy(limit, expired); err != nil {
			return 0, errUpstreamCut
		}
		if x.c.gone.Load() {
			return 0, errUpstreamCut // refuse says what it is
		}
		n, err := x.conn.ReadBuffer(buf, at, readEnd)
		switch {
		case err == nil:
			return n, nil
		case x.c.gone.Load():
			return 0, errUpstreamCut
		case x.c.drained.Load():
			return 0, errDraining
		case !isTimeout(err):
			x.obs.Failure = telemetry.FailureCut
			return 0, errUpstreamCut
		}
		if now := x.srv.now(); limit > 0 && now >= limit {
			if t := x.ans.total; t > 0 && now >= t {
				return 0, errTotalTimeout
			}
			return 0, errHeadTimeout
		}
		expired = true
	}
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

func isTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	var ne net.Error
	return !errors.Is(err, io.EOF) && errors.As(err, &ne) && ne.Timeout()
}

func appendLength(b []byte, n int64) []byte {
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, "\r\n"...)
}
