package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"

	"github.com/valyala/fasthttp"

	"streamrelay/pool"
	"streamrelay/proxy/h1"
)

// Where an answer's bytes stand in the buffer: room in front for the line that
// announces a chunk, and behind for its end and the end of the body.
const (
	headroom = 16
	readEnd  = pool.BufferSize - 8
)

// errBroken makes fasthttp break the transfer instead of ending it.
var errBroken = io.ErrUnexpectedEOF

// outlet is where a carrier puts an answer's bytes.
type outlet struct {
	x       *exchange
	w       io.Writer // nil: the client's connection itself
	flush   *bufio.Writer
	chunked bool // each piece becomes a chunk here; fasthttp adds the last one
}

// bodyReader is the reader carrier: fasthttp asks it for the body once and it
// relays all of it, straight from connection to connection, with fasthttp
// writing the head before and the end after. So no byte passes through a
// second buffer, and the end can leave in one write with the last event.
type bodyReader struct {
	x     *exchange
	sized bool // the length is known: no chunks
}

// Read relays the whole body in chunks; p stays unused. io.EOF says that the
// body ended properly, anything else breaks the transfer.
func (b *bodyReader) Read([]byte) (n int, err error) {
	defer b.x.recoveredBody(&err)
	if b.x.pump(outlet{x: b.x, chunked: true}) {
		return 0, io.EOF
	}
	return 0, errBroken
}

// SupportsBodyWriteTo makes fasthttp use WriteTo where the length is known.
// With chunks it would allocate a writer for it.
func (b *bodyReader) SupportsBodyWriteTo() bool { return b.sized }

// WriteTo relays the whole body of a known length; w stays unused.
func (b *bodyReader) WriteTo(io.Writer) (n int64, err error) {
	x := b.x
	defer x.recoveredBody(&err)
	if !x.pump(outlet{x: x}) {
		return x.obs.BytesOut, errBroken
	}
	return x.obs.BytesOut, nil
}

// Close ends the exchange; fasthttp calls it once whatever happened.
func (b *bodyReader) Close() (err error) {
	defer b.x.recoveredBody(&err)
	b.x.finishAnswer()
	return nil
}

// writerCarrier is the body as SetBodyStreamWriter would give it: writeBody runs
// in a goroutine of its own, with a pipe between it and the connection. Unlike
// fasthttp's, its end breaks the transfer when the answer was not whole.
type writerCarrier struct {
	io.ReadCloser
	whole *atomic.Bool
}

func (x *exchange) newWriterCarrier() *writerCarrier {
	whole := new(atomic.Bool)
	return &writerCarrier{
		whole:      whole,
		ReadCloser: fasthttp.NewStreamReader(func(w *bufio.Writer) { whole.Store(x.writeBody(w)) }),
	}
}

// Read hands on what writeBody flushed.
func (w *writerCarrier) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err == io.EOF && !w.whole.Load() {
		err = errBroken
	}
	return n, err
}

// writeBody relays the whole body and ends the exchange.
func (x *exchange) writeBody(w *bufio.Writer) (whole bool) {
	var err error
	defer x.finishAnswer()
	defer x.recoveredBody(&err)
	return x.pump(outlet{x: x, w: w, flush: w})
}

// closeDelimited is the carrier for HTTP/1.0: head and body by hand, the close
// is the end.
func (x *exchange) closeDelimited(net.Conn) {
	var err error
	defer x.finishAnswer()
	defer x.recoveredBody(&err)
	x.c.writeDeadline = 0 // fasthttp takes deadlines off what it hands over
	x.c.corked = true
	if _, err = x.c.Write(x.ctx.Response.Header.Header()); err != nil {
		return
	}
	if x.pump(outlet{x: x}) {
		return
	}
	x.resetOnClose() // a mere close would be a clean end
}

// resetOnClose makes the close a reset, the only sign of a cut that a
// close-delimited body knows.
func (x *exchange) resetOnClose() {
	x.c.linger.Store(false)
	nc := x.c.Conn
	if over, ok := nc.(*tls.Conn); ok {
		nc = over.NetConn()
	}
	if t, ok := nc.(interface{ SetLinger(int) error }); ok {
		_ = t.SetLinger(0)
	}
	_ = nc.Close() // here, since over TLS a close_notify would be a clean end
}

// finishAnswer ends the exchange with what its body came to.
func (x *exchange) finishAnswer() {
	defer x.contained()
	if !x.active {
		return
	}
	// A client that leaves with all of the answer has not left early.
	gone := x.c.gone.Load() && !x.delivered || !x.ans.ended()
	x.finish(x.ans.reason(x.obs.Status, x.failure, gone), x.failure)
}

// contained keeps a panic at an exchange's very end, where nothing can be
// answered any more, from ending the process.
func (x *exchange) contained() {
	if v := recover(); v != nil {
		x.panicked(v)
	}
}

// recoveredBody keeps a panic of a carrier from fasthttp, which would swallow
// it without a word, and breaks the transfer.
func (x *exchange) recoveredBody(err *error) {
	v := recover()
	if v == nil {
		return
	}
	x.panicked(v)
	x.ans.over, x.ans.failed = false, true
	x.failure = errPanic
	*err = errBroken
}

// pump relays the answer's body from the upstream to out until it has ended,
// and reports whether it ended properly and the client has it.
func (x *exchange) pump(out outlet) bool {
	if !x.sendEarly(out) {
		return false
	}
	for {
		if x.till > x.from {
			now := x.srv.now()
			held, body, used, e := x.ans.feed(x.in.B[x.from:x.till], now)
			x.from += used
			if x.came == 0 && len(held)+len(body) > 0 && out.w == nil { // the writer carrier's bytes leave by another goroutine
				x.came = now
			}
			if x.learn {
				x.remember()
			}
			if len(held) > 0 && x.passHeld(out, held) != nil {
				return false
			}
			if x.ans.over {
				return x.ended(out, body)
			}
			if len(body) > 0 && out.put(body, false) != nil {
				return false
			}
			if e != nil {
				return x.fail(out, e)
			}
		} else if x.ans.over {
			return x.ended(out, nil)
		}
		x.in.Put() // nothing is held while nothing comes
		x.in = nil
		if e := x.await(out); e != nil {
			return x.fail(out, e)
		}
		if x.c.gone.Load() {
			x.ans.failed = true
			return false
		}
	}
}

// passHeld sends what the watcher held back, and gives its buffer back: what
// comes next may be long in coming.
func (x *exchange) passHeld(out outlet, held []byte) error {
	err := out.copy(held)
	x.ans.events.Settle()
	return err
}

// ended sends the last piece of a body that is whole.
func (x *exchange) ended(out outlet, body []byte) bool {
	// Before the client has it all: one that closes then would have the
	// watcher interrupt a connection that the next exchange can use.
	x.releaseUpstream()
	x.delivered = x.deliver(out, body)
	return x.delivered
}

func (x *exchange) deliver(out outlet, body []byte) bool {
	now := x.srv.now()
	held := x.ans.end(now)
	// Before the client has it all, too: what it asks next, on whatever
	// connection, finds the slot free and the tokens settled.
	x.observe()
	x.settle()
	if len(body) > 0 && out.put(body, len(held) == 0) != nil {
		return false
	}
	if len(held) > 0 && x.passHeld(out, held) != nil {
		return false
	}
	if !out.chunked && out.w == nil { // fasthttp has nothing more to write
		return out.uncork() == nil
	}
	if out.flush == nil {
		x.c.corked = false
		x.wrote(now) // fasthttp does so with the end of the body
	}
	return true
}

// fail tells the client, where the body allows it, that e ended it.
func (x *exchange) fail(out outlet, e *apiError) bool {
	x.ans.failed = true
	if x.c.gone.Load() {
		return false
	}
	x.failure = e
	x.ans.end(x.srv.now())
	if out.flush == nil {
		x.c.corked = false
	}
	var last [512]byte
	if b := x.ans.appendFailure(last[:0], e, x.requestID); len(b) > 0 {
		_ = out.copy(b) // the transfer breaks in any case
	}
	_ = out.uncork()
	return false
}

// uncork sends what the connection has gathered. The writer carrier's
// goroutine leaves the connection to fasthttp's, which alone writes to it.
func (o *outlet) uncork() error {
	if o.flush != nil {
		return nil
	}
	o.x.c.corked = false
	return o.x.c.flush()
}

// await waits for the upstream's next bytes, which then stand in x.in. Before
// it waits nothing is left unsent. The client's leaving is no error here: the
// caller looks.
func (x *exchange) await(out outlet) *apiError {
	x.from, x.till = headroom, headroom
	if out.uncork() != nil {
		return nil
	}
	for {
		n, what := x.receive(headroom, x.ans.deadline())
		switch what {
		case arrivedBytes:
			x.till = headroom + n
			return nil
		case clientLeft, relayDrains, keyEnded:
			return endedBy(what)
		case arrivedEnd:
			return x.ans.eof()
		case arrivedCut:
			x.ans.failed = true
			return errUpstreamCut
		}
		comment, e := x.ans.expired(x.srv.now())
		if e != nil {
			return e
		}
		if comment && out.copy(keepalive) != nil {
			return nil
		}
	}
}

// put sends body, which is a part of x.in. last says that the end of the body
// follows at once, so that fasthttp's last chunk can leave with it.
func (o *outlet) put(body []byte, last bool) error {
	x := o.x
	x.obs.BytesOut += int64(len(body))
	x.captureAnswer(body)
	if o.w != nil {
		return o.write(body)
	}
	from := pool.BufferSize - cap(body)
	to := from + len(body)
	if o.chunked {
		from, to = h1.Frame(x.in.B[:], from, to)
		if last {
			if len(x.c.pending) == 0 {
				x.c.adopt(x.in, from, to)
				x.in = nil
				return nil
			}
			if len(x.c.pending)+to-from <= cap(x.c.pending) {
				x.c.hold(x.in.B[from:to])
				return nil
			}
		}
	}
	return x.c.send(x.in.B[from:to])
}

// copy sends bytes that stand elsewhere.
func (o *outlet) copy(b []byte) error {
	x := o.x
	x.obs.BytesOut += int64(len(b))
	x.captureAnswer(b)
	if o.w != nil {
		return o.write(b)
	}
	if !o.chunked {
		return x.c.send(b)
	}
	buf := x.srv.buffers.Get()
	defer buf.Put()
	for len(b) > 0 {
		n := copy(buf.B[headroom:readEnd], b)
		from, to := h1.Frame(buf.B[:], headroom, headroom+n)
		if err := x.c.send(buf.B[from:to]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (o *outlet) write(b []byte) error {
	if _, err := o.w.Write(b); err != nil {
		o.x.c.clientGone()
		return err
	}
	if o.flush == nil {
		return nil
	}
	if err := o.flush.Flush(); err != nil {
		o.x.c.clientGone()
		return err
	}
	return nil
}
