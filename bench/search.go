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
// each of which must be within; if one is not the value comes down by a step, at
// least by one, and is confirmed anew. A value is not within only if a second run says so as well:
// one disturbance of the machine must not end the search far below the knee. It
// returns the last report within, or the last one; where an error ends it, with
// what it found so far.
func findMax(ctx context.Context, of string, start, most float64, try trial) (result *report.Report, err error) {
	m := &report.Max{Of: of}
	var best, last *report.Report
	low, high, limit := 0.0, 0.0, ""
	defer func() { // what was found until an error came is a result, too
		if err != nil && last != nil {
			if best != nil {
				last = best
			}
			m.Value, m.Failed, m.Limit = low, high, limit
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
			limit = p.Why
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
	knee := limit
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
		confirmed, high, knee = 0, low, limit
		low = max(min(round(low*(1-resolution)), low-1), 0)
	}
	m.Value, m.Failed, m.Limit = low, high, knee
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

// Bounds of a rate that is carried.
const (
	leastAnswered = 0.95  // of the rate asked for
	mostGrowth    = 0.025 // of the latency, seconds a second
)

// carried marks a run by schedule that was answered at a lower rate than it was
// asked at: no bound may be broken, since latency only grows with the time that
// the run takes. A lower rate alone does not show that, as answers to what was
// due at the window's end come behind it; where the endpoint keeps up they take
// no longer than those to what was due at its beginning.
func carried(r *report.Report) {
	if r.Loop == load.Open && r.Rate < leastAnswered*r.TargetRate && r.Growth > mostGrowth {
		r.Valid = false
		r.Invalid = append(r.Invalid, fmt.Sprintf("answered only %s/s of %s/s", report.Number(r.Rate), report.Number(r.TargetRate)))
	}
}
