package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"streamrelay/bench/simulate"
)

// client is one connection to the endpoint, used by one goroutine.
type client struct {
	nc    net.Conn
	buf   []byte
	r, w  int
	check checker
	reads int
}

const clientBuffer = 16 << 10

// dial connects from the n-th loopback source address where the endpoint is on
// loopback: one address has some 28,000 ports. The deadline is for all that the
// connection will ever do.
func dial(r *run, n int, deadline time.Time) (*client, error) {
	d := net.Dialer{Timeout: 10 * time.Second, Deadline: deadline}
	if r.loopback {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n/20_000))}
	}
	nc, err := d.Dial("tcp", r.job.Addr)
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(deadline); err != nil {
		nc.Close()
		return nil, err
	}
	c := &client{nc: nc, buf: make([]byte, clientBuffer)}
	c.check.run = r
	return c, nil
}

func (c *client) close() { c.nc.Close() }

// statusError is an answer with another status than 200.
type statusError int

func (e statusError) Error() string { return "status " + strconv.Itoa(int(e)) }

var errHead = errors.New("malformed answer")

// do sends a request and reads its answer to the end. After an error the
// connection is of no further use.
func (c *client) do(q *query) error {
	if err := c.send(q); err != nil {
		return err
	}
	length, err := c.head()
	if err != nil {
		return err
	}
	return c.body(length)
}

func (c *client) send(q *query) error {
	c.check.reset(q.want)
	_, err := c.nc.Write(q.raw)
	return err
}

// head reads an answer's head and returns the length of its body, -1: chunked.
func (c *client) head() (length int64, err error) {
	for {
		i := bytes.Index(c.buf[c.r:c.w], []byte("\r\n\r\n"))
		if i < 0 {
			if c.w-c.r > 8<<10 {
				return 0, errHead
			}
			if _, err := c.fill(); err != nil {
				return 0, err
			}
			continue
		}
		h := c.buf[c.r : c.r+i+2]
		c.r += i + 4
		if len(h) < 13 || string(h[:9]) != "HTTP/1.1 " {
			return 0, errHead
		}
		if status, err := strconv.Atoi(string(h[9:12])); err != nil || status != 200 {
			return 0, statusError(status)
		}
		return framing(h)
	}
}

func framing(h []byte) (int64, error) {
	_, h, _ = bytes.Cut(h, []byte("\r\n"))
	for len(h) > 0 {
		var line []byte
		line, h, _ = bytes.Cut(h, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")):
			return strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
		case len(name) == len("Transfer-Encoding") && bytes.EqualFold(name, []byte("Transfer-Encoding")):
			return -1, nil
		}
	}
	return 0, fmt.Errorf("no framing: %w", errHead)
}

// fill reads more and returns when it came.
func (c *client) fill() (now int64, err error) {
	if c.r == c.w {
		c.r, c.w = 0, 0
	} else if c.w == len(c.buf) {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	c.reads++
	if n > 0 {
		return simulate.Now(), nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return 0, err
}

// body reads a body to its end.
func (c *client) body(length int64) error {
	if length < 0 {
		return c.chunks()
	}
	now := simulate.Now()
	for {
		n := min(length, int64(c.w-c.r))
		if err := c.check.feed(c.buf[c.r:c.r+int(n)], now); err != nil {
			return err
		}
		c.r += int(n)
		if length -= n; length == 0 {
			return c.check.end()
		}
		var err error
		if now, err = c.fill(); err != nil {
			return err
		}
	}
}

// chunks reads a chunked body.
func (c *client) chunks() error {
	now := simulate.Now()
	for {
		size, err := c.chunkSize(&now)
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		for {
			n := min(size, c.w-c.r)
			if err := c.check.feed(c.buf[c.r:c.r+n], now); err != nil {
				return err
			}
			c.r += n
			if size -= n; size == 0 {
				break
			}
			if now, err = c.fill(); err != nil {
				return err
			}
		}
		if err := c.crlf(&now); err != nil {
			return err
		}
	}
	if err := c.crlf(&now); err != nil { // no trailers are expected
		return err
	}
	return c.check.end()
}

func (c *client) chunkSize(now *int64) (int, error) {
	for {
		if i := bytes.IndexByte(c.buf[c.r:c.w], '\n'); i > 0 {
			n, err := strconv.ParseUint(string(bytes.TrimRight(c.buf[c.r:c.r+i], "\r")), 16, 31)
			c.r += i + 1
			if err != nil {
				return 0, errHead
			}
			return int(n), nil
		}
		if c.w-c.r > 32 {
			return 0, errHead
		}
		var err error
		if *now, err = c.fill(); err != nil {
			return 0, err
		}
	}
}

func (c *client) crlf(now *int64) (err error) {
	for c.w-c.r < 2 {
		if *now, err = c.fill(); err != nil {
			return err
		}
	}
	if c.buf[c.r] != '\r' || c.buf[c.r+1] != '\n' {
		return errHead
	}
	c.r += 2
	return nil
}
