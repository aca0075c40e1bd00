package proxy

import (
	"encoding/json"
	"net/http"

	"streamrelay/pool"
	"streamrelay/telemetry"
)

// upstreamChanged logs a change of an upstream's state; the pool calls it from
// whatever goroutine saw it.
func (s *Server) upstreamChanged(c pool.Change) {
	e := s.log.Warn()
	if c.To == pool.StateUp {
		e = s.log.Info()
	}
	e = e.Str("upstream", c.Upstream).Str("state", string(c.To)).Str("why", c.Why)
	if c.Credential != "" {
		e = e.Str("credential", c.Credential)
	}
	if c.For > 0 {
		e = e.Float64("for_s", c.For.Seconds())
	}
	if c.To != pool.StateUp && s.onlyAccount() {
		e = e.Str("effect", "none: it is the only account, and is asked all the same")
	}
	e.Msg("upstream state")
}

// onlyAccount tells whether every route ends at the same account.
func (s *Server) onlyAccount() bool {
	set := s.settings.Load()
	return set != nil && len(set.routing.set.Upstreams) == 1 && len(set.routing.set.Upstreams[0].Credentials) == 1
}

// upstreamStates is GET /upstreams of the admin listener.
func (s *Server) upstreamStates(w http.ResponseWriter, _ *http.Request) {
	r := s.settings.Load().routing
	now := s.now()
	list := make([]pool.Status, 0, len(r.set.Upstreams))
	for _, u := range r.set.Upstreams {
		list = append(list, u.Status(now))
	}
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(map[string]any{"upstreams": list}) // the reader's business
}

// series is one that is published.
type series struct{ name, labels string }

// publishUpstreams shows each upstream's connections and states in the metrics,
// and takes away what is shown of upstreams that are gone.
func (s *Server) publishUpstreams(r *routing) {
	s.tel.Describe("relay_upstream_connections", "Open connections to the upstream.")
	s.tel.Describe("relay_upstream_inflight", "Attempts at the upstream under way now.")
	s.tel.Describe("relay_upstream_state", "1 for the state that the upstream is in: up, open (left alone after failures), half_open (one exchange finds out), down (its health check fails).")
	s.tel.Describe("relay_upstream_credential_state", "1 for the state that the credential is in: up, resting (a model's limit was reached), refused (the provider does not take it).")
	now := make(map[series]bool)
	gauge := func(name, labels string, f func() float64) {
		now[series{name, labels}] = true
		s.tel.Gauge(name, labels, f)
	}
	for _, u := range r.set.Upstreams {
		s.publishUpstream(u, gauge)
	}
	for old := range s.published {
		if !now[old] {
			s.tel.Gauge(old.name, old.labels, nil)
		}
	}
	s.published = now
}

func (s *Server) publishUpstream(u *pool.Upstream, gauge func(name, labels string, f func() float64)) {
	name := telemetry.Label("upstream", u.Name)
	gauge("relay_upstream_connections", name+`,state="open"`, func() float64 {
		open, _ := u.Connections()
		return float64(open)
	})
	gauge("relay_upstream_connections", name+`,state="idle"`, func() float64 {
		_, idle := u.Connections()
		return float64(idle)
	})
	gauge("relay_upstream_inflight", name, func() (n float64) {
		for _, c := range u.Credentials {
			n += float64(c.InFlight())
		}
		return n
	})
	for _, state := range [...]pool.State{pool.StateUp, pool.StateOpen, pool.StateHalfOpen, pool.StateDown} {
		gauge("relay_upstream_state", name+","+telemetry.Label("state", string(state)), func() float64 {
			return truth(u.State(s.now()) == state)
		})
	}
	for _, c := range u.Credentials {
		for _, state := range [...]pool.State{pool.StateUp, pool.StateResting, pool.StateRefused} {
			labels := name + "," + telemetry.Label("credential", c.Name) + "," + telemetry.Label("state", string(state))
			gauge("relay_upstream_credential_state", labels, func() float64 { return truth(c.State(s.now()) == state) })
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
