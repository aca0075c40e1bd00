package telemetry

import (
	"io"
	"testing"
	"time"
)

// noAllocs fails if f allocates, once what it makes at first is there.
func noAllocs(t *testing.T, f func()) {
	t.Helper()
	if raceEnabled {
		t.Skip("allocations cannot be counted under the race detector")
	}
	f()
	if n := testing.AllocsPerRun(1000, f); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	l := NewLog(io.Discard, "info")
	defer l.Close()
	o := options()
	o.Log, o.Access, o.Sink = l, true, func(*Request) {}
	tel := New(o)
	for name, change := range map[string]func(*Request){
		"stream":                       nil,
		"stream with delays":           func(r *Request) { r.Delays = &Delays{Counts: [14]uint32{3: 2}, Sum: 90e3, N: 2} },
		"found model of a third party": func(r *Request) { r.Model, r.Upstream = []byte("Qwen/Qwen2.5-7B-Instruct"), 1 },
		"refused": func(r *Request) {
			r.Upstream, r.Status, r.UpstreamStatus, r.End, r.Tenant, r.Gaps = -1, 401, 0, Denied, nil, nil
			r.Model = []byte("who knows")
		},
		"cancelled": func(r *Request) { r.End, r.Status, r.Cancel, r.UsageSource = ClientGone, 499, 1e6, UsageUnknown },
		"text to be escaped": func(r *Request) {
			r.Model, r.Path = []byte("a\"b\n\xff"), []byte("/v1/\"\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := streamed(change)
			noAllocs(t, func() { tel.Observe(r) })
		})
	}
}

func TestWhatStreamsAndRequestsCountAllocatesNothing(t *testing.T) {
	l := NewLog(io.Discard, "info")
	defer l.Close()
	tel := New(options())
	var g Gaps
	h := tel.Histogram("relay_store_duration_seconds", "", "One call to a store.", .001, .01)
	var text [36]byte
	noAllocs(t, func() {
		g.Add(15e6)
		h.Observe(3 * time.Millisecond)
		tel.InFlight.Inc()
		tel.HeldBytes.Add(100)
		tel.Rejected(RejectDraining)
		tel.RateLimited(LimitTokens)
		tel.AuthFailed(AuthMissing)
		tel.Retried(0, FailureConnect)
		AppendID(text[:0], NewID(1e18))
		l.Info().Str("k", "v").Int("n", 7).Msg("line")
		l.WarnEvery("flood", time.Hour).Str("k", "v").Msg("line")
	})
}
