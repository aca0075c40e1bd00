package load

import (
	"math/bits"
	"sync/atomic"
)

// Histogram counts durations in nanoseconds with an error below 1.6 % (64
// buckets for each power of two). Add may be called from any goroutine.
type Histogram struct {
	counts [64 * subBuckets]atomic.Uint64
	max    atomic.Int64
}

const subBuckets = 64

func bucketOf(ns int64) int {
	if ns < subBuckets {
		return int(max(ns, 0))
	}
	shift := bits.Len64(uint64(ns)) - 7 // leaves 64 to 127
	return (shift+1)*subBuckets + int(ns>>shift) - subBuckets
}

// valueOf is the middle of a bucket.
func valueOf(bucket int) int64 {
	if bucket < subBuckets {
		return int64(bucket)
	}
	shift := bucket/subBuckets - 1
	low := int64(bucket%subBuckets+subBuckets) << shift
	return low + (int64(1)<<shift)/2
}

// Add counts one duration; a negative one counts as 0.
func (h *Histogram) Add(ns int64) {
	h.counts[bucketOf(ns)].Add(1)
	for {
		old := h.max.Load()
		if ns <= old || h.max.CompareAndSwap(old, ns) {
			return
		}
	}
}

// Summary is a histogram in a few numbers, in seconds.
type Summary struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

// Summary returns what was counted so far; all 0 where nothing was.
func (h *Histogram) Summary() Summary {
	var s Summary
	for i := range h.counts {
		s.Count += h.counts[i].Load()
	}
	if s.Count == 0 {
		return s
	}
	s.Max = float64(h.max.Load()) / 1e9
	for _, q := range []struct {
		to *float64
		at float64
	}{{&s.P50, 0.5}, {&s.P90, 0.9}, {&s.P99, 0.99}, {&s.P999, 0.999}} {
		rank := uint64(q.at*float64(s.Count)) + 1
		var sum uint64
		for i := range h.counts {
			if sum += h.counts[i].Load(); sum >= min(rank, s.Count) {
				*q.to = min(float64(valueOf(i))/1e9, s.Max)
				break
			}
		}
	}
	return s
}
