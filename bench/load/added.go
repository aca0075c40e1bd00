package load

import (
	"math/rand/v2"
	"slices"
)

// Added is what the endpoint adds to a measure of the direct one, in seconds,
// with 95 % bootstrap intervals.
type Added struct {
	P50 Interval `json:"p50"`
	P99 Interval `json:"p99"`
}

// Interval is an estimate and where it would lie in 95 of 100 repetitions.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// resamples of a bootstrap: the interval's ends are then sure to a few percent
// of its width.
const resamples = 500

// compare estimates what a adds to direct. What is drawn again and again is
// parts of the window, each with both endpoints' values: requests within a part
// share its disturbances, so drawing single requests would claim too much.
func compare(a, direct *arm) map[string]Added {
	added := map[string]Added{}
	for name, of := range map[string]func(*slice) *Histogram{
		"latency": func(s *slice) *Histogram { return &s.latency },
		"ttft":    func(s *slice) *Histogram { return &s.ttft },
		"delay":   func(s *slice) *Histogram { return &s.delay },
	} {
		var ours, theirs []*Histogram
		x, y := &Histogram{}, &Histogram{}
		for i := range a.slices {
			x.merge(of(&a.slices[i]))
			y.merge(of(&direct.slices[i]))
			// Parts in which one endpoint has no value go with the next.
			if x.total() > 0 && y.total() > 0 {
				ours, theirs = append(ours, x), append(theirs, y)
				x, y = &Histogram{}, &Histogram{}
			}
		}
		if len(ours) > 0 {
			added[name] = bootstrap(ours, theirs)
		}
	}
	return added
}

func bootstrap(ours, theirs []*Histogram) Added {
	n := len(ours)
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	var x, y Histogram
	difference := func(parts []int) (p50, p99 float64) {
		x.reset()
		y.reset()
		for _, i := range parts {
			x.merge(ours[i])
			y.merge(theirs[i])
		}
		p, q := x.quantiles(x.total(), 0.5, 0.99), y.quantiles(y.total(), 0.5, 0.99)
		return p[0] - q[0], p[1] - q[1]
	}
	var added Added
	added.P50.Value, added.P99.Value = difference(all)
	// The same parts are drawn in every run on the same data.
	random := rand.New(rand.NewPCG(1, 2))
	p50s, p99s := make([]float64, resamples), make([]float64, resamples)
	parts := make([]int, n)
	for k := range resamples {
		for i := range parts {
			parts[i] = random.IntN(n)
		}
		p50s[k], p99s[k] = difference(parts)
	}
	added.P50.between(p50s)
	added.P99.between(p99s)
	return added
}

// between sets the interval from the resampled values.
func (v *Interval) between(values []float64) {
	slices.Sort(values)
	v.Low, v.High = values[len(values)*25/1000], values[len(values)*975/1000]
}
