package load

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync"
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
	Known bool    `json:"interval"` // whether there are enough parts to tell Low and High
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// leastParts is the fewest parts of the window that an interval is drawn from:
// of one part all draws are the same, and of few they are hardly different.
const leastParts = 5

// sample keeps the values of a part of the window as they are, where there are
// too many a random choice of them (algorithm R, Vitter 1985). A histogram will
// not do for differences: its error is a share of the value, and what is added
// to 150 ms may be less than that.
type sample struct {
	mu     sync.Mutex
	seen   int64
	values []int64
}

const sampleSize = 4096

func (s *sample) add(ns int64) {
	s.mu.Lock()
	if s.seen++; len(s.values) < sampleSize {
		s.values = append(s.values, ns)
	} else if i := rand.Int64N(s.seen); i < sampleSize {
		s.values[i] = ns
	}
	s.mu.Unlock()
}

// resamples of a bootstrap: the interval's ends are then sure to a few percent
// of its width.
const resamples = 500

// compare estimates what a adds to direct. What is drawn again and again is
// parts of the window, each with both endpoints' values: requests within a part
// share its disturbances, so drawing single requests would claim too much.
func compare(a, direct *arm) map[string]Added {
	added := map[string]Added{}
	for name, of := range map[string]func(*slice) *sample{
		"latency": func(s *slice) *sample { return &s.latencies },
		"ttft":    func(s *slice) *sample { return &s.ttfts },
		"delay":   func(s *slice) *sample { return &s.delays },
	} {
		var ours, theirs []*sample
		for i := range a.slices {
			ours, theirs = append(ours, of(&a.slices[i])), append(theirs, of(&direct.slices[i]))
		}
		ours, theirs = together(ours, theirs)
		if len(ours) > 0 {
			added[name] = bootstrap(ours, theirs)
		}
	}
	return added
}

// together joins parts in which one endpoint has no value with the next.
func together(ours, theirs []*sample) (a, b []*sample) {
	x, y := &sample{}, &sample{}
	for i := range ours {
		x.merge(ours[i])
		y.merge(theirs[i])
		if x.seen > 0 && y.seen > 0 {
			a, b = append(a, x), append(b, y)
			x, y = &sample{}, &sample{}
		}
	}
	return a, b
}

func (s *sample) merge(o *sample) {
	s.seen += o.seen
	s.values = append(s.values, o.values...)
}

// weighted is a value and the part that it is of.
type weighted struct {
	value int64
	part  int
}

// pooled are all values in order. Each stands for as many as its part had seen
// to those it kept.
type pooled struct {
	values []weighted
	each   []float64 // by part
	total  []float64
}

func pool(parts []*sample) pooled {
	var p pooled
	for i, s := range parts {
		for _, v := range s.values {
			p.values = append(p.values, weighted{v, i})
		}
		p.each = append(p.each, float64(s.seen)/float64(len(s.values)))
		p.total = append(p.total, float64(s.seen))
	}
	slices.SortFunc(p.values, func(a, b weighted) int { return cmp.Compare(a.value, b.value) })
	return p
}

// quantiles are the median and the p99 where part i was drawn times[i] times.
func (p *pooled) quantiles(times []int) (p50, p99 float64) {
	var total, sum float64
	for i, n := range times {
		total += float64(n) * p.total[i]
	}
	for _, v := range p.values {
		sum += float64(times[v.part]) * p.each[v.part]
		if p50 == 0 && sum >= 0.5*total {
			p50 = float64(v.value) / 1e9
		}
		if sum >= 0.99*total {
			return p50, float64(v.value) / 1e9
		}
	}
	return p50, p50
}

func bootstrap(ours, theirs []*sample) Added {
	x, y := pool(ours), pool(theirs)
	n := len(ours)
	difference := func(times []int) (p50, p99 float64) {
		a50, a99 := x.quantiles(times)
		b50, b99 := y.quantiles(times)
		return a50 - b50, a99 - b99
	}
	times := make([]int, n)
	for i := range times {
		times[i] = 1
	}
	var added Added
	added.P50.Value, added.P99.Value = difference(times)
	if n < leastParts {
		return added
	}
	// The same parts are drawn in every run on the same data.
	random := rand.New(rand.NewPCG(1, 2))
	p50s, p99s := make([]float64, resamples), make([]float64, resamples)
	for k := range resamples {
		clear(times)
		for range n {
			times[random.IntN(n)]++
		}
		p50s[k], p99s[k] = difference(times)
	}
	added.P50.between(p50s)
	added.P99.between(p99s)
	return added
}

// between sets the interval from the resampled values.
func (v *Interval) between(values []float64) {
	slices.Sort(values)
	v.Known, v.Low, v.High = true, values[len(values)*25/1000], values[len(values)*975/1000]
}
