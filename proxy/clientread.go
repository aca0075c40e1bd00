package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/valyala/fasthttp"

	"streamrelay/pool"
)

// clientReader is how a client's bytes are taken apart: fasthttp, which reads
// the connection, is handed a request's head and not a byte more. The body
// stays here for the exchange to read, after it knows whose request it is, and
// what follows is the next request's. So nothing is read ahead of an answer,
// and how a body is framed is decided in one place, strictly.
type clientReader struct {
	in       *pool.Buffer // what came and was not taken; nil: nothing
	from, to int
	lazy     pool.LazyReader // of a plain connection

	head headEnd
	idle time.Duration // >0: each read of a body has so long
	till int64         // … but no longer than to here, unix ns
}

// errHeadTaken is what fasthttp gets that reads on behind a head: then the two
// disagree about where it ended.
var errHeadTaken = errors.New("the request's head has ended")

// Read hands fasthttp the bytes of the next request's head.
func (c *clientConn) Read(p []byte) (int, error) {
	r := &c.read
	if r.head.done {
		return 0, errHeadTaken
	}
	if r.from == r.to {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	if r.head == (headEnd{}) {
		if !c.setBusy() {
			return 0, net.ErrClosed
		}
		if err := checkFirst(r.in.B[r.from]); err != nil {
			// With the byte: behind another request fasthttp takes an error
			// without one for the connection's end, and does not answer.
			n := copy(p, r.in.B[r.from:r.from+1])
			c.take(n)
			return n, err
		}
	}
	n := r.head.scan(r.in.B[r.from:min(r.to, r.from+len(p))])
	copy(p, r.in.B[r.from:r.from+n])
	c.take(n)
	return n, nil
}

// nextHead makes Read hand out the head of the next request. The body of the
// one before was read to its end.
func (c *clientConn) nextHead() { c.read.head = headEnd{} }

// fill waits for bytes of the client. Nothing is there before.
func (c *clientConn) fill() (err error) {
	r := &c.read
	n := 0
	if c.srv.tls == nil {
		r.in, n, err = r.lazy.Wait(0, pool.BufferSize)
	} else {
		buf := c.srv.buffers.Get()
		if n, err = c.Conn.Read(buf.B[:]); n == 0 {
			buf.Put()
			return c.srv.plainToTLS(err)
		}
		r.in, err = buf, nil
	}
	r.from, r.to = 0, n
	return err
}

// take removes n bytes from the front of what came.
func (c *clientConn) take(n int) {
	r := &c.read
	if r.from += n; r.from == r.to && r.in != nil {
		r.in.Put()
		r.in, r.from, r.to = nil, 0, 0
	}
}

// readBody reads bytes of a body, at least one. Its deadline is that of a body.
func (c *clientConn) readBody(p []byte) (int, error) {
	r := &c.read
	if r.from < r.to {
		n := copy(p, r.in.B[r.from:r.to])
		c.take(n)
		return n, nil
	}
	if err := c.bodyDeadline(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		return n, nil
	}
	return 0, c.bodyEnd(err)
}

// fillBody waits for bytes of a body where none is there.
func (c *clientConn) fillBody() error {
	if c.read.from < c.read.to {
		return nil
	}
	if err := c.bodyDeadline(); err != nil {
		return err
	}
	return c.bodyEnd(c.fill())
}

func (c *clientConn) bodyDeadline() error {
	if c.read.idle > 0 {
		if err := c.Conn.SetReadDeadline(pool.At(min(c.srv.now()+int64(c.read.idle), c.read.till))); err != nil {
			return err
		}
	}
	if c.drained.Load() { // after the deadline was set, which drain moves
		return os.ErrDeadlineExceeded
	}
	return nil
}

// bodyEnd notes a client that left within its body.
func (c *clientConn) bodyEnd(err error) error {
	if err == nil || isTimeout(err) {
		return err
	}
	c.clientGone()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// headEnd finds the empty line that ends a head (RFC 9112 §2.2: empty lines
// before the request line are skipped), over any cut of the bytes.
type headEnd struct {
	line    int  // bytes of the line so far
	cr      bool // the last of them is a CR
	started bool // a line that is not empty was seen
	done    bool
	bareLF  bool // a line ended in LF alone
}

// scan returns how many of the bytes of b belong to the head.
func (h *headEnd) scan(b []byte) int {
	for i := 0; i < len(b); {
		j := bytes.IndexByte(b[i:], '\n')
		line := b[i:]
		if j >= 0 {
			line = line[:j]
		}
		if len(line) > 0 {
			h.line += len(line)
			h.cr = line[len(line)-1] == '\r'
		}
		if j < 0 {
			return len(b)
		}
		i += j + 1
		empty := h.line == 0 || h.line == 1 && h.cr
		h.bareLF = h.bareLF || !h.cr
		h.line, h.cr = 0, false
		if !empty {
			h.started = true
		} else if h.started {
			h.done = true
			return i
		}
	}
	return len(b)
}

// connState follows fasthttp from request to request.
func connState(nc net.Conn, state fasthttp.ConnState) {
	if c, ok := nc.(*clientConn); ok && state == fasthttp.StateIdle {
		c.nextHead()
		c.setIdle()
	}
}
