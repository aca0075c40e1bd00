package telemetry

import (
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"
)

const (
	// maxUpstreams have series of their own; further ones share "other". With
	// those that a reload took away, counted over the life of the process.
	maxUpstreams = 32
	slotNone     = maxUpstreams     // no upstream was chosen
	slotOther    = maxUpstreams + 1 // all beyond maxUpstreams
	numSlots     = maxUpstreams + 2

	maxDiscovered = 100 // models that no configuration names
	maxTenants    = 100
)

// tokenTypes are the values of the label type of relay_tokens_total, in the
// order of Usage's fields.
var tokenTypes = [...]string{"input", "output", "cached", "cache_write", "reasoning"}

// Series are made when they are first needed, under Telemetry.mu, and found
// without a lock afterwards: every table below is an array of atomic pointers
// that go from nil to their value once. Where the budget has no room for a new
// series, the pointer is set to the series of "other" instead, so that the
// sums over a label stay exact and the next request asks no more.

// upstreamSeries are the series of one upstream.
type upstreamSeries struct {
	slot     int
	name     string
	duration []atomic.Pointer[Histogram] // by endpoint; that of "other" is never nil
	// Nil in the series of slotNone: what was never asked can neither answer nor fail.
	head, firstEvent *Histogram
	errors           [numUpstreamFailures]*metrics.Counter
	retries, streams *metrics.Counter
}

// modelSeries are the series of one value of the label model.
type modelSeries struct {
	name  string
	pairs [numSlots]atomic.Pointer[pairSeries]
}

// pairSeries are the series of one model at one upstream.
type pairSeries struct {
	labels   string // upstream and model
	other    bool   // the model is "other": may use the budget's reserve
	requests []atomic.Pointer[codeSeries]
	// Nil at slotNone, where nobody was asked for tokens, as is all that follows.
	tokens  [len(tokenTypes)]*metrics.Counter
	unknown *metrics.Counter
	ttft    atomic.Pointer[Histogram]
	gaps    atomic.Pointer[Histogram]
}

// codeSeries count requests of one endpoint, upstream and model by code.
type codeSeries [numCodes]atomic.Pointer[metrics.Counter]

// tenantSeries are the series of one tenant.
type tenantSeries struct{ requests, input, output *metrics.Counter }

// names is an immutable table from a label's value to its series; a new value
// makes a new table. room is how many more may enter by being seen.
type names[S any] struct {
	m    map[string]*S
	room int
}

// with returns a copy of n with one more name, which took n's room where seen.
func (n *names[S]) with(name string, s *S, seen bool) *names[S] {
	c := &names[S]{m: make(map[string]*S, len(n.m)+1), room: n.room}
	for k, v := range n.m {
		c.m[k] = v
	}
	c.m[name] = s
	if seen {
		c.room--
	}
	return c
}

// pair returns the series of model m at upstream us.
func (t *Telemetry) pair(m *modelSeries, us *upstreamSeries) *pairSeries {
	if p := m.pairs[us.slot].Load(); p != nil {
		return p
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pairLocked(m, us, false)
}

// pairLocked makes the pair where there is none yet. With must, as for each
// upstream's pair of "other", it is made whatever the budget says, with its
// histograms.
func (t *Telemetry) pairLocked(m *modelSeries, us *upstreamSeries, must bool) *pairSeries {
	if p := m.pairs[us.slot].Load(); p != nil {
		return p
	}
	labels := label("upstream", us.name) + "," + label("model", m.name)
	p := &pairSeries{labels: labels, other: m == t.otherModel, requests: make([]atomic.Pointer[codeSeries], len(t.endpoints))}
	if us.slot == slotNone {
		m.pairs[us.slot].Store(p)
		return p
	}
	if !must && !t.budget.take(len(tokenTypes)+1, labels, budgetReserve) {
		p = t.pairLocked(t.otherModel, us, true)
		m.pairs[us.slot].Store(p)
		return p
	}
	for i, kind := range tokenTypes {
		p.tokens[i] = t.counter("relay_tokens_total", label("type", kind)+","+labels)
	}
	p.unknown = t.counter("relay_usage_unknown_total", labels)
	if must {
		t.budget.charge(len(tokenTypes)+1+2*(maxBuckets+3), labels)
		p.ttft.Store(t.histogram(nameTTFT, labels, t.bounds.ttft))
		p.gaps.Store(t.histogram(nameGaps, labels, t.bounds.gaps))
	}
	m.pairs[us.slot].Store(p)
	return p
}

// pairHistogram returns the histogram at slot, which is of p, and makes it
// where there is none yet; other is its like in the pair of "other".
func (t *Telemetry) pairHistogram(slot *atomic.Pointer[Histogram], p *pairSeries, us *upstreamSeries, name string, b buckets) *Histogram {
	if h := slot.Load(); h != nil {
		return h
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := slot.Load(); h != nil {
		return h
	}
	var h *Histogram
	if t.budget.take(len(b.ns)+3, p.labels, budgetReserve) {
		h = t.histogram(name, p.labels, b)
	} else if other := t.pairLocked(t.otherModel, us, true); name == nameTTFT {
		h = other.ttft.Load()
	} else {
		h = other.gaps.Load()
	}
	slot.Store(h)
	return h
}

// requests returns the counter of p for an endpoint and a code (an index into codes).
func (t *Telemetry) requests(p *pairSeries, endpoint, code int) *metrics.Counter {
	if cs := p.requests[endpoint].Load(); cs != nil {
		if c := cs[code].Load(); c != nil {
			return c
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.requestsLocked(p, endpoint, code)
}

func (t *Telemetry) requestsLocked(p *pairSeries, endpoint, code int) *metrics.Counter {
	cs := p.requests[endpoint].Load()
	if cs == nil {
		cs = new(codeSeries)
		p.requests[endpoint].Store(cs)
	}
	c := cs[code].Load()
	if c == nil {
		labels := label("endpoint", t.endpoints[endpoint]) + "," + p.labels + "," + label("code", codes[code])
		reserve := budgetReserve
		if p.other {
			reserve = 0
		}
		if t.budget.take(1, labels, reserve) {
			c = t.counter("relay_requests_total", labels)
		} else {
			c = t.overflow[classIndex(code)]
		}
		cs[code].Store(c)
	}
	return c
}

// duration returns the histogram of durations of an endpoint at us.
func (t *Telemetry) duration(us *upstreamSeries, endpoint int) *Histogram {
	if h := us.duration[endpoint].Load(); h != nil {
		return h
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.durationLocked(us, endpoint, false)
}

func (t *Telemetry) durationLocked(us *upstreamSeries, endpoint int, must bool) *Histogram {
	h := us.duration[endpoint].Load()
	if h != nil {
		return h
	}
	labels := label("endpoint", t.endpoints[endpoint]) + "," + label("upstream", us.name)
	if must {
		t.budget.charge(len(t.bounds.duration.ns)+3, labels)
	} else if !t.budget.take(len(t.bounds.duration.ns)+3, labels, budgetReserve) {
		h = us.duration[t.otherEndpoint].Load()
		us.duration[endpoint].Store(h)
		return h
	}
	h = t.histogram(nameDuration, labels, t.bounds.duration)
	us.duration[endpoint].Store(h)
	return h
}

// newUpstreamLocked makes the series of an upstream: all of its own, and those
// of the model "other" at it.
func (t *Telemetry) newUpstreamLocked(slot int, name string) *upstreamSeries {
	us := &upstreamSeries{slot: slot, name: name, duration: make([]atomic.Pointer[Histogram], len(t.endpoints))}
	t.durationLocked(us, t.otherEndpoint, true)
	if slot == slotNone {
		return us
	}
	labels := label("upstream", name)
	t.budget.charge(int(numUpstreamFailures)+1+2*(maxBuckets+3), labels)
	for f := FailureNone + 1; f < numUpstreamFailures; f++ {
		us.errors[f] = t.counter("relay_upstream_errors_total", labels+","+label("reason", f.String()))
	}
	us.retries = t.counter("relay_upstream_retries_total", labels)
	us.streams = t.counter("relay_streams_total", labels)
	us.head = t.histogram(nameHead, labels, t.bounds.ttft)
	us.firstEvent = t.histogram(nameFirstEvent, labels, t.bounds.ttft)
	t.pairLocked(t.otherModel, us, true)
	return us
}

// counter registers a counter, which the caller has paid for.
func (t *Telemetry) counter(name, labels string) *metrics.Counter {
	if labels != "" {
		name += "{" + labels + "}"
	}
	return t.set.GetOrCreateCounter(name)
}

// histogram registers a histogram, which the caller has paid for.
func (t *Telemetry) histogram(name, labels string, b buckets) *Histogram {
	h := newHistogram(b)
	t.histograms[name] = append(t.histograms[name], labelled{labels, h})
	return h
}

// labelled is one histogram of a family.
type labelled struct {
	labels string
	h      *Histogram
}
