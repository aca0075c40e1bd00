package proxy

import (
	"errors"
	"sync/atomic"
	"time"

	"streamrelay/auth"
	"streamrelay/telemetry"
)

// slow are the bounds of the histograms of calls to stores, in seconds.
var slow = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// redisTimes are histograms of calls to Redis, of a store that is opened before
// there is anything to publish by.
type redisTimes struct {
	limits, lookup, follow atomic.Pointer[telemetry.Histogram]
}

func (r *redisTimes) observe(of string, took time.Duration) {
	at := &r.follow
	switch of {
	case auth.CallLimits:
		at = &r.limits
	case auth.CallLookup:
		at = &r.lookup
	}
	if h := at.Load(); h != nil {
		h.Observe(took)
	}
}

func (r *redisTimes) publish(tel *telemetry.Telemetry) {
	for of, at := range map[string]*atomic.Pointer[telemetry.Histogram]{auth.CallLimits: &r.limits, auth.CallLookup: &r.lookup, auth.CallFollow: &r.follow} {
		at.Store(tel.Histogram("relay_redis_request_duration_seconds", telemetry.Label("for", of),
			"How long a call to Redis took: for limits and for the lookup of an unknown key a request waits, for following changes nobody does.", slow...))
	}
}

// publishKeys shows the state of the keys' store in the metrics.
func publishKeys(tel *telemetry.Telemetry, keys keyring) {
	store := keys.store
	gauge := func(name, labels, help string, f func(h *auth.Health) float64) {
		tel.Describe(name, help)
		tel.Gauge(name, labels, func() float64 {
			h := store.Health()
			return f(&h)
		})
	}
	gauge("relay_keys", "", "Keys that are known.", func(h *auth.Health) float64 { return float64(h.Keys) })
	gauge("relay_keys_stale_seconds", "", "Since when nothing was heard of the keys' store.", func(h *auth.Health) float64 { return h.Stale.Seconds() })
	gauge("relay_limits_unpriced_total", "", "Requests with a budget for a model without a price, which therefore cost nothing.", func(h *auth.Health) float64 { return float64(h.Unpriced) })
	tel.Describe("relay_auth_cache_requests_total", "Lookups of keys: hit (known here), miss (asked of Redis), negative (known to be none, or refused unasked), stale (known here, while the store is not heard of).")
	for result, f := range map[string]func(l *auth.Lookups) int64{
		"hit": func(l *auth.Lookups) int64 { return l.Hit }, "miss": func(l *auth.Lookups) int64 { return l.Miss },
		"negative": func(l *auth.Lookups) int64 { return l.Negative }, "stale": func(l *auth.Lookups) int64 { return l.Stale },
	} {
		tel.Gauge("relay_auth_cache_requests_total", telemetry.Label("result", result), func() float64 {
			h := store.Health()
			return float64(f(&h.Lookups))
		})
	}
	if store.Health().Store != "redis" {
		return
	}
	keys.times.publish(tel)
	gauge("relay_redis_up", "", "1 while Redis is followed.", func(h *auth.Health) float64 { return truth(h.Phase == "ready") })
	gauge("relay_keys_left_seconds", "", "How long known keys go on, should Redis stay away.", func(h *auth.Health) float64 { return h.Left.Seconds() })
	gauge("relay_keys_fetches_total", "", "Records read from Redis.", func(h *auth.Health) float64 { return float64(h.Fetches) })
	gauge("relay_limits_relays", "", "Relays that share the limits.", func(h *auth.Health) float64 { return float64(h.Relays) })
	gauge("relay_limits_calls_total", "", "Calls to Redis for limits.", func(h *auth.Health) float64 { return float64(h.Calls) })
	gauge("relay_limits_call_errors_total", "", "Calls to Redis for limits that failed.", func(h *auth.Health) float64 { return float64(h.CallErrors) })
}

// keysReady says why no key can be checked; nil: they can.
func keysReady(store *auth.Store) func() error {
	return func() error {
		h := store.Health()
		if h.Ready {
			return nil
		}
		why := h.Error
		if why == "" {
			why = h.Phase
		}
		return errors.New("keys: " + why)
	}
}
