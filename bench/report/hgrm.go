package report

import (
	"fmt"
	"io"
	"math"

	"streamrelay/bench/load"
)

// HGRM writes a percentile distribution in the form of HdrHistogram's
// outputPercentileDistribution, in milliseconds, which its plotter reads.
func HGRM(w io.Writer, curve []load.Point, s load.Summary) error {
	p := &printer{w: w}
	p.line("%12s %14s %10s %14s\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")
	for _, c := range curve {
		inverse := fmt.Sprintf("%14.2f", 1/(1-c.Q))
		if c.Q == 1 {
			inverse = fmt.Sprintf("%14s", "inf")
		}
		p.line("%12.6f %14.12f %10d %s", c.Value*1e3, c.Q, c.Count, inverse)
	}
	// The deviation is read off the curve, as the mean of its steps.
	var variance float64
	last := uint64(0)
	for _, c := range curve {
		variance += float64(c.Count-last) * (c.Value - s.Mean) * (c.Value - s.Mean)
		last = c.Count
	}
	deviation := 0.0
	if last > 0 {
		deviation = math.Sqrt(variance / float64(last))
	}
	p.line("#[Mean    = %12.6f, StdDeviation   = %12.6f]", s.Mean*1e3, deviation*1e3)
	p.line("#[Max     = %12.6f, Total count    = %12d]", s.Max*1e3, s.Count)
	return p.err
}
