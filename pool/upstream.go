package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"streamrelay/configs"
)

// ErrBusy says that an upstream has as many connections as it may have, and
// none came free in time.
var ErrBusy = errors.New("upstream has no free connection")

// Upstream is one provider endpoint: where it is, how the credential is
// presented, its state and its connections. Immutable but for state,
// connections and counters; safe for concurrent use.
type Upstream struct {
	Name     string
	Index    int // its place in the configuration
	Dialect  configs.Dialect
	Timeouts configs.Timeouts
	Priority int
	Weight   int
	// AsksUsage: it may be asked for a stream's usage, by stream_options.
	AsksUsage bool

	// Host is the value of the Host header; Path the base URL's path without a
	// trailing slash, which stands in place of the client's leading /v1.
	Host string
	Path string

	// Credentials are what may be presented, at least one; where the upstream
	// wants none, one that presents nothing.
	Credentials []*Credential
	// Named are the names of credentials by their Index. One that the
	// configuration before had keeps its place, used or not, since exchanges
	// that began with it are yet to be recorded.
	Named []string
	// Set and Remove are the configured changes to what is sent: Set is ready
	// header lines, Remove (and the names in Set) lower-case names.
	Set    []byte
	Remove []string

	cfg       configs.Upstream // what it was made of
	presents  configs.Dialect  // how credentials are presented
	circuit   circuit
	down      atomic.Bool            // its health check fails
	unhealthy atomic.Pointer[string] // why; nil: it does not
	onChange  func(Change)           // nil: nobody listens

	dialer  *dialer
	client  *fasthttp.HostClient
	acquire func() (*Conn, error)
	release func(*Conn)
	discard func(*Conn)

	files   string             // stamp of those that it was made with
	stop    context.CancelFunc // ends what runs beside exchanges
	closed  atomic.Bool
	running sync.WaitGroup
}

// newUpstream builds the upstream that cfg describes; it connects to nothing.
// named are the credentials that it had before, ctx ends its connecting.
func newUpstream(ctx context.Context, index int, cfg *configs.Upstream, named []string, buffers *Buffers, onChange func(Change)) (*Upstream, error) {
	base, err := url.Parse(cfg.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("parse base_url of upstream %q: %w", cfg.Name, err)
	}
	living, stop := context.WithCancel(ctx)
	u := &Upstream{
		Name: cfg.Name, Index: index, Dialect: cfg.Dialect, Timeouts: cfg.Timeouts,
		Priority: cfg.Priority, Weight: cfg.Weight, AsksUsage: cfg.AsksUsage(),
		Host: base.Host, Path: strings.TrimRight(base.EscapedPath(), "/"),
		Named: slices.Clone(named), cfg: *cfg, files: stampOf(cfg), circuit: circuit{cfg: cfg.Circuit}, onChange: onChange, stop: stop,
	}
	if u.presents = cfg.Dialect; u.OpenAISurface() && u.Dialect == configs.Gemini {
		u.presents = configs.OpenAI
	}
	if u.dialer, err = newDialer(living, base, cfg, &u.running); err != nil {
		stop()
		return nil, err
	}
	u.addCredentials(base, cfg)
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
		Addr:                u.dialer.addr,
		MaxConns:            maxConns,
		MaxConnWaitTimeout:  cfg.ConnectionWait,
		MaxIdleConnDuration: cfg.IdleTimeout,
		Dial: func(string) (net.Conn, error) {
			// In a goroutine of its own, since dialling and TLS handshakes
			// use a deep stack, which the caller would keep for as long as
			// its stream lasts.
			done := make(chan dialled, 1)
			go func() { done <- u.dialer.connect(ctx, u, buffers) }()
			r := <-done
			if r.err != nil {
				return nil, r.err // not r.conn: a nil *Conn is no nil net.Conn
			}
			return r.conn, nil
		},
	}
	lend(u, u.client.AcquireConn, u.client.ReleaseConn, u.client.CloseConn)
	if cfg.HealthCheck.Path != "" {
		u.running.Go(func() { u.checkHealth(living, base, cfg) })
	}
	return u, nil
}

// OpenAISurface reports whether the base URL names the OpenAI-compatible part of
// Azure (/openai/v1) or Gemini (/v1beta/openai).
func (u *Upstream) OpenAISurface() bool {
	return u.Dialect == configs.Azure && strings.HasSuffix(u.Path, "/v1") ||
		u.Dialect == configs.Gemini && strings.HasSuffix(u.Path, "/openai")
}

// addCredentials makes the credentials, with shares of the upstream's weight.
func (u *Upstream) addCredentials(base *url.URL, cfg *configs.Upstream) {
	credentials := cfg.Credentials
	if len(credentials) == 0 {
		credentials = []configs.Credential{{Weight: 1}}
	}
	sum := 0
	for _, c := range credentials {
		sum += max(c.Weight, 1)
	}
	for i, c := range credentials {
		name := c.Name
		if name == "" {
			name = strconv.Itoa(i)
		}
		named := name
		if len(cfg.Credentials) == 0 {
			named = "" // records name none
		}
		at := slices.Index(u.Named, named)
		if at < 0 {
			at = len(u.Named)
			u.Named = append(u.Named, named)
		}
		u.Credentials = append(u.Credentials, &Credential{
			Index: at, Name: name, Upstream: u, value: c.Value.Reveal(), account: new(Account),
			weight: float64(max(cfg.Weight, 1)) * float64(max(c.Weight, 1)) / float64(sum),
		})
	}
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
	u.release = func(c *Conn) {
		release(c.lease.(C))
		if u.closed.Load() {
			u.CloseIdle() // nobody comes to use it
		}
	}
	u.discard = func(c *Conn) { discard(c.lease.(C)) }
}

// Acquire returns a connection for one exchange: an idle one that is still
// alive, or a new one, for which it may wait Timeouts.Connect; before it, where
// all are in use, for one to come free. The caller owns it and ends with Release
// or Discard. The error is ErrBusy, or the dialler's.
func (u *Upstream) Acquire() (*Conn, error) {
	began := Now()
	for {
		c, err := u.acquire()
		if err != nil {
			if errors.Is(err, fasthttp.ErrNoFreeConns) {
				return nil, ErrBusy
			}
			return nil, err
		}
		// One dialled for a waiter that gave up has lain idle since.
		c.Reused = c.Reused || c.dialled < began
		if !c.Reused || c.Alive() && !u.dialer.names.lost(c) {
			return c, nil
		}
		c.Discard()
	}
}

// Connections returns how many connections are open, and how many of them idle.
func (u *Upstream) Connections() (open, idle int) {
	return u.client.ConnsCount(), u.client.IdleConnsCount()
}

// CloseIdle closes the connections that nobody uses.
func (u *Upstream) CloseIdle() { u.client.CloseIdleConnections() }

// close ends what runs beside exchanges, and closes idle connections, those
// in use when their exchange ends.
func (u *Upstream) close() {
	u.stop()
	u.closed.Store(true)
	u.CloseIdle()
	u.running.Wait()
}
