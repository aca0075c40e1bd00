package report

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"streamrelay/bench/load"
)

// Bound is one condition of an SLO.
type Bound struct {
	Measure string
	Value   float64 // seconds, a share, requests a second, or KiB
}

// Verdict is what became of a bound.
type Verdict struct {
	Bound  string  `json:"bound"`
	Value  float64 `json:"value"`
	Passed bool    `json:"passed"`
	Text   string  `json:"text"`
}

// measures are what a bound can be set for, beside added_ in front of a time.
var (
	times     = []string{"latency", "ttft", "gap", "delay", "head", "connect"}
	quantiles = []string{"p50", "p90", "p95", "p99", "p999", "max", "mean"}
)

// ParseSLO reads bounds such as
//
//	p99=50ms,errors=0.1%,ttft_p99=300ms,delay_p50=200us,added_p99=5ms,rate=500,kib=32
//
// Times without a measure in front are the latency's. errors is a share of the
// window's requests, and errors=0, which is meant where none is named, allows none
// before the window either; rate, a number of requests a second, is a lower bound, all others are
// upper ones; kib is the memory of an open stream, at the end of the window where it is more than at its beginning.
func ParseSLO(s string) ([]Bound, error) {
	var bounds []Bound
	for item := range strings.SplitSeq(s, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		name, value, _ := strings.Cut(item, "=")
		b := Bound{Measure: name}
		var err error
		switch {
		case name == "errors":
			if b.Value, err = share(value); b.Value > 1 {
				err = errors.New("more than all")
			}
		case name == "rate" || name == "kib":
			b.Value, err = strconv.ParseFloat(value, 64)
		case isTime(name):
			var d time.Duration
			d, err = time.ParseDuration(value)
			b.Value = d.Seconds()
		default:
			return nil, fmt.Errorf("%q: there is no measure %q; there are errors, rate, kib, p50 p90 p95 p99 p999 max mean, and these with latency_, ttft_, gap_, delay_, head_, connect_, added_, added_ttft_ or added_delay_ in front", item, name)
		}
		if err != nil || !(b.Value >= 0) {
			return nil, fmt.Errorf("%q: want errors=0.1%%, rate=500, kib=32 or a time such as p99=50ms", item)
		}
		bounds = append(bounds, b)
	}
	return bounds, nil
}

func share(s string) (float64, error) {
	number, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	return v, err
}

func isTime(name string) bool {
	if rest, ok := strings.CutPrefix(name, "added_"); ok {
		measure, q := split(rest)
		return (q == "p50" || q == "p99") && slices.Contains([]string{"latency", "ttft", "delay"}, measure)
	}
	measure, q := split(name)
	return slices.Contains(times, measure) && slices.Contains(quantiles, q)
}

// split divides ttft_p99; latency need not be named.
func split(name string) (measure, quantile string) {
	if m, q, ok := strings.Cut(name, "_"); ok {
		return m, q
	}
	return "latency", name
}

// Judge holds a run against bounds.
func (r *Report) Judge(bounds []Bound) {
	r.Verdicts = nil
	// A time says nothing where answers failed: failures may be fast, and have none.
	if !slices.ContainsFunc(bounds, func(b Bound) bool { return b.Measure == "errors" }) {
		bounds = append(slices.Clone(bounds), Bound{Measure: "errors"})
	}
	for _, b := range bounds {
		v := Verdict{}
		switch {
		case b.Measure == "errors":
			v.Value = r.ErrorShare()
			v.Passed = v.Value <= b.Value && (b.Value > 0 || r.Errors == 0)
			v.Bound = fmt.Sprintf("errors ≤ %s %%", Number(b.Value*100))
			v.Text = fmt.Sprintf("%d of %d (%s %%)", r.Failed, r.Requests, Number(v.Value*100))
			if r.Errors > r.Failed {
				v.Text += fmt.Sprintf(" and %d outside the window", r.Errors-r.Failed)
			}
		case b.Measure == "rate":
			v.Value, v.Passed = r.Rate, r.Rate >= b.Value
			v.Bound, v.Text = fmt.Sprintf("rate ≥ %s/s", Number(b.Value)), Number(v.Value)+"/s"
		case b.Measure == "kib":
			v.Value = max(r.Memory.PerStream()) // at the window's end it may be more than at its beginning
			known := r.Memory.Known()
			v.Passed = known && v.Value <= b.Value
			v.Bound, v.Text = fmt.Sprintf("memory ≤ %s KiB/stream", Number(b.Value)), Number(v.Value)+" KiB"
			if !known {
				v.Text = "not measured: it wants --pid or --admin, and a scenario that reads memory (soak)"
			}
		default:
			value, known := r.time(b.Measure)
			v.Value, v.Passed = value, known && value <= b.Value
			v.Bound, v.Text = fmt.Sprintf("%s ≤ %s", strings.ReplaceAll(b.Measure, "_", " "), Duration(b.Value)), Duration(value)
			if !known {
				v.Text = "not measured"
			}
		}
		r.Verdicts = append(r.Verdicts, v)
	}
}

// time returns a measured time by its name in an SLO.
func (r *Report) time(name string) (seconds float64, known bool) {
	if rest, ok := strings.CutPrefix(name, "added_"); ok {
		measure, q := split(rest)
		a, known := r.Added[measure]
		if q == "p50" {
			return a.P50.Value, known
		}
		return a.P99.Value, known
	}
	measure, q := split(name)
	s := map[string]load.Summary{"latency": r.Latency, "ttft": r.TTFT, "gap": r.Gap, "delay": r.Delay, "head": r.Head, "connect": r.Connect}[measure]
	return map[string]float64{"p50": s.P50, "p90": s.P90, "p95": s.P95, "p99": s.P99, "p999": s.P999, "max": s.Max, "mean": s.Mean}[q], s.Count > 0
}
