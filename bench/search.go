package bench

import (
	"context"
	"fmt"
	"math"
	"strings"

	"streamrelay/bench/load"
	"streamrelay/bench/report"
)

// Bounds of a search.
const (
	stepUp        = 1.5
	resolution    = 0.05 // of the value found
	confirmations = 3
	maxProbes     = 40
	maxRate       = 200_000
)

// trial runs a load once and judges it.
type trial func(ctx context.Context, value float64) (*report.Report, error)

// findMax looks for the highest value that is within the SLO: up by half until
// one is not, then halving the distance, then three more runs at what was found,
// each of which must be within; if one is not the value comes down by a step and
// is confirmed anew. A value is not within only if a second run says so as well:
// one disturbance of the machine must not end the search far below the knee. It
// returns the last report within, or the last one.
func findMax(ctx context.Context, of string, start, most float64, try trial) (result *report.Report, err error) {
	m := &report.Max{Of: of}
	var best, last *report.Report
	defer func() { // what was found until an error came is a result, too
		if err != nil && last != nil {
			last.Max, last.Valid = m, false
			last.Invalid = append(last.Invalid, "the search ended early: "+err.Error())
			result, err = last, nil
		}
	}()
	once := func(v float64) (bool, error) {
		r, err := try(ctx, v)
		if err == nil && ctx.Err() != nil {
			err = ctx.Err() // cut short, it says nothing of v
		}
		if err != nil {
			return false, err
		}
		p := report.Probe{Value: v, Within: r.Passed(), P99: r.Latency.P99, Errors: r.Errors, Why: broken(r)}
		m.Probes = append(m.Probes, p)
		last = r
		if p.Within {
			best = r
		} else {
			m.Limit = p.Why
		}
		return p.Within, nil
	}
	more := func() bool { return len(m.Probes) < maxProbes }
	probe := func(v float64) (bool, error) {
		ok, err := once(v)
		if !ok && err == nil && more() {
			return once(v)
		}
		return ok, err
	}
	low, high := 0.0, 0.0
	for v := min(start, most); more(); v = min(round(v*stepUp), most) {
		ok, err := probe(v)
		if err != nil {
			return nil, err
		}
		if !ok {
			high = v
			break
		}
		if low = v; v == most {
			break
		}
	}
	for more() && high > 0 && high-low > max(1, resolution*low) {
		v := round((low + high) / 2)
		if v <= low || v >= high {
			break
		}
		ok, err := probe(v)
		if err != nil {
			return nil, err
		}
		if ok {
			low = v
		} else {
			high = v
		}
	}
	limit := m.Limit
	for confirmed := 0; low > 0 && confirmed < confirmations && more(); {
		ok, err := once(low)
		if err != nil {
			return nil, err
		}
		if ok {
			confirmed++
			m.Proven = confirmed == confirmations && high > 0
			continue
		}
		confirmed, high, limit = 0, low, m.Limit
		if low = round(low * (1 - resolution)); low < 1 || low == high {
			low = 0
		}
	}
	m.Value, m.Failed, m.Limit = low, high, limit
	if low > 0 && best != nil {
		last = best
	}
	last.Max = m
	return last, nil
}

// round keeps three digits, so that figures can be said.
func round(v float64) float64 {
	if v < 100 {
		return math.Round(v)
	}
	power := math.Pow(10, math.Floor(math.Log10(v))-2)
	return math.Round(v/power) * power
}

// broken says why a run is not within its SLO, "" where it is.
func broken(r *report.Report) string {
	var why []string
	for _, v := range r.Verdicts {
		if !v.Passed {
			why = append(why, v.Bound+" is "+v.Text)
		}
	}
	return strings.Join(append(why, r.Invalid...), "; ")
}

// p99Bounds of the frontier are those of the public board, in seconds.
var p99Bounds = []float64{0.001, 0.005, 0.010, 0.050, 0.100, 0}

// windowsPerRung is how often each number of connections is measured; the board
// takes three, since the same conditions give different numbers.
const windowsPerRung = 3

// sweep measures ever more connections, doubling, until every window of a rung
// had a failed request: more cannot make those whole.
func sweep(ctx context.Context, most int, window func(ctx context.Context, connections int) (*report.Report, error)) ([]report.Rung, error) {
	var rungs []report.Rung
	for n := 1; n <= most; n *= 2 {
		clean := false
		for range windowsPerRung {
			r, err := window(ctx, n)
			if err != nil {
				return nil, err
			}
			rung := report.Rung{Connections: n, Rate: r.Rate, P99: r.Latency.P99, Failed: r.Errors, Finished: r.Requests - r.Failed}
			clean = clean || within(rung, 0)
			rungs = append(rungs, rung)
		}
		if !clean {
			break
		}
	}
	return rungs, nil
}

// within reports whether a rung counts for a reading: no failed request, and a
// p99 below the bound.
func within(r report.Rung, bound float64) bool {
	return r.Finished > 0 && r.Failed == 0 && (bound == 0 || r.P99 < bound)
}

// readings are the highest rates at each bound; of the same rate the one with
// fewer connections.
func readings(rungs []report.Rung) []report.Reading {
	var out []report.Reading
	for _, bound := range p99Bounds {
		reading := report.Reading{Bound: bound}
		top := 0
		for _, r := range rungs {
			top = max(top, r.Connections)
			if within(r, bound) && r.Rate > reading.Rate {
				reading.Rate, reading.Connections, reading.P99 = r.Rate, r.Connections, r.P99
			}
		}
		reading.Lower = reading.Rate > 0 && reading.Connections == top
		out = append(out, reading)
	}
	return out
}

// Streams of the frontier, as the public board has them.
const (
	boardEvents    = 64
	boardGap       = 20 // milliseconds
	boardStall     = 10 // gaps
	boardErrors    = 0.001
	boardStreams   = 64 // the first rung
	boardPrecision = 0.02
)

// streamsSearch doubles the streams until two windows are not whole, then halves
// the distance down to two percent.
func streamsSearch(ctx context.Context, f *report.Frontier, most int, window func(ctx context.Context, streams int) (*report.Report, error)) error {
	try := func(n int) (ok bool, err error) {
		why := ""
		for range 2 {
			r, err := window(ctx, n)
			if err != nil {
				return false, err
			}
			why = notWhole(r, n)
			f.Ladder = append(f.Ladder, report.StreamsRung{Streams: n, Whole: why == "", Why: why})
			if why == "" {
				f.Streams = n
				return true, nil
			}
		}
		f.Failed, f.Why = n, why
		return false, nil
	}
	for n := min(boardStreams, most); ; n = min(2*n, most) {
		ok, err := try(n)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if n == most {
			return nil
		}
	}
	for f.Failed-f.Streams > max(1, int(boardPrecision*float64(f.Streams))) {
		if _, err := try((f.Streams + f.Failed) / 2); err != nil {
			return err
		}
	}
	return nil
}

// notWhole says why a window of n streams is not whole: an answer that ended
// badly after its head, a stall above ten gaps, 0.1 % of streams that never
// began, or streams that were not open at once.
func notWhole(r *report.Report, n int) string {
	switch never := r.Errors - r.Broken; {
	case r.Broken > 0:
		return fmt.Sprintf("%d streams lacked events", r.Broken)
	case r.Stalls > 0:
		return fmt.Sprintf("%d streams stalled for more than %d ms", r.Stalls, boardStall*boardGap)
	case float64(never) >= boardErrors*float64(n) && never > 0:
		return fmt.Sprintf("%d streams never began", never)
	case len(r.Invalid) > 0:
		return strings.Join(r.Invalid, "; ")
	}
	return ""
}

// boardJob are n concurrent streams. They start within at most half of the time
// that one takes, so that all of them are open at once.
func boardJob(n int) load.Job {
	const length = boardEvents * boardGap * 1e6 // nanoseconds
	return load.Job{
		Loop: load.Streams, Streams: n, Stall: boardStall * boardGap * 1e6,
		Ramp:   min(load.Duration(n)*50_000, length/2),
		Window: length / 4,
		Requests: []load.Request{{
			Name: "stream", Path: chat, Body: streamBody, Length: length,
			Simulate: fmt.Sprintf("ttft=0,gap=%dms,events=%d", boardGap, boardEvents),
		}},
	}
}
