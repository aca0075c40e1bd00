package simulate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what is remembered.
const (
	maxCancels     = 16 << 10
	maxCredentials = 1000
)

// counters are what the provider has seen; /sim/stats shows them.
type counters struct {
	requests     atomic.Int64
	errors       atomic.Int64
	unauthorized atomic.Int64
	streams      atomic.Int64
	open         atomic.Int64
	events       atomic.Int64
	bodyBytes    atomic.Int64
	connections  atomic.Int64
	connected    atomic.Int64
	routes       routeCounters
	last         atomic.Pointer[credential]

	mu          sync.Mutex // protects what follows
	cancels     map[string]int64
	cancelled   []Cancel // the newest maxCancels that had an id, as a ring
	next        int
	credentials map[string]*credential
}

// credential is one that clients presented; only its digest is kept.
type credential struct {
	digest   string
	requests atomic.Int64
}

// routeCounters count requests by route name. The set of names is fixed.
type routeCounters struct{ byName map[string]*atomic.Int64 }

func newRouteCounters() routeCounters {
	r := routeCounters{byName: map[string]*atomic.Int64{}}
	for _, name := range []string{"model", "gemini.stream", "gemini.generate", "unknown"} {
		r.byName[name] = new(atomic.Int64)
	}
	for i := range routes {
		r.byName[routes[i].route.name] = new(atomic.Int64)
	}
	return r
}

func (r routeCounters) add(name string) { r.byName[name].Add(1) }

// Cancel is one client that left before its answer was complete.
type Cancel struct {
	ID    string        `json:"id"`       // as X-Simulate named it
	Phase string        `json:"phase"`    // before_head, mid_stream or non_stream
	At    int64         `json:"at_ns"`    // when the provider saw it: Now
	After time.Duration `json:"after_ns"` // since the request had been read
}

// Stats is the provider's view of what it has served.
type Stats struct {
	Requests        int64            `json:"requests"` // read to the last byte of their body
	ByRoute         map[string]int64 `json:"by_route"`
	Errors          int64            `json:"errors"`       // answers with a status of 400 and above
	Unauthorized    int64            `json:"unauthorized"` // of which without a credential, or with a wrong one
	Streams         int64            `json:"streams"`
	StreamsOpen     int64            `json:"streams_open"`
	Events          int64            `json:"events"` // content events sent
	BodyBytes       int64            `json:"body_bytes"`
	Connections     int64            `json:"connections"`
	ConnectionsOpen int64            `json:"connections_open"`
	Cancels         int64            `json:"cancels"` // clients that left before the end of their answer
	CancelsByPhase  map[string]int64 `json:"cancels_by_phase"`
	Credential      string           `json:"credential"`  // SHA-256 of the one presented last, in hex
	Credentials     map[string]int64 `json:"credentials"` // requests by digest
}

func (s *counters) seen(c *credential) {
	c.requests.Add(1)
	if s.last.Load() != c {
		s.last.Store(c)
	}
}

// credential returns the count of a presented value. Above maxCredentials
// different ones, new ones are counted nowhere but as the last.
func (s *counters) credential(value []byte) *credential {
	sum := sha256.Sum256(value)
	digest := hex.EncodeToString(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.credentials[digest]
	if c == nil {
		c = &credential{digest: digest}
		if len(s.credentials) < maxCredentials {
			s.credentials[digest] = c
		}
	}
	return c
}

// cancelled counts a client that left. It always returns false: the connection
// is over.
func (c *conn) cancelled(phase string) bool {
	s := &c.p.stats
	cancel := Cancel{ID: c.answer.profile.ID, Phase: phase, At: Now(), After: time.Since(c.started)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.p.closing.Load() {
		return false // it is the provider that left
	}
	s.cancels[phase]++
	if cancel.ID == "" {
		return false
	}
	if len(s.cancelled) < maxCancels {
		s.cancelled = append(s.cancelled, cancel)
	} else {
		s.cancelled[s.next%maxCancels] = cancel
	}
	s.next++
	return false
}

// Stats returns what was served so far.
func (p *Provider) Stats() Stats {
	s := &p.stats
	st := Stats{
		Requests: s.requests.Load(), Errors: s.errors.Load(), Unauthorized: s.unauthorized.Load(),
		Streams: s.streams.Load(), StreamsOpen: s.open.Load(), Events: s.events.Load(), BodyBytes: s.bodyBytes.Load(),
		Connections: s.connections.Load(), ConnectionsOpen: s.connected.Load(),
		ByRoute: map[string]int64{}, CancelsByPhase: map[string]int64{}, Credentials: map[string]int64{},
	}
	for name, n := range s.routes.byName {
		if n := n.Load(); n > 0 {
			st.ByRoute[name] = n
		}
	}
	if c := s.last.Load(); c != nil {
		st.Credential = c.digest
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for phase, n := range s.cancels {
		st.CancelsByPhase[phase] = n
		st.Cancels += n
	}
	for digest, c := range s.credentials {
		st.Credentials[digest] = c.requests.Load()
	}
	return st
}

// Cancels returns the newest cancels of requests that had an id, in no order.
func (p *Provider) Cancels() []Cancel {
	p.stats.mu.Lock()
	defer p.stats.mu.Unlock()
	return append([]Cancel{}, p.stats.cancelled...)
}

// serveInternal answers /sim/stats and /sim/cancels, which need no credential.
func (c *conn) serveInternal() bool {
	c.answer = answer{id: "internal"}
	var v any
	path, query, _ := strings.Cut(c.head.internal, "?")
	switch path {
	case "/sim/stats":
		v = c.p.Stats()
	case "/sim/cancels":
		v = c.p.Cancels()
	case "/sim/freeze":
		d, err := duration(strings.TrimPrefix(query, "for="))
		if err != nil {
			c.head.route.shape = &unknownShape
			return c.problem(400, "freeze for how long? /sim/freeze?for=2s")
		}
		c.p.Freeze(d)
		v = map[string]string{"frozen_for": d.String()}
	default:
		c.head.route.shape = &unknownShape
		return c.problem(404, "no such page; there are /sim/stats, /sim/cancels and /sim/freeze?for=2s")
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return false // BUG: plain numbers and strings
	}
	c.startHead(200, "application/json")
	c.endHead(len(b) + 1)
	c.out = append(append(c.out, b...), '\n')
	return c.flush() && !c.head.close
}

// random is seeded by the clock: jitter is not meant to be repeatable.
func (c *conn) random() *rand.Rand {
	if c.rand == nil {
		c.rand = rand.New(rand.NewPCG(uint64(Now()), uint64(c.p.stats.connections.Load())))
	}
	return c.rand
}
