package pool

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"streamrelay/configs"
)

// ErrBusy says that an upstream has as many connections as it may have.
var ErrBusy = errors.New("upstream has no free connection")

// Upstream is one provider endpoint: where it is, how the credential is
// presented, and its connections. Immutable but for the connections and
// counters; safe for concurrent use.
type Upstream struct {
	Name     string
	Index    int // its place in the configuration
	Dialect  configs.Dialect
	Timeouts configs.Timeouts
	Priority int
	Weight   int

	// Host is the value of the Host header; Path the base URL's path without a
	// trailing slash, which stands in place of the client's leading /v1.
	Host string
	Path string

	// Credentials are what may be presented; one is chosen per exchange.
	Credentials []Credential
	// Set and Remove are the configured changes to what is sent: Set is ready
	// header lines, Remove (and the names in Set) lower-case names.
	Set    []byte
	Remove []string

	next    atomic.Uint32
	client  *fasthttp.HostClient
	acquire func() (*Conn, error)
	release func(*Conn)
	discard func(*Conn)
}

// Credential is one account of an upstream.
type Credential struct {
	Index int
	value string
}

// AppendTo appends the header line that presents the credential in dialect d.
func (c *Credential) AppendTo(dst []byte, d configs.Dialect) []byte {
	switch d {
	case configs.Anthropic:
		dst = append(dst, "x-api-key: "...)
	case configs.Azure:
		dst = append(dst, "api-key: "...)
	case configs.Gemini:
		dst = append(dst, "x-goog-api-key: "...)
	default:
		dst = append(dst, "Authorization: Bearer "...)
	}
	return append(append(dst, c.value...), "\r\n"...)
}

// NewUpstream builds the upstream that cfg describes; it connects to nothing.
func NewUpstream(index int, cfg *configs.Upstream, buffers *Buffers) (*Upstream, error) {
	base, err := url.Parse(cfg.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("parse base_url of upstream %q: %w", cfg.Name, err)
	}
	useTLS := base.Scheme == "https"
	port := base.Port()
	if port == "" {
		port = "80"
		if useTLS {
			port = "443"
		}
	}
	d, err := newDialer(base.Hostname(), port, useTLS, cfg)
	if err != nil {
		return nil, err
	}
	u := &Upstream{
		Name: cfg.Name, Index: index, Dialect: cfg.Dialect, Timeouts: cfg.Timeouts,
		Priority: cfg.Priority, Weight: cfg.Weight,
		Host: base.Host, Path: strings.TrimRight(base.EscapedPath(), "/"),
	}
	for i, c := range cfg.Credentials {
		for range max(c.Weight, 1) {
			u.Credentials = append(u.Credentials, Credential{Index: i, value: c.Value.Reveal()})
		}
	}
	for name, value := range cfg.Headers.Set {
		u.Set = append(append(append(append(u.Set, name...), ": "...), value.Reveal()...), "\r\n"...)
		u.Remove = append(u.Remove, strings.ToLower(name))
	}
	for _, name := range cfg.Headers.Remove {
		u.Remove = append(u.Remove, strings.ToLower(name))
	}
	maxConns := cfg.MaxConnections
	if maxConns == 0 {
		maxConns = 1 << 30
	}
	u.client = &fasthttp.HostClient{
		Addr:                d.addr,
		MaxConns:            maxConns,
		MaxIdleConnDuration: cfg.IdleTimeout,
		Dial: func(string) (net.Conn, error) {
			// In a goroutine of its own, since dialling and TLS handshakes
			// use a deep stack, which the caller would keep for as long as
			// its stream lasts.
			done := make(chan dialled, 1)
			go func() { done <- d.connect(u, buffers) }()
			r := <-done
			if r.err != nil {
				return nil, r.err // not r.conn: a nil *Conn is no nil net.Conn
			}
			return r.conn, nil
		},
	}
	lend(u, u.client.AcquireConn, u.client.ReleaseConn, u.client.CloseConn)
	return u, nil
}

type leased interface{ Conn() net.Conn }

// lend ties u to a HostClient's connections. The type parameter stands for
// fasthttp's own connection type, whose name is not exported.
func lend[C leased](u *Upstream, acquire func(time.Duration, bool) (C, error), release, discard func(C)) {
	u.acquire = func() (*Conn, error) {
		// No timeout: with one the HostClient would run Dial in a goroutine of
		// its own and leave it behind. Our dialler is bounded by itself.
		cc, err := acquire(0, false)
		if err != nil {
			return nil, err
		}
		c := cc.Conn().(*Conn)
		c.lease = cc
		return c, nil
	}
	u.release = func(c *Conn) { release(c.lease.(C)) }
	u.discard = func(c *Conn) { discard(c.lease.(C)) }
}

// Acquire returns a connection for one exchange: an idle one that is still
// alive, or a new one, for which it may wait Timeouts.Connect. The caller owns
// it and ends with Release or Discard. The error is ErrBusy, or the dialler's.
func (u *Upstream) Acquire() (*Conn, error) {
	for {
		c, err := u.acquire()
		if err != nil {
			if errors.Is(err, fasthttp.ErrNoFreeConns) {
				return nil, ErrBusy
			}
			return nil, err
		}
		if !c.Reused || c.Alive() {
			return c, nil
		}
		c.Discard()
	}
}

// Credential chooses the credential of the next exchange, by weight; nil when
// the upstream has none.
func (u *Upstream) Credential() *Credential {
	switch n := uint32(len(u.Credentials)); n {
	case 0:
		return nil
	case 1:
		return &u.Credentials[0]
	default:
		return &u.Credentials[u.next.Add(1)%n]
	}
}

// Connections returns how many connections are open, and how many of them idle.
func (u *Upstream) Connections() (open, idle int) {
	return u.client.ConnsCount(), u.client.IdleConnsCount()
}

// CloseIdle closes the connections that nobody uses.
func (u *Upstream) CloseIdle() { u.client.CloseIdleConnections() }
