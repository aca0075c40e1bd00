package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"streamrelay/bench/simulate"
)

// client is one connection to an endpoint. One goroutine reads from it; what it
// is to read is set by whoever sends, who may be another one, hence the atomics.
type client struct {
	run     *run
	arm     *arm
	nc      net.Conn
	buf     []byte
	r, w    int
	reads   int
	closing bool // the server will not take another request

	asked   atomic.Pointer[query]
	due     atomic.Int64 // of the request under way, 0: none
	expired atomic.Bool  // it was given up

	exact   exact
	form    form
	onExact func(sent int64) // methods of this client, kept to spare their allocation
	onForm  func()
	now     int64 // of the read that brought what is looked at
	began   int64 // due of the request whose answer is read
	headAt  int64
	firstAt int64 // first event with output
	lastAt  int64 // last one
	stale   bool  // one was written before the request
	largest int64 // gap
}

// Sizes of a connection's buffer: many connections are given less.
const (
	largeBuffer = 16 << 10
	smallBuffer = 4 << 10
	manyClients = 2000
	maxAnswer   = 1 << 30
	maxHead     = 16 << 10
)

// dial opens a connection; n chooses its source address.
func (r *run) dial(ctx context.Context, a *arm, n int) (*client, error) {
	began := simulate.Now()
	nc, err := a.endpoint.dial(ctx, n)
	if err != nil {
		return nil, err
	}
	a.connect.Add(simulate.Now() - began)
	size := largeBuffer
	if r.job.Streams > manyClients {
		size = smallBuffer
	}
	c := &client{run: r, arm: a, nc: nc, buf: make([]byte, size)}
	c.onExact, c.onForm = c.exactEvent, c.formEvent
	if !r.add(c) {
		nc.Close()
		return nil, context.Canceled
	}
	return c, nil
}

func (c *client) close() {
	c.run.remove(c)
	c.nc.Close()
	c.run.reads.Add(int64(c.reads))
}

// giveUp ends the request under way; its reader sees a timeout.
func (c *client) giveUp() {
	c.expired.Store(true)
	_ = c.nc.SetDeadline(time.Unix(1, 0))
}

// statusError is an answer with another status than 200.
type statusError struct {
	status int
	said   string
}

func (e statusError) Error() string { return "status " + strconv.Itoa(e.status) }

var errHead = errors.New("malformed answer")

// ask says what is to be read next; the request is written after it.
func (c *client) ask(q *query, due int64) {
	c.asked.Store(q)
	c.due.Store(due)
}

// send asks and writes.
func (c *client) send(q *query, due int64) error {
	c.ask(q, due)
	_, err := c.nc.Write(q.raw)
	return err
}

// answer reads the answer to q to its end. After an error the connection is of
// use only where it is not closing.
func (c *client) answer(q *query) error {
	if q.want != nil {
		c.exact.reset(q.want)
	} else {
		c.form.reset(q.terminal, q.stream)
	}
	c.headAt, c.firstAt, c.lastAt, c.largest, c.stale = 0, 0, 0, 0, false
	c.began = c.due.Load()
	c.closing = true // until the answer has been read to its end
	h, err := c.head()
	if err != nil {
		return err
	}
	c.headAt = c.now
	if h.status != 200 {
		return c.refused(h)
	}
	if q.stream && q.want == nil && !h.events {
		return errNotStream
	}
	feed := c.feedForm
	if q.want != nil {
		feed = c.feedExact
	}
	if err := c.body(h, feed); err != nil {
		return err
	}
	if c.lastAt != 0 {
		c.largest = max(c.largest, c.now-c.lastAt) // to the end, which a client waits for, too
	}
	if q.want == nil {
		err = c.form.end()
	} else if err = c.exact.end(); err == nil && c.stale {
		err = errStale
	}
	if err == nil && c.r < c.w {
		return errAfter // and the connection is of no use
	}
	c.closing = h.close
	return err
}

func (c *client) feedExact(b []byte) error { return c.exact.feed(b, c.onExact) }
func (c *client) feedForm(b []byte) error  { return c.form.feed(b, c.onForm) }

// maxSaid is how much of an error's body is kept.
const maxSaid = 300

// refused reads the body of an error.
func (c *client) refused(h head) error {
	var said []byte
	err := c.body(h, func(b []byte) error {
		said = append(said, b[:min(len(b), maxSaid-len(said))]...)
		return nil
	})
	if err == nil {
		c.closing = h.close
	}
	return statusError{h.status, string(said)}
}

// head is what is kept of an answer's head.
type head struct {
	status int
	length int64 // of the body; chunked or toEnd
	close  bool
	events bool // an event stream
}

const (
	chunked = -1
	toEnd   = -2 // the body ends with the connection
)

// head reads an answer's head, past any 1xx.
func (c *client) head() (h head, err error) {
	for {
		i := bytes.Index(c.buf[c.r:c.w], []byte("\r\n\r\n"))
		if i < 0 {
			if c.w-c.r >= maxHead {
				return h, fmt.Errorf("head above %d bytes: %w", maxHead, errHead)
			}
			if err := c.fill(); err != nil {
				return h, err
			}
			continue
		}
		b := c.buf[c.r : c.r+i+2]
		c.r += i + 4
		if h, err = parseHead(b); err != nil || h.status >= 200 {
			return h, err
		}
	}
}

func parseHead(b []byte) (h head, err error) {
	line, b, _ := bytes.Cut(b, []byte("\r\n"))
	if len(line) < 12 || string(line[:7]) != "HTTP/1." {
		return h, errHead
	}
	if h.status, err = strconv.Atoi(string(line[9:12])); err != nil || h.status < 100 {
		return h, errHead
	}
	h.length, h.close = toEnd, line[7] == '0'
	for len(b) > 0 {
		line, b, _ = bytes.Cut(b, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case is(name, "Content-Length"):
			if h.length == chunked {
				continue // RFC 9112, 6.3: transfer coding overrides it
			}
			if h.length, err = strconv.ParseInt(string(value), 10, 64); err != nil || h.length < 0 {
				return h, errHead
			}
		case is(name, "Transfer-Encoding"):
			h.length = chunked
		case is(name, "Connection"):
			h.close = h.close || is(value, "close")
		case is(name, "Content-Type"):
			h.events = bytes.HasPrefix(value, []byte("text/event-stream"))
		}
	}
	if h.status < 200 || h.status == 204 || h.status == 304 {
		h.length = 0
	}
	h.close = h.close || h.length == toEnd
	return h, nil
}

func is(b []byte, s string) bool { return len(b) == len(s) && bytes.EqualFold(b, []byte(s)) }

// fill reads more and notes when it came.
func (c *client) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	} else if c.w == len(c.buf) {
		if c.r == 0 {
			c.buf = append(c.buf, make([]byte, len(c.buf))...) // a long head
		} else {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		}
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	c.reads++
	if n > 0 {
		c.now = simulate.Now()
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && c.expired.Load() {
		return errTimeout
	}
	return err
}

var errTimeout = errors.New("timeout")

// body reads a body to its end and feeds it on as it comes.
func (c *client) body(h head, feed func([]byte) error) error {
	switch h.length {
	case chunked:
		return c.chunks(feed)
	case toEnd:
		err := c.take(maxAnswer, feed)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errTooLong
		}
		return err
	}
	return c.take(h.length, feed)
}

// take feeds the next n bytes.
func (c *client) take(n int64, feed func([]byte) error) error {
	for {
		k := int(min(n, int64(c.w-c.r)))
		if k > 0 {
			if err := feed(c.buf[c.r : c.r+k]); err != nil {
				return err
			}
		}
		c.r += k
		if n -= int64(k); n == 0 {
			return nil
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// chunks reads a chunked body and its trailers.
func (c *client) chunks(feed func([]byte) error) error {
	for total := int64(0); ; {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 31)
		if err != nil {
			return errHead
		}
		if n == 0 {
			break
		}
		if total += int64(n); total > maxAnswer {
			return errTooLong
		}
		if err := c.take(int64(n), feed); err != nil {
			return err
		}
		if line, err = c.line(); err != nil {
			return err
		}
		if len(line) > 0 {
			return errHead
		}
	}
	for lines := 0; lines < 100; lines++ {
		line, err := c.line()
		if err != nil || len(line) == 0 {
			return err
		}
	}
	return errHead
}

// line reads up to a line's end; the result is valid until the next read.
func (c *client) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.buf[c.r:c.w], '\n'); i >= 0 {
			line := bytes.TrimSuffix(c.buf[c.r:c.r+i], []byte("\r"))
			c.r += i + 1
			return line, nil
		}
		if c.w-c.r > 1024 {
			return nil, errHead
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}
