package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"streamrelay/bench/load"
)

// Text writes a run as vegeta writes its own, with what it cannot see.
func (r *Report) Text(w io.Writer) error {
	p := &printer{w: w}
	p.line("%s: %s", r.Scenario, r.About)
	switch {
	case r.Frontier != nil:
		p.frontier(r.Frontier)
		return p.err
	case r.Max != nil:
		p.max(r.Max)
	}
	target := ""
	if r.TargetRate > 0 {
		target = fmt.Sprintf(" of %s asked for", Number(r.TargetRate))
	}
	rate := ""
	if r.Rate > 0 {
		rate = fmt.Sprintf(", %s/s%s", Number(r.Rate), target)
	}
	p.row("Requests", "[total, rate, checked]", "%d%s, %s", r.Requests, rate, r.Checked)
	outside := ""
	if r.Errors > r.Failed {
		outside = fmt.Sprintf(" of the window's; %d outside it", r.Errors-r.Failed)
	}
	p.row("Errors", "[count, share]", "%d, %s %%%s", r.Errors, Number(r.ErrorShare()*100), outside)
	for _, class := range slices.Sorted(maps.Keys(r.ByClass)) {
		said := ""
		if s := strings.Join(strings.Fields(r.Examples[class]), " "); s != "" && s != class {
			said = ": " + s
		}
		p.row("", "", "%d × %s%s", r.ByClass[class], class, said)
	}
	const heads = "[min, mean, 50, 90, 95, 99, 99.9, max]"
	p.times("Latency", heads, r.Latency)
	if r.Waited > 0 {
		p.row("", "", "with %d failures that went on for longer than the median, as the least that they took", r.Waited)
	}
	p.times("Head", "", r.Head)
	p.times("TTFT", "", r.TTFT)
	p.times("Event gap", "", r.Gap)
	if r.OtherClock {
		p.row("Event delay", "", "not measured: the provider's clock is another one than ours")
	}
	p.times("Event delay", "", r.Delay)
	p.times("Connect", "", r.Connect)
	for _, phase := range slices.Sorted(maps.Keys(r.Cancels)) {
		p.times(strings.ReplaceAll(phase, "_", " "), "", r.Cancels[phase])
	}
	if d := r.Direct; d != nil {
		if r.DirectErrors > 0 {
			p.row("Direct errors", "", "%d: %v", r.DirectErrors, r.DirectByClass)
		}
		p.times("Direct", heads, d.Latency)
		p.times("  TTFT", "", d.TTFT)
		p.times("  delay", "", d.Delay)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Added)) {
		a := r.Added[name]
		p.row("Added", "["+name+" p50, p99]", "%s, %s", interval(a.P50), interval(a.P99))
	}
	p.cost(r)
	if r.Sends > 0 && r.Loop == load.Open {
		p.row("Send lag", "[50, 99, max, > 10 ms]", "%s, %s, %s, %d of %d", Duration(r.Lag.P50), Duration(r.Lag.P99), Duration(r.Lag.Max), r.Late, r.Sends)
	}
	p.verdicts(r)
	return p.err
}

func interval(v load.Interval) string {
	if !v.Known {
		return Duration(v.Value) + " (too few values for an interval)"
	}
	return fmt.Sprintf("%s (95 %%: %s to %s)", Duration(v.Value), Duration(v.Low), Duration(v.High))
}

// printer writes lines until one fails.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) row(name, columns, format string, args ...any) {
	p.line("%-13s %-38s %s", name, columns, fmt.Sprintf(format, args...))
}

func (p *printer) times(name, columns string, s load.Summary) {
	if s.Count == 0 {
		return
	}
	var values []string
	for _, v := range []float64{s.Min, s.Mean, s.P50, s.P90, s.P95, s.P99, s.P999, s.Max} {
		values = append(values, Duration(v))
	}
	p.row(name, columns, "%s", strings.Join(values, ", "))
}

func (p *printer) cost(r *Report) {
	c := r.Cost
	name, n := "a request", c.Requests
	if r.Loop == load.Streams || c.Requests == 0 {
		name, n = "an event", c.Events
	}
	if c.Peer > 0 {
		p.row("CPU", "["+name+", cores]", "%s, %.2f", per(c.Peer, n), float64(c.Peer)/1e9/r.Seconds)
	}
	if c.Own > 0 {
		p.row("Generator", "["+name+", cores]", "%s, %.2f", per(c.Own, n), float64(c.Own)/1e9/r.Seconds)
	}
	if open, later := r.Memory.PerStream(); r.Memory.Known() {
		p.row("Memory", "[KiB a stream, at the end, idle MiB]", "%s, %s, %s (%d streams)", Number(open), Number(later), Number(float64(r.Memory.Idle)/1024), r.Memory.Streams)
	}
	if r.Stalls > 0 {
		p.row("Stalls", "", "%d answers", r.Stalls)
	}
}

func per(ns, n int64) string {
	if n == 0 {
		return "-"
	}
	return Duration(float64(ns) / float64(n) / 1e9)
}

func (p *printer) verdicts(r *Report) {
	for _, v := range r.Verdicts {
		word := "within"
		if !v.Passed {
			word = "BROKEN"
		}
		p.row("SLO", v.Bound, "%s: %s", v.Text, word)
	}
	for _, why := range r.Invalid {
		p.row("INVALID", "", "%s", why)
	}
}

func (p *printer) max(m *Max) {
	switch {
	case m.Value == 0 && m.Failed == 0:
		p.row("Highest", "", "not known: no number of %s was tried to its end", m.Of)
	case m.Value == 0:
		p.row("Highest", "", "none: not even %s %s is within the SLO (%s)", Number(m.Failed), m.Of, m.Limit)
	case m.Failed == 0:
		p.row("Highest", "", "at least %s %s: nothing higher was tried", Number(m.Value), m.Of)
	default:
		sure := "confirmed three times"
		if !m.Proven {
			sure = "NOT confirmed"
		}
		p.row("Highest", "", "%s %s, %s; %s broke it (%s)", Number(m.Value), m.Of, sure, Number(m.Failed), m.Limit)
	}
	for _, pr := range m.Probes {
		word := "within"
		if !pr.Within {
			word = pr.Why
		}
		p.row("", Number(pr.Value)+" "+m.Of, "p99 %s, %d errors: %s", Duration(pr.P99), pr.Errors, word)
	}
}

func (p *printer) frontier(f *Frontier) {
	for _, r := range f.Readings {
		bound := "no bound"
		if r.Bound > 0 {
			bound = "p99 < " + plainDuration(r.Bound)
		}
		if r.Rate == 0 {
			p.row("Frontier", bound, "no rung was within")
			continue
		}
		lower := ""
		if r.Lower {
			lower = ", a lower bound: no more connections were tried"
		}
		p.row("Frontier", bound, "%s requests/s at %d connections, p99 %s%s", Number(r.Rate), r.Connections, Duration(r.P99), lower)
	}
	switch {
	case f.Failed == 0 && f.Streams == 0:
	case f.Failed == 0:
		p.row("Streams", "64 events, 20 ms apart", "%d whole, a lower bound: no more were tried", f.Streams)
	default:
		p.row("Streams", "64 events, 20 ms apart", "%d whole; %d were not: %s", f.Streams, f.Failed, f.Why)
	}
}
