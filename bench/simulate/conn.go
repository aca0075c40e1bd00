package simulate

import (
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"time"
)

// conn serves one connection. Everything in it belongs to its one goroutine,
// which waits for the client and for the next event's time in the same read
// (the pacer interrupts it), so that a client that leaves is seen at once.
type conn struct {
	p   *Provider
	nc  net.Conn
	raw *net.TCPConn // under TLS, the socket

	buf   []byte // what came: buf[r:w] is not yet used
	r, w  int
	body  []byte
	out   []byte // what goes: collected here, then written at once
	event []byte // one event, before it is framed
	pace  wait   // its place with the pacer
	armed bool   // a read deadline may be set

	started time.Time // when the current request's body had been read
	answer  answer
	head    head

	simulate   []byte // the last X-Simulate and what it meant
	profile    Profile
	bodies     bodyMemo
	presented  []byte // the last credential and its count
	credential *credential
	rand       *rand.Rand
	recorded   []time.Duration // the answer's line of the trace
	gaps       int             // of which taken
}

const readBuffer = 4 << 10

func newConn(p *Provider, raw *net.TCPConn) *conn {
	c := &conn{p: p, nc: raw, raw: raw, buf: make([]byte, readBuffer), profile: p.options.Profile}
	if p.options.TLS != nil {
		c.nc = tls.Server(raw, p.options.TLS)
	}
	c.pace = wait{at: -1, wake: c.wake}
	return c
}

func (c *conn) serve() {
	for c.once() {
		if c.r == c.w {
			c.r, c.w = 0, 0
			if len(c.buf) > maxHead {
				c.buf = make([]byte, readBuffer)
			}
		}
		if cap(c.body) > maxHead {
			c.body = nil
		}
		if cap(c.out) > maxHead {
			c.out, c.event = nil, nil
		}
	}
}

// once serves one request and reports whether the connection goes on.
func (c *conn) once() bool {
	if c.armed && !c.disarm() {
		return false
	}
	c.out = c.out[:0]
	if err := c.readHead(&c.head); err != nil {
		return c.refuse(err)
	}
	h := &c.head
	// Both look into the read buffer, so before the body is read.
	profileErr := c.readProfile(h.simulate)
	c.readCredential(h.presented)
	body, err := c.readBody(h)
	if err != nil {
		return c.refuse(err)
	}
	c.started = time.Now()
	if h.internal != "" {
		return c.serveInternal()
	}
	c.p.stats.requests.Add(1)
	c.p.stats.routes.add(h.route.name)
	a := &c.answer
	*a = answer{profile: c.profile, id: c.profile.ID, model: h.route.model}
	if a.id == "" {
		a.id = "sim" + strconv.FormatInt(c.p.stats.requests.Load(), 10)
	}
	if c.credential == nil {
		c.p.stats.unauthorized.Add(1)
		return c.problem(401, "no or wrong credential")
	}
	c.p.stats.seen(c.credential)
	if profileErr != nil {
		return c.problem(400, profileErr.Error())
	}
	if h.route.shape == &unknownShape {
		return c.problem(404, "no such route")
	}
	if h.route.drop {
		body = nil
	}
	if a.profile.Dist == Traced {
		if len(c.p.options.Trace) == 0 {
			return c.problem(400, "X-Simulate dist=trace: the provider was started without --trace")
		}
		c.recorded, c.gaps = c.p.nextRecorded(), 0
	}
	if err := c.bodies.read(body, a); err != nil {
		return c.problem(400, "body is not JSON: "+err.Error())
	}
	if a.profile.Error != 0 {
		if !c.wait(c.started.Add(a.profile.TTFT)) {
			return c.cancelled(beforeHead)
		}
		return c.problem(a.profile.Error, "simulated error")
	}
	if h.route.stream == always || h.route.stream == asked && a.stream {
		return c.stream()
	}
	return c.whole()
}

// refuse ends a connection whose request cannot be read; it always returns
// false.
func (c *conn) refuse(err error) bool {
	if errors.Is(err, errHead) {
		c.head = head{route: route{shape: &unknownShape}, close: true}
		c.answer = answer{id: "none"}
		c.problem(400, err.Error())
	}
	return false
}

func (c *conn) readProfile(value []byte) error {
	if string(value) == string(c.simulate) {
		return nil
	}
	p, err := ParseProfile(c.p.options.Profile, value)
	if err != nil {
		c.simulate, c.profile = nil, c.p.options.Profile
		return err
	}
	c.simulate, c.profile = append(c.simulate[:0], value...), p
	return nil
}

func (c *conn) readCredential(value []byte) {
	if len(value) > 0 && string(value) == string(c.presented) {
		return
	}
	c.presented, c.credential = append(c.presented[:0], value...), nil
	if len(value) > 0 && (c.p.options.Key == "" || c.p.options.Key == string(value)) {
		c.credential = c.p.stats.credential(value)
	}
}

// fill reads more into the buffer, which it may move.
func (c *conn) fill() error {
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) {
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// wait returns true at due, or once a freeze has passed, and false as soon as
// the client is gone.
func (c *conn) wait(due time.Time) bool {
	for {
		if !c.waitOnce(due) {
			return false
		}
		left := c.p.frozen.Load() - Now()
		if left <= 0 {
			return true
		}
		due = time.Now().Add(time.Duration(left))
	}
}

// waitOnce is wait without freezes. A client that has sent its next requests
// already is watched until those fill a buffer.
func (c *conn) waitOnce(due time.Time) bool {
	left := time.Until(due)
	if left <= 0 {
		return true
	}
	if c.armed && !c.disarm() {
		return false
	}
	c.armed = true
	c.p.pacer.add(&c.pace, Now()+int64(left))
	defer c.p.pacer.remove(&c.pace)
	for {
		if c.w-c.r >= maxHead {
			time.Sleep(time.Until(due))
			return true
		}
		if err := c.fill(); err != nil {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

// wake interrupts the connection's read; the pacer calls it.
func (c *conn) wake() { _ = c.nc.SetReadDeadline(time.Unix(1, 0)) }

// disarm lets the connection read again. The pacer must not know of it.
func (c *conn) disarm() bool {
	c.armed = false
	return c.nc.SetReadDeadline(time.Time{}) == nil
}

// flush writes what was collected.
func (c *conn) flush() bool {
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err == nil
}

// cut ends the connection as a crash would: no close_notify, no last chunk. It
// always returns false.
func (c *conn) cut() bool {
	if c.answer.profile.Reset {
		_ = c.raw.SetLinger(0)
	}
	_ = c.raw.Close()
	return false
}
