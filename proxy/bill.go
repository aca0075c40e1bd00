package proxy

import (
	"sync"

	"streamrelay/proxy/watch"
	"streamrelay/telemetry"
)

// billing says whose tokens an answer counts.
type billing uint8

const (
	billUsage billing = iota // the request's own
	billCount                // a prompt's that was only counted, which costs nothing
	billLook                 // another request's, whose work is looked at
)

// billing is that of a request for t.
func (t *target) billing(post bool) billing {
	ep := &endpoints[t.endpoint]
	switch {
	case !post, ep.later && t.objectID() != nil: // cancel, too, answers with the object
		return billLook
	case ep.name == "count_tokens", t.endpoint == endpointGemini && string(t.tail) == "countTokens",
		ep.name == "responses" && string(t.tail) == "/input_tokens":
		return billCount
	}
	return billUsage
}

// owed remembers the work that went on behind the answer to the request that
// began it (a background response, a batch): its usage is told to whoever looks
// at it, each time, and counts once. What another relay, or this one before its
// last start, began is not known and not counted. Bounded; the oldest is
// forgotten first. The zero value is ready; safe for concurrent use.
type owed struct {
	mu sync.Mutex // protects the rest
	recent[*work]
}

// owedRoom is how much work may be under way.
const owedRoom = 1 << 14

// work is what one request began.
type work struct {
	model, priced string
	charged       int64           // of the prompt, by estimate, and not yet made good
	counted       telemetry.Usage // so far
}

func (w *owed) add(id uint64, begun *work) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(id, begun, owedRoom)
}

// look returns what u, the usage of the object as a look at it shows it, has
// over what was counted at earlier looks, and what was charged already of its
// input. found is nil where nothing is owed.
func (w *owed) look(id uint64, u telemetry.Usage) (more telemetry.Usage, charged int64, found *work) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.of[id]
	if b == nil || u == b.counted {
		return more, 0, nil
	}
	take := func(now int64, counted *int64) int64 {
		d := max(now, 0) - max(*counted, 0)
		if d <= 0 {
			return min(now, 0) // -1 stays not named
		}
		*counted = now
		return d
	}
	c := &b.counted
	more = telemetry.Usage{
		Input: take(u.Input, &c.Input), Output: take(u.Output, &c.Output), Cached: take(u.Cached, &c.Cached),
		CacheWrite: take(u.CacheWrite, &c.CacheWrite), Reasoning: take(u.Reasoning, &c.Reasoning),
	}
	if max(more.Input, 0)+max(more.Output, 0) == 0 {
		return more, 0, nil
	}
	charged, b.charged = min(b.charged, max(more.Input, 0)), 0
	return more, charged, b
}

// observe notes what is known of the answer, and of its usage what is this
// request's. It may be called again as more is known; what a look shows is
// counted once the answer is whole, or the exchange ends without that.
func (x *exchange) observe() {
	o := &x.obs
	x.ans.observe(o, x.start)
	if !x.ans.begun || x.bill == billUsage {
		return
	}
	known := o.UsageSource == telemetry.UsageProvider
	seen := o.Usage
	o.UsageSource = telemetry.UsageUnknown
	o.Usage = telemetry.Usage{Input: -1, Output: -1, Cached: -1, CacheWrite: -1, Reasoning: -1}
	switch {
	case x.bill == billCount:
		if o.UpstreamStatus < 400 {
			o.UsageSource, o.Usage.Input, o.Usage.Output = telemetry.UsageProvider, 0, 0
		}
		return
	case !x.booked && (known && x.ans.over || !x.active && (known || o.ContentEvents > 0)):
		x.booked = true // once: what is begun under the same id behind this answer is not this look's
		if !known {     // a stream that was left: what was seen of it
			seen = telemetry.Usage{Input: -1, Output: o.ContentEvents, Cached: -1, CacheWrite: -1, Reasoning: -1}
		}
		if id := x.adm.target.objectID(); id != nil {
			x.more, x.paid, x.owedWork = x.srv.owed.look(watch.HashID(id), seen)
		}
	}
	if w := x.owedWork; w != nil {
		o.UsageSource, o.Usage = telemetry.UsageProvider, x.more
		if len(o.Model) == 0 {
			o.Model = append(x.model[:0], w.model...)
		}
	}
}

// owe remembers work that goes on, or may: the answer names what the request
// began and counts nothing, be it that it comes later or that a stream was left.
func (x *exchange) owe() {
	ep := &endpoints[x.adm.target.endpoint]
	if x.booked || !ep.later || x.bill != billUsage || x.obs.UpstreamStatus/100 != 2 || max(x.obs.Usage.Input, 0)+max(x.obs.Usage.Output, 0) > 0 {
		return
	}
	if ids := x.ans.ids(); len(ids) > 0 {
		x.booked = true
		w := &work{model: string(x.obs.Model), priced: string(x.priced())}
		if x.obs.UsageSource == telemetry.UsageUnknown { // else nothing is charged yet
			w.charged, w.counted.Output = x.grant.Estimate(), x.obs.ContentEvents
		}
		x.srv.owed.add(ids[0], w)
	}
}
