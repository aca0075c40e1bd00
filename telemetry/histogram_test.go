package telemetry

import (
	"math"
	"strings"
	"testing"
)

func TestHistogramPutsABoundIntoItsOwnBucket(t *testing.T) {
	h := newHistogram(newBuckets(0.001, 0.25, 1))
	for _, ns := range []int64{-5, 0, 1e6, 1e6 + 1, 250e6, 1e9, 1e9 + 1} {
		h.observe(ns)
	}
	const want = `h_bucket{a="b",le="0.001"} 3
h_bucket{a="b",le="0.25"} 5
h_bucket{a="b",le="1"} 6
h_bucket{a="b",le="+Inf"} 7
h_sum{a="b"} 2.252000002
h_count{a="b"} 7
`
	if got := string(h.appendTo(nil, "h", `a="b"`)); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestHistogramWithoutLabels(t *testing.T) {
	const want = `h_bucket{le="1"} 0
h_bucket{le="+Inf"} 0
h_sum 0
h_count 0
`
	if got := string(newHistogram(newBuckets(1)).appendTo(nil, "h", "")); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestHistogramSumSurvivesTheWrapOf64Bits(t *testing.T) {
	h := newHistogram(newBuckets(1))
	for range 3 {
		h.observe(math.MaxInt64)
	}
	if got, want := h.seconds(), 3*float64(math.MaxInt64)/1e9; math.Abs(got/want-1) > 1e-12 {
		t.Errorf("sum %v s, want %v s", got, want)
	}
}

func TestHistogramMergeEqualsSingleObservations(t *testing.T) {
	b := newBounds().gaps
	one, merged := newHistogram(b), newHistogram(b)
	var g Gaps
	for i := range 100 {
		ns := int64(i*i) * 4e5
		one.observe(ns)
		g.Add(ns)
	}
	merged.merge(g.Counts[:], g.Sum)
	if a, b := string(one.appendTo(nil, "h", "")), string(merged.appendTo(nil, "h", "")); a != b {
		t.Errorf("observed:\n%smerged:\n%s", a, b)
	}
}

func TestDelaysAgreeWithSingleObservations(t *testing.T) {
	h, tel := newHistogram(newBounds().overhead), New(options())
	d := new(Delays)
	for _, ns := range append(DelayBuckets[:], 0, 10e3+1, 30e6, 2e9) {
		h.observe(ns)
		d.Add(ns)
	}
	tel.Observe(streamed(func(r *Request) { r.Delays, r.Overhead = d, 0 }))
	want := h.appendTo(nil, nameOverhead, `phase="chunk"`)
	if got := scrape(tel); !strings.Contains(got, string(want)) {
		t.Errorf("no\n%sin\n%s", want, relayLines(got))
	}
}
