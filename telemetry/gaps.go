package telemetry

// GapBuckets are the upper bounds, in nanoseconds, of the histogram of gaps
// between events; one more bucket stands above the last.
var GapBuckets = [14]int64{1e6, 25e5, 5e6, 10e6, 20e6, 30e6, 50e6, 75e6, 100e6, 150e6, 250e6, 500e6, 1e9, 25e8}

// Gaps sums the gaps between the events of one stream, so that an event costs
// an array increment; Observe merges it into the histogram at the stream's
// end. The zero value is ready. Not safe for concurrent use: the stream's
// owner alone calls Add.
type Gaps struct {
	Counts [len(GapBuckets) + 1]uint32
	Sum    int64
	Max    int64
	N      uint32
}

// Add counts one gap of ns nanoseconds.
func (g *Gaps) Add(ns int64) {
	i := 0
	for i < len(GapBuckets) && ns > GapBuckets[i] {
		i++
	}
	g.Counts[i]++
	g.Sum += ns
	g.N++
	if ns > g.Max {
		g.Max = ns
	}
}
