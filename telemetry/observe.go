package telemetry

import (
	"crypto/sha256"
	"encoding/hex"
)

// Observe counts one finished exchange, writes its access line and hands it to
// the sink. Its owner calls it exactly once, when the last byte has gone and r
// will not change any more; r and what it points to are the caller's again when
// it returns. It allocates nothing and waits for no I/O; once the series of r
// exist it takes no lock but the log buffer's, for a copy.
func (t *Telemetry) Observe(r *Request) {
	us, endpoint := t.upstream(r.Upstream), t.endpoint(r.Endpoint)
	p := t.pair(t.model(r), us)

	code := t.codes.index(r.Status)
	t.requests(p, endpoint, code).Inc()
	t.responses[classIndex(code)].Inc()
	t.ends[r.End.Known()].Inc()
	t.duration(us, endpoint).observe(r.Duration)
	if us != t.none {
		t.observeUpstream(r, us, p)
	}
	if r.Overhead > 0 {
		t.overhead.observe(r.Overhead)
	}
	if r.Delays != nil && r.Delays.N > 0 {
		t.chunkOverhead.merge(r.Delays.Counts[:], r.Delays.Sum)
	}
	if r.Cancel > 0 {
		t.cancel.observe(r.Cancel)
	}
	if len(r.Tenant) > 0 {
		t.observeTenant(r)
	}
	if t.access.Load() {
		t.logAccess(r, us, endpoint)
	}
	if t.sink != nil {
		t.sink(r)
	}
}

// observeUpstream counts what the upstream of r did.
func (t *Telemetry) observeUpstream(r *Request, us *upstreamSeries, p *pairSeries) {
	if f := failure(r); f != FailureNone {
		us.errors[f].Inc()
	}
	if r.UpstreamHead > 0 {
		us.head.observe(r.UpstreamHead)
	}
	answered := r.UpstreamStatus >= 200 && r.UpstreamStatus < 300
	if r.Stream && answered {
		us.streams.Inc()
		if by := abortBy(r.End); by != notAborted {
			t.aborts[by].Inc()
		}
	}
	if r.FirstEvent > 0 {
		us.firstEvent.observe(r.FirstEvent)
	}
	if r.TTFT > 0 {
		t.pairHistogram(&p.ttft, p, us, nameTTFT, t.bounds.ttft).observe(r.TTFT)
	}
	if r.Gaps != nil && r.Gaps.N > 0 {
		t.pairHistogram(&p.gaps, p, us, nameGaps, t.bounds.gaps).merge(r.Gaps.Counts[:], r.Gaps.Sum)
	}
	if r.UsageSource == UsageUnknown {
		if answered && len(r.Model) > 0 {
			p.unknown.Inc()
		}
		return
	}
	u := &r.Usage
	for i, n := range [len(tokenTypes)]int64{u.Input, u.Output, u.Cached, u.CacheWrite, u.Reasoning} {
		if n > 0 {
			p.tokens[i].AddInt64(n)
		}
	}
}

// observeTenant counts r for its tenant.
func (t *Telemetry) observeTenant(r *Request) {
	table := t.tenants.Load()
	s := table.m[string(r.Tenant)]
	if s == nil {
		s = t.otherTenant
		if table.room > 0 && labelText(r.Tenant, maxTenantLabel) {
			s = t.addTenant(string(r.Tenant))
		}
	}
	s.requests.Inc()
	if r.UsageSource == UsageUnknown {
		return
	}
	if r.Usage.Input > 0 {
		s.input.AddInt64(r.Usage.Input)
	}
	if r.Usage.Output > 0 {
		s.output.AddInt64(r.Usage.Output)
	}
}

// addTenant gives a tenant series of its own, if there is still room.
func (t *Telemetry) addTenant(name string) *tenantSeries {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := t.tenants.Load()
	if s := table.m[name]; s != nil {
		return s
	}
	if table.room == 0 || !t.budget.take(3, label("tenant", name), budgetReserve) {
		return t.otherTenant
	}
	s := t.newTenant(name)
	t.tenants.Store(table.with(name, s, true))
	return s
}

func (t *Telemetry) newTenant(name string) *tenantSeries {
	labels := label("tenant", name)
	return &tenantSeries{
		requests: t.counter("relay_tenant_requests_total", labels),
		input:    t.counter("relay_tenant_tokens_total", labels+","+label("type", "input")),
		output:   t.counter("relay_tenant_tokens_total", labels+","+label("type", "output")),
	}
}

// model returns the series of the model of r. Until there are maxDiscovered, a
// name that an upstream has just answered with 2xx becomes one of its own: a
// client cannot invent one.
func (t *Telemetry) model(r *Request) *modelSeries {
	if len(r.Model) == 0 {
		return t.noModel
	}
	table := t.models.Load()
	if m := table.m[string(r.Model)]; m != nil {
		return m
	}
	if table.room == 0 || r.UpstreamStatus < 200 || r.UpstreamStatus > 299 || !labelText(r.Model, maxModelLabel) {
		return t.otherModel
	}
	return t.addModel(string(r.Model))
}

func (t *Telemetry) addModel(name string) *modelSeries {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := t.models.Load()
	if m := table.m[name]; m != nil {
		return m
	}
	if table.room == 0 {
		return t.otherModel
	}
	m := &modelSeries{name: name}
	t.models.Store(table.with(name, m, true))
	return m
}

// upstream returns the series of an index that Register gave, or of "none".
func (t *Telemetry) upstream(index int) *upstreamSeries {
	if known := *t.upstreams.Load(); index >= 0 && index < len(known) {
		return known[index]
	}
	return t.none
}

func (t *Telemetry) endpoint(index int) int {
	if index < 0 || index >= len(t.endpoints) {
		return t.otherEndpoint
	}
	return index
}

// Rejected counts a request or connection that the relay turned away.
func (t *Telemetry) Rejected(why RejectReason) { t.rejected[why].Inc() }

// RateLimited counts a request refused by a limit.
func (t *Telemetry) RateLimited(why LimitReason) { t.limited[why].Inc() }

// AuthFailed counts a request refused for its key.
func (t *Telemetry) AuthFailed(why AuthReason) { t.authFailed[why].Inc() }

// Retried counts an attempt at an upstream that failed and is followed by
// another one, wherever that goes. The last attempt is counted by Observe.
func (t *Telemetry) Retried(upstream int, why UpstreamFailure) {
	us := t.upstream(upstream)
	if us == t.none {
		return
	}
	if why == FailureNone || why >= numUpstreamFailures {
		why = FailureUnknown
	}
	us.errors[why].Inc()
	us.retries.Inc()
}

// SetAccess switches the log line of each request on or off.
func (t *Telemetry) SetAccess(on bool) { t.access.Store(on && t.log != nil) }

// Reloaded says whether a configuration was put in force (true) or refused.
func (t *Telemetry) Reloaded(ok bool) {
	if !ok {
		t.reload.ok.Store(0)
		return
	}
	t.reload.at.Store(t.now().UnixMilli())
	t.reload.ok.Store(1)
}

// ConfigHash shows the first 64 bits of the SHA-256 of the configuration in
// force, in the place of the former one. text must not hold a secret in clear:
// whoever reads the metrics could check a guess by it.
func (t *Telemetry) ConfigHash(text []byte) {
	digest := sha256.Sum256(text)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.configHashLocked(hex.EncodeToString(digest[:8]))
}

func (t *Telemetry) configHashLocked(hash string) {
	t.publishLocked(nameConfigHash, t.configHash, nil)
	t.configHash = label("hash", hash)
	t.publishLocked(nameConfigHash, t.configHash, func() float64 { return 1 })
}
