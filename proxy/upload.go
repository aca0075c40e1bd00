package proxy

import (
	"io"
	"time"

	"streamrelay/pool"
	"streamrelay/proxy/h1"
	"streamrelay/proxy/peek"
	"streamrelay/telemetry"
)

// uploadBody sends a streamed body to the upstream as it comes: what peekForm
// read first, then the rest. chunked says that the client gave no length.
func (x *exchange) uploadBody(chunked bool) *apiError {
	defer x.listen()()
	if x.held != nil && len(x.held.B) > 0 {
		if err := x.uploadHeld(chunked); err != nil {
			return err
		}
	}
	x.releaseBody()
	buf := x.srv.buffers.Get()
	defer buf.Put()
	for {
		n, err := x.reqBody.Read(buf.B[h1.ChunkRoom : pool.BufferSize-2])
		if n > 0 {
			if x.form != nil && !x.form.Feed(buf.B[h1.ChunkRoom:h1.ChunkRoom+n]) {
				return errTwoModels
			}
			x.bodyCame(int(x.obs.BytesIn) + n)
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
	if chunked {
		return x.upload(lastChunk, 0)
	}
	return nil
}

var lastChunk = []byte("0\r\n\r\n")

// uploadHeld sends what peekForm read, with its edit.
func (x *exchange) uploadHeld(chunked bool) *apiError {
	edits := x.edits[:x.nEdits]
	if len(edits) == 0 {
		return x.uploadPiece(x.held.B, chunked)
	}
	edited := x.srv.buffers.Block(peek.EditedLen(len(x.held.B), edits))
	defer edited.Put()
	edited.B = peek.AppendEdited(edited.B, x.held.B, edits)
	return x.uploadPiece(edited.B, chunked)
}

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

// listen reads the upstream's answer while the request is still being sent: an
// upstream may answer early and read no more, and its answer must not wait for
// a write that never ends. What came first stands in x.in when the returned
// function has returned, and a write under way was interrupted.
func (x *exchange) listen() (stop func()) {
	conn := x.conn
	var buf *pool.Buffer
	n := 0
	done := make(chan struct{})
	conn.Unbounded()
	go func() {
		defer close(done)
		defer x.srv.contained()
		var err error
		for interim := 0; ; interim++ {
			var m int
			m, err = conn.ReadBuffer(&buf, headroom+n, readEnd)
			if n += m; err != nil || interim == maxInterim || headroom+n == readEnd {
				break
			}
			only, whole := onlyInterim(buf.B[headroom : headroom+n])
			if !only {
				break
			}
			if whole {
				buf.Put()
				buf, n = nil, 0
			}
		}
		if err == nil || !isTimeout(err) {
			conn.StopWriting()
		}
	}()
	return func() {
		conn.StopReading()
		<-done
		conn.Unbounded()
		if buf != nil {
			x.in, x.from, x.till = buf, headroom, headroom+n
		}
	}
}

// upload writes p, which carries n bytes of the body.
func (x *exchange) upload(p []byte, n int) *apiError {
	x.obs.BytesIn += int64(n)
	if x.obs.BytesIn > int64(x.set.limits.MaxUpload) {
		return errBodyTooBig
	}
	now := x.srv.now()
	if err := x.conn.WriteBy(now, x.uploadPatience(now)); err != nil {
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

// uploadPatience is how long an upstream may take nothing of a request. A write
// is given up within twice of it, and never later than timeouts.total.
func (x *exchange) uploadPatience(now int64) time.Duration {
	patience := x.up.Timeouts.Head
	if patience <= 0 {
		patience = time.Minute
	}
	if t := x.ans.total; t > 0 {
		patience = min(patience, max(time.Duration(t-now)/2, time.Millisecond))
	}
	return patience
}

// errStoppedReading marks an upstream that takes no more of the request; it
// may have answered already, which is looked for.
var errStoppedReading = &apiError{status: 502, typ: "api_error", code: "upstream_error", end: telemetry.UpstreamCut, retry: "false",
	message: "The upstream stopped reading the request."}

// onlyInterim reports whether b is nothing but 1xx answers, as far as it goes,
// which say nothing about the request's body, and whether the last is whole.
func onlyInterim(b []byte) (only, whole bool) {
	const status = len("HTTP/1.1 ")
	var a h1.Answer
	for len(b) > 0 {
		n, err := a.Parse(b)
		if err != nil || a.Status >= 200 || a.Status == 101 {
			return false, false
		}
		if n == 0 {
			return len(b) <= status || b[status] == '1', false
		}
		b = b[n:]
	}
	return true, true
}
