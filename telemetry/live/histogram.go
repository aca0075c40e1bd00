package live

import "math/bits"

// histogram counts durations of one second, in buckets that are 1/16 of a
// power of two wide: a quantile is good to 3 % above 16 µs and to 1 µs below.
// Longer ones than the last bucket's 18 minutes count there.
type histogram [numBuckets]uint32

const (
	unitBits   = 10 // the narrowest bucket is 1.024 µs wide
	subBits    = 4
	octaves    = 26
	numBuckets = (octaves + 1) << subBits
)

// observe counts one duration of ns nanoseconds.
func (h *histogram) observe(ns int64) { h[bucketOf(ns)]++ }

func bucketOf(ns int64) int {
	v := uint64(max(ns, 0)) >> unitBits
	if v < 1<<subBits {
		return int(v)
	}
	e := bits.Len64(v) - subBits - 1
	return min((e+1)<<subBits+int(v>>e)-1<<subBits, numBuckets-1)
}

// lower returns the least duration, in nanoseconds, of bucket i.
func lower(i int) float64 {
	if i < 1<<subBits {
		return float64(uint64(i) << unitBits)
	}
	e := i>>subBits - 1
	return float64(uint64(1<<subBits+i&(1<<subBits-1)) << (e + unitBits))
}

// windowSeconds is over how many seconds quantiles are taken: one second of a
// quiet relay holds too little to tell.
const windowSeconds = 10

// window sums the last windowSeconds of a histogram whose buckets are separated
// by bounds in nanoseconds, one fewer than there are buckets.
type window struct {
	bounds []float64
	past   [windowSeconds][]uint32
	sum    []uint64
	n      uint64
	at     int
}

func newWindow(bounds []float64) *window {
	w := &window{bounds: bounds, sum: make([]uint64, len(bounds)+1)}
	for i := range w.past {
		w.past[i] = make([]uint32, len(bounds)+1)
	}
	return w
}

// next begins a new second, and forgets the oldest.
func (w *window) next() {
	w.at = (w.at + 1) % windowSeconds
	for i, n := range w.past[w.at] {
		w.sum[i] -= uint64(n)
		w.n -= uint64(n)
	}
	clear(w.past[w.at])
}

// add adds counts to the current second.
func (w *window) add(counts []uint32) {
	for i, n := range counts {
		if n != 0 {
			w.past[w.at][i] += n
			w.sum[i] += uint64(n)
			w.n += uint64(n)
		}
	}
}

// quantile returns the q quantile in seconds, NaN of nothing. Within a bucket
// durations count as spread evenly.
func (w *window) quantile(q float64) float64 {
	if w.n == 0 {
		return none
	}
	rank := q * float64(w.n)
	below := 0.0
	for i, n := range w.sum {
		if n == 0 || below+float64(n) < rank {
			below += float64(n)
			continue
		}
		from, to := 0.0, w.bounds[len(w.bounds)-1] // what is above the last bound is given as it
		if i > 0 {
			from = w.bounds[i-1]
		}
		if i < len(w.bounds) {
			to = w.bounds[i]
		}
		return (from + (to-from)*(rank-below)/float64(n)) / 1e9
	}
	return w.bounds[len(w.bounds)-1] / 1e9
}

// fineBounds are those of histogram.
func fineBounds() []float64 {
	b := make([]float64, numBuckets-1)
	for i := range b {
		b[i] = lower(i + 1)
	}
	return b
}

func floats(ns []int64) []float64 {
	f := make([]float64, len(ns))
	for i, n := range ns {
		f[i] = float64(n)
	}
	return f
}
