package load

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// Histogram counts durations in nanoseconds up to 39 hours with an error below
// 0.4 % (128 buckets for each power of two, as in an HdrHistogram of two
// significant digits). It is our own because its Add is one atomic addition from
// any goroutine: github.com/HdrHistogram/hdrhistogram-go wants a lock around it,
// or one histogram a goroutine, which for 15,000 streams is 500 MB.
type Histogram struct {
	counts [buckets]atomic.Uint64
	max    atomic.Int64
}

const (
	subBits    = 7
	subBuckets = 1 << subBits
	maxBits    = 47
	buckets    = (maxBits - subBits + 1) * subBuckets
	maxValue   = 1<<maxBits - 1
)

func bucketOf(ns int64) int {
	if ns < subBuckets {
		return int(max(ns, 0))
	}
	ns = min(ns, maxValue)
	shift := bits.Len64(uint64(ns)) - subBits - 1 // leaves 128 to 255
	return shift*subBuckets + int(ns>>shift)
}

// valueOf is the middle of a bucket.
func valueOf(bucket int) int64 {
	if bucket < 2*subBuckets {
		return int64(bucket)
	}
	shift := bucket/subBuckets - 1
	low := int64(bucket%subBuckets+subBuckets) << shift
	return low + (int64(1)<<shift)/2
}

// Add counts one duration; a negative one counts as 0. It may be called from
// any goroutine.
func (h *Histogram) Add(ns int64) {
	h.counts[bucketOf(ns)].Add(1)
	for {
		old := h.max.Load()
		if ns <= old || h.max.CompareAndSwap(old, ns) {
			return
		}
	}
}

// merge adds what o counted.
func (h *Histogram) merge(o *Histogram) { h.mergeFrom(o, 0) }

// mergeFrom adds what o counted of floor and more, and returns how many that were.
func (h *Histogram) mergeFrom(o *Histogram, floor int64) (added int64) {
	for i := bucketOf(floor); i < buckets; i++ {
		if n := o.counts[i].Load(); n > 0 {
			h.counts[i].Add(n)
			added += int64(n)
		}
	}
	if added > 0 {
		h.max.Store(max(h.max.Load(), o.max.Load()))
	}
	return added
}

func (h *Histogram) total() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Summary is a histogram in a few numbers, in seconds.
type Summary struct {
	Count uint64  `json:"count"`
	Min   float64 `json:"min"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

// Summary returns what was counted so far; all 0 where nothing was.
func (h *Histogram) Summary() Summary {
	var s Summary
	var sum float64
	for i := range h.counts {
		n := h.counts[i].Load()
		if n > 0 && s.Count == 0 {
			s.Min = h.value(i)
		}
		s.Count += n
		sum += float64(n) * h.value(i)
	}
	if s.Count == 0 {
		return s
	}
	s.Max = float64(h.max.Load()) / 1e9
	s.Mean = min(sum/float64(s.Count), s.Max)
	v := h.quantiles(s.Count, 0.5, 0.9, 0.95, 0.99, 0.999)
	s.P50, s.P90, s.P95, s.P99, s.P999 = v[0], v[1], v[2], v[3], v[4]
	return s
}

// value is what a bucket stands for, in seconds: never above the maximum.
func (h *Histogram) value(bucket int) float64 {
	return float64(min(valueOf(bucket), h.max.Load())) / 1e9
}

// quantiles returns the values, in seconds, at ascending shares of total: the
// smallest that at least such a share does not exceed.
func (h *Histogram) quantiles(total uint64, at ...float64) []float64 {
	v := make([]float64, len(at))
	var sum uint64
	bucket := -1
	for k, q := range at {
		rank := min(max(uint64(math.Ceil(q*float64(total)-1e-9)), 1), total)
		for sum < rank && bucket < buckets-1 {
			bucket++
			sum += h.counts[bucket].Load()
		}
		if sum > 0 {
			v[k] = h.value(bucket)
		}
	}
	return v
}

// Point of a percentile curve: Count durations were at most Value seconds, which
// is the share Q.
type Point struct {
	Q     float64 `json:"q"`
	Value float64 `json:"value"`
	Count uint64  `json:"count"`
}

// Curve returns the percentile curve as HdrHistogram prints it: five points for
// each halving of the distance to 100 %, then the maximum. It has at most some
// 150 points.
func (h *Histogram) Curve() []Point {
	total := h.total()
	if total == 0 {
		return nil
	}
	var curve []Point
	var sum uint64
	next, tick := 0.0, 0 // the share of the next point
	for i := 0; i < buckets && sum < total; i++ {
		n := h.counts[i].Load()
		if n == 0 {
			continue
		}
		sum += n
		q := float64(sum) / float64(total)
		if q < next {
			continue
		}
		curve = append(curve, Point{Q: q, Value: h.value(i), Count: sum})
		for next <= q && q < 1 {
			tick++
			next = 1 - math.Ldexp(1-float64(tick%5)/10, -(tick/5))
		}
	}
	last := &curve[len(curve)-1]
	last.Value = float64(h.max.Load()) / 1e9
	return curve
}
