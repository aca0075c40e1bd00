package telemetry

// DelayBuckets are the upper bounds, in nanoseconds, of the histogram of what
// the relay adds to a piece of an answer; one more bucket stands above the last.
var DelayBuckets = [13]int64{10e3, 25e3, 50e3, 100e3, 200e3, 500e3, 1e6, 25e5, 5e6, 10e6, 25e6, 50e6, 100e6}

// Delays sums, for one answer, the time from a piece's bytes being read from
// the upstream to their being written to the client, as Gaps does for gaps.
// The zero value is ready. Not safe for concurrent use.
type Delays struct {
	Counts [len(DelayBuckets) + 1]uint32
	Sum    int64
	N      uint32
}

// Add counts one delay of ns nanoseconds.
func (d *Delays) Add(ns int64) {
	i := 0
	for i < len(DelayBuckets) && ns > DelayBuckets[i] {
		i++
	}
	d.Counts[i]++
	d.Sum += ns
	d.N++
}
