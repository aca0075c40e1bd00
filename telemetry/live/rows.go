package live

import (
	"cmp"
	"slices"
	"unicode/utf8"

	"streamrelay/telemetry"
)

const (
	// maxRequests and maxFailures are how many of the last requests, and of
	// those that failed, are kept: failures have a place of their own, so that
	// a busy relay does not push them out within a blink.
	maxRequests = 350
	maxFailures = 150
	// maxName is how much of a tenant's or model's name is kept, in bytes.
	maxName = 64
	// maxRequestID is the longest id that the relay takes from a client.
	maxRequestID = 128
)

// text is a copy of at most maxName bytes.
type text struct {
	n   uint8
	cut bool
	b   [maxName]byte
}

// set copies s, or as many whole runes of it as there is room for.
func (t *text) set(s []byte) {
	t.cut = len(s) > maxName
	if t.cut {
		n := maxName
		for n > maxName-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	t.n = uint8(copy(t.b[:], s))
}

func (t *text) bytes() []byte { return t.b[:t.n] }

// String marks what was cut off by an ellipsis.
func (t *text) String() string {
	if t.cut {
		return string(t.bytes()) + "…"
	}
	return string(t.bytes())
}

// row is one finished exchange.
type row struct {
	end                 int64 // Unix ns
	duration, ttft      int64
	tokensIn, tokensOut int64 // -1: unknown
	status              int32
	endpoint, upstream  int16
	attempts            uint8
	reason              telemetry.EndReason
	stream              bool
	idLen               uint8
	id                  [maxRequestID]byte
	tenant, model       text
	code                text // of the relay's own error
}

// failed reports whether an end is the relay's or the provider's failure, or a
// refusal: all but what went well and what the client left by itself, as
// `relay logs usage` counts errors.
func failed(end telemetry.EndReason) bool {
	return end != telemetry.Completed && end != telemetry.ClientGone
}

func (w *row) fill(r *telemetry.Request, end telemetry.EndReason) {
	w.end, w.duration, w.ttft = r.Start+r.Duration, r.Duration, r.TTFT
	w.tokensIn, w.tokensOut = -1, -1
	if r.UsageSource != telemetry.UsageUnknown {
		w.tokensIn, w.tokensOut = r.Usage.Input, r.Usage.Output
	}
	w.status, w.endpoint, w.upstream = int32(r.Status), int16(r.Endpoint), int16(r.Upstream)
	w.attempts, w.reason, w.stream = uint8(r.Attempts), end, r.Stream
	w.idLen = uint8(copy(w.id[:], r.RequestID))
	w.tenant.set(r.Tenant)
	w.model.set(r.Model)
	w.code.n, w.code.cut = uint8(copy(w.code.b[:], r.Error)), false
}

// ring keeps the last len(rows) rows.
type ring struct {
	rows []row
	n    uint64 // that were put in since the last reset
}

// next returns the place of the next row.
func (g *ring) next() *row {
	w := &g.rows[g.n%uint64(len(g.rows))]
	g.n++
	return w
}

// newest calls f with the n newest rows, or all that there are, the oldest first.
func (g *ring) newest(n int, f func(*row)) {
	size := uint64(len(g.rows))
	for i := g.n - min(g.n, size, uint64(n)); i < g.n; i++ {
		f(&g.rows[i%size])
	}
}

// last keeps the newest rows of all shards, in the order of their ends.
type last struct {
	ring
	fresh []row // of this second; its room is kept
	added int   // how many of the ring are of the last second
}

func newLast(n int) last {
	return last{ring: ring{rows: make([]row, n)}, fresh: make([]row, 0, n+maxShards)}
}

// add takes one shard's second.
func (l *last) add(g *ring) { g.newest(len(g.rows), func(w *row) { l.fresh = append(l.fresh, *w) }) }

// step ends the second.
func (l *last) step() {
	slices.SortStableFunc(l.fresh, func(a, b row) int { return cmp.Compare(a.end, b.end) })
	over := max(len(l.fresh)-len(l.rows), 0)
	for i := range l.fresh[over:] {
		*l.next() = l.fresh[over+i]
	}
	l.added = len(l.fresh) - over
	l.fresh = l.fresh[:0]
}
