package blackbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"streamrelay/auth"
	"streamrelay/configs"
	"streamrelay/proxy"
	"streamrelay/telemetry"
)

const (
	// testKey is the client's, upstreamKey the relay's own.
	testKey     = "sk-relay-test-key-123"
	upstreamKey = "sk-upstream-secret-987"
	// patience ends a test that would otherwise hang. No test asserts a time.
	patience = 20 * time.Second
)

// relay is a relay under test, serving on a loopback port.
type relay struct {
	t    testing.TB
	srv  *proxy.Server
	tel  *telemetry.Telemetry
	addr string
	log  *logBuffer
	stop func(context.Context) error // shuts the server down; the first call counts

	mu      sync.Mutex // protects records and came
	records []record
	came    chan struct{} // closed and made anew with each record
}

// record is a copy of a finished exchange; the texts shadow the embedded bytes.
type record struct {
	telemetry.Request
	RequestID, Tenant, Model, Method, Path, UserAgent, UpstreamRequestID string
	RequestBody, AnswerBody                                              string
	Gaps                                                                 telemetry.Gaps
	Delays                                                               telemetry.Delays
}

// option changes how startRelay builds the relay.
type option struct {
	keys    []*auth.Record
	ready   func() error
	silent  bool        // no records, no log kept: for what counts allocations
	panics  bool        // panics are what the test is about
	store   *auth.Store // instead of the test's own keys
	noCheck bool        // the test leaves exchanges behind on purpose
}

// key returns a record for a key that may act for the tenants given.
func key(id, text string, tenants ...string) *auth.Record {
	return &auth.Record{ID: id, Name: id, Digest: auth.DigestOf(nil, []byte(text)), Tenants: tenants}
}

// relayTo starts a relay in front of up with an upstream of each dialect, named
// openai, anthropic, gemini and azure, whose base URLs have the paths /oai/v1,
// /ant/v1, /gem/v1beta and /azu. more is further YAML: whole sections, except
// upstreams and admin.
func relayTo(t testing.TB, up *upstream, more string, options ...option) *relay {
	t.Helper()
	return startRelay(t, upstreamsYAML(up, "")+more, options...)
}

// upstreamsYAML is the upstreams section of relayTo; keys are further keys of
// each upstream, such as "max_connections: 1, ".
func upstreamsYAML(up *upstream, keys string) string {
	var b strings.Builder
	b.WriteString("upstreams:\n")
	for _, u := range [...][2]string{{"openai", "/oai/v1"}, {"anthropic", "/ant/v1"}, {"gemini", "/gem/v1beta"}, {"azure", "/azu"}} {
		ca := ""
		if up.caFile != "" {
			ca = "ca_file: " + strconv.Quote(up.caFile) + ", "
		}
		fmt.Fprintf(&b, "  - {name: %s, dialect: %s, base_url: %q, %s%scredentials: [{value: %s}]}\n",
			u[0], u[0], up.url+u[1], ca, keys, upstreamKey)
	}
	return b.String()
}

// startRelay starts a relay with the configuration yaml, whose metrics stand on
// the public listener, and ends it with the test.
func startRelay(t testing.TB, yaml string, options ...option) *relay {
	t.Helper()
	var o option
	for _, one := range options {
		o.keys = append(o.keys, one.keys...)
		o.silent, o.panics, o.noCheck = o.silent || one.silent, o.panics || one.panics, o.noCheck || one.noCheck
		if one.store != nil {
			o.store = one.store
		}
		if one.ready != nil {
			o.ready = one.ready
		}
	}
	noEnv := func(string) (string, bool) { return "", false }
	cfg, err := configs.Parse("test", []byte("admin: {listen: \"\"}\n"+yaml), noEnv)
	if err != nil {
		t.Fatalf("parse configuration:\n%s\n%v", yaml, err)
	}
	rl := &relay{t: t, log: new(logBuffer), came: make(chan struct{})}
	var out io.Writer = rl.log
	if o.silent {
		out = io.Discard
	}
	log := telemetry.NewLog(out, "debug")
	names := make([]string, len(cfg.Upstreams))
	for i, u := range cfg.Upstreams {
		names[i] = u.Name
	}
	opts := telemetry.Options{
		Version: "test", Endpoints: proxy.EndpointNames(), Upstreams: names,
		Access: cfg.Log.Access, Log: log, Sink: rl.keep,
	}
	if o.silent {
		opts.Sink = nil
	}
	rl.tel = telemetry.New(opts)
	keys := append([]*auth.Record{key("k1", testKey, "acme")}, o.keys...)
	po := proxy.Options{Config: cfg, Keys: auth.NewStatic(keys...), Telemetry: rl.tel, Log: log, Ready: o.ready}
	if o.store != nil {
		po.Keys, po.Admit = o.store.Table(), o.store.Admit
	}
	rl.srv, err = proxy.New(po)
	if err != nil {
		t.Fatalf("new server: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rl.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- rl.srv.Serve(ln) }()
	var once sync.Once
	var stopped error
	rl.stop = func(ctx context.Context) error {
		once.Do(func() { stopped = rl.srv.Shutdown(ctx) })
		return stopped
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := rl.stop(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if !o.noCheck {
			rl.checkIdle()
		}
		if n := rl.tel.Panics.Get(); n != 0 && !o.panics {
			t.Errorf("%d panics", n)
		}
		if err := log.Close(); err != nil {
			t.Errorf("close log: %v", err)
		}
		if t.Failed() {
			t.Logf("relay's log:\n%s", rl.log)
		}
	})
	return rl
}

// keep is the relay's sink.
func (rl *relay) keep(r *telemetry.Request) {
	c := record{
		Request: *r, RequestID: string(r.RequestID), Tenant: string(r.Tenant), Model: string(r.Model),
		Method: string(r.Method), Path: string(r.Path), UserAgent: string(r.UserAgent), UpstreamRequestID: string(r.UpstreamRequestID),
		RequestBody: string(r.RequestBody), AnswerBody: string(r.AnswerBody),
	}
	if r.Gaps != nil {
		c.Gaps = *r.Gaps
	}
	if r.Delays != nil {
		c.Delays = *r.Delays
	}
	// Parts of pooled memory, the relay's again when this returns.
	q := &c.Request
	q.RequestID, q.Tenant, q.Model, q.Method, q.Path, q.UserAgent, q.Gaps = nil, nil, nil, nil, nil, nil, nil
	q.UpstreamRequestID, q.Delays, q.RequestBody, q.AnswerBody = nil, nil, nil, nil
	rl.mu.Lock()
	rl.records = append(rl.records, c)
	close(rl.came)
	rl.came = make(chan struct{})
	rl.mu.Unlock()
}

// wait returns the records once there are n, and fails the test when there are
// more or they do not come.
func (rl *relay) wait(n int) []record {
	rl.t.Helper()
	limit := time.After(patience)
	for {
		rl.mu.Lock()
		got, came := rl.records, rl.came
		rl.mu.Unlock()
		if len(got) > n {
			rl.t.Fatalf("%d records, want %d: %+v", len(got), n, got)
		}
		if len(got) == n {
			return got[:n:n]
		}
		select {
		case <-came:
		case <-limit:
			rl.t.Fatalf("%d records, want %d", len(got), n)
		}
	}
}

// one returns the only record.
func (rl *relay) one() record { rl.t.Helper(); return rl.wait(1)[0] }

// last returns the n-th record, which is the newest.
func (rl *relay) last(n int) record { rl.t.Helper(); return rl.wait(n)[n-1] }

// eventually polls ok until it holds; what names it in the failure.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// checkIdle fails the test when the relay holds anything of an exchange.
func (rl *relay) checkIdle() {
	rl.t.Helper()
	tel := rl.tel
	idle := func() bool {
		return tel.InFlight.Load() == 0 && tel.ActiveStreams.Load() == 0 && tel.HeldBytes.Load() == 0 && tel.OpenConnections.Load() == 0
	}
	for limit := time.Now().Add(patience); !idle() && time.Now().Before(limit); {
		time.Sleep(time.Millisecond)
	}
	if !idle() {
		rl.t.Errorf("left behind: %d exchanges, %d streams, %d held bytes, %d client connections",
			tel.InFlight.Load(), tel.ActiveStreams.Load(), tel.HeldBytes.Load(), tel.OpenConnections.Load())
	}
}

// metrics scrapes /metrics, by the public listener, into series and values.
func (rl *relay) metrics() map[string]float64 {
	rl.t.Helper()
	c := rl.dial()
	defer c.Close()
	c.send("GET /metrics HTTP/1.1\r\nHost: relay\r\n\r\n")
	a := c.answer()
	if a.status != 200 || a.err != nil {
		rl.t.Fatalf("scrape: status %d, %v", a.status, a.err)
	}
	m := make(map[string]float64)
	for line := range strings.Lines(string(a.body)) {
		line = strings.TrimSuffix(line, "\n")
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			rl.t.Fatalf("metrics line %q: %v", line, err)
		}
		m[line[:i]] = v
	}
	return m
}

// logBuffer is where the relay's log goes; safe for concurrent use.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > 1<<20 {
		l.b.Reset() // only the newest matters
	}
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
