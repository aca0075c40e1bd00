package proxy

import (
	"errors"

	"streamrelay/auth"
	"streamrelay/telemetry"
)

// publishKeys shows the state of the keys' store in the metrics.
func publishKeys(tel *telemetry.Telemetry, store *auth.Store) {
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
	if store.Health().Store != "redis" {
		return
	}
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
