package bench

import (
	"context"
	"fmt"
	"strings"

	"streamrelay/bench/load"
	"streamrelay/bench/report"
)

// frontier measures what the public board shows.
func (o *options) frontier(ctx context.Context, p *progress) (*report.Report, error) {
	j, err := Find("json")
	if err != nil {
		return nil, err
	}
	exact, err := o.exact(ctx, j.Requests)
	if err != nil {
		return nil, err
	}
	direct := o.direct
	defer func() { o.direct = direct }()
	o.direct = "" // a difference is not what this is about
	most := openFiles() / 2
	if most < 1 {
		return nil, errFiles
	}
	f := &report.Frontier{}
	var last *report.Report
	const connections = 1024 // the board's own ladder is as long
	f.Rungs, err = sweep(ctx, min(connections, most), func(ctx context.Context, n int) (*report.Report, error) {
		p.begin(fmt.Sprintf("frontier, %d connections", n))
		l := o.Load
		l.Rate, l.Streams, l.Duration = 0, n, max(o.Duration/5, minDuration)
		last, err = o.measure(ctx, j.Job(l), exact, "frontier", p)
		return last, err
	})
	if err != nil {
		return nil, err
	}
	f.Readings = readings(f.Rungs)
	if o.Streams > 0 {
		most = o.Streams
	}
	err = streamsSearch(ctx, f, most, func(ctx context.Context, n int) (*report.Report, error) {
		p.begin(fmt.Sprintf("frontier, %d streams", n))
		return o.measure(ctx, boardJob(n), exact, "frontier", p)
	})
	if err != nil {
		return nil, err
	}
	result := load.Result{Valid: true}
	if f.Streams == 0 || f.Readings[len(f.Readings)-1].Rate == 0 {
		result = load.Result{Invalid: []string{"no number of connections, or of streams, was served whole"}}
	}
	return &report.Report{
		Scenario: "frontier", About: "the most requests/s below each p99 latency with none failed, and the most streams carried whole, as GetBusbar/benchmarking defines them",
		Started: last.Started, Checked: last.Checked, Model: last.Model, Simulate: last.Simulate, Window: o.Duration.Seconds(), Frontier: f, Result: result, Environment: last.Environment,
	}, nil
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
