package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestHistogramKeepsItsError(t *testing.T) {
	var h Histogram
	for _, v := range []int64{0, 1, 127, 128, 255, 256, 1000, 123_456, 999_999_999, maxValue} {
		if got := valueOf(bucketOf(v)); math.Abs(float64(got-v)) > 0.004*float64(v) {
			t.Errorf("%d is kept as %d", v, got)
		}
	}
	if b := bucketOf(math.MaxInt64); b != buckets-1 {
		t.Errorf("the longest time is in bucket %d of %d", b, buckets)
	}
	for i := 1; i < buckets; i++ {
		if bucketOf(valueOf(i)) != i {
			t.Fatalf("bucket %d holds %d, which belongs to %d", i, valueOf(i), bucketOf(valueOf(i)))
		}
	}
	h.Add(-5)
	for i := int64(1); i <= 1000; i++ {
		h.Add(i * 1000)
	}
	s := h.Summary()
	for name, v := range map[string][2]float64{
		"mean": {s.Mean, 500e-6}, "p50": {s.P50, 500e-6}, "p90": {s.P90, 900e-6}, "p95": {s.P95, 950e-6},
		"p99": {s.P99, 990e-6}, "p999": {s.P999, 999e-6}, "max": {s.Max, 1000e-6},
	} {
		if math.Abs(v[0]-v[1]) > 0.006*v[1] {
			t.Errorf("%s is %v, want %v", name, v[0], v[1])
		}
	}
	if s.Count != 1001 {
		t.Errorf("count %d", s.Count)
	}
	if s := new(Histogram).Summary(); s != (Summary{}) {
		t.Errorf("empty: %+v", s)
	}
}

// TestQuantilesAreThoseOfTheValues compares with the sorted values themselves.
func TestQuantilesAreThoseOfTheValues(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		var h Histogram
		values := make([]int64, 1+random.IntN(5000))
		for i := range values {
			values[i] = int64(math.Exp(random.Float64() * 25))
			h.Add(values[i])
		}
		slices.Sort(values)
		s := h.Summary()
		for q, got := range map[float64]float64{0.5: s.P50, 0.9: s.P90, 0.99: s.P99, 0.999: s.P999} {
			want := float64(values[max(int(math.Ceil(q*float64(len(values))-1e-9)), 1)-1]) / 1e9 // the smallest that such a share does not exceed
			if math.Abs(got-want) > 0.004*want+1e-9 {
				t.Fatalf("%v of %d values: %v, want %v", q, len(values), got, want)
			}
		}
	}
}

func TestCurveEndsAtTheMaximumAndIsShort(t *testing.T) {
	var h Histogram
	if c := h.Curve(); c != nil {
		t.Errorf("empty: %v", c)
	}
	for i := range int64(1_000_000) {
		h.Add(1e12 / (1e6 - i)) // half of them up to 2 µs, a tenth above 10, and so on
	}
	c := h.Curve()
	last := c[len(c)-1]
	if last.Q != 1 || last.Count != 1_000_000 || last.Value != 1000 || len(c) > 200 {
		t.Errorf("%d points, the last %+v", len(c), last)
	}
	near := 0
	for i, p := range c {
		if i > 0 && (p.Q <= c[i-1].Q || p.Value < c[i-1].Value) {
			t.Fatalf("not rising at %d: %+v", i, p)
		}
		if p.Q > 0.999 {
			near++
		}
	}
	if near < 20 {
		t.Errorf("only %d points beyond 99.9 %%", near)
	}
}

func TestBootstrapKnowsWhatItDoesNotKnow(t *testing.T) {
	same := func(v ...int64) (parts []*sample) {
		for _, ns := range v {
			s := &sample{}
			for range 100 {
				s.add(ns)
			}
			parts = append(parts, s)
		}
		return parts
	}
	// A difference that is the same in every part has an interval without width.
	got := bootstrap(same(150, 150, 150, 150, 150), same(100, 100, 100, 100, 100))
	if v := got.P50; !v.Known || math.Abs(v.Value-50e-9) > 1e-15 || v.Low != v.Value || v.High != v.Value {
		t.Errorf("constant: %+v", v)
	}
	// A microsecond more than a second and a half is seen.
	got = bootstrap(same(1_500_001_000, 1_500_001_000), same(1_500_000_000, 1_500_000_000))
	if v := got.P99.Value; math.Abs(v-1e-6) > 1e-12 {
		t.Errorf("a microsecond: %v", v)
	}
	// Parts of which only a choice was kept count by what they had seen.
	busy, quiet := &sample{}, &sample{}
	for i := range int64(100_000) {
		busy.add(1000 + i%10)
	}
	for range 1000 {
		quiet.add(5000)
	}
	if len(busy.values) != sampleSize {
		t.Errorf("%d values kept", len(busy.values))
	}
	if p50, p99 := func() (float64, float64) { p := pool([]*sample{busy, quiet}); return p.quantiles([]int{1, 1}) }(); p50 > 1010e-9 || p99 > 1010e-9 {
		t.Errorf("p50 %v, p99 %v of 100,000 fast and 1,000 slow ones", p50, p99)
	}
	a, b := together([]*sample{{seen: 1}, {}, {seen: 2}}, []*sample{{}, {seen: 3}, {seen: 4}})
	if len(a) != 2 || a[0].seen != 1 || b[0].seen != 3 || a[1].seen != 2 || b[1].seen != 4 {
		t.Errorf("%v %v", a, b)
	}
	// One that comes and goes has a wide one, which holds the estimate.
	got = bootstrap(same(150, 250, 120, 250, 120), same(100, 100, 100, 100, 100))
	if v := got.P50; v.Low > v.Value || v.High < v.Value || v.High-v.Low < 20e-9 {
		t.Errorf("varying: %+v", v)
	}
}
