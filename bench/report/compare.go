package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"streamrelay/bench/load"
)

// Load reads what --json wrote: one report or a list of them.
func Load(file string) ([]*Report, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read a report: %w", err)
	}
	var list []*Report
	if err := json.Unmarshal(b, &list); err != nil {
		one := &Report{}
		if err := json.Unmarshal(b, one); err != nil {
			return nil, fmt.Errorf("report %s: %w", file, err)
		}
		list = []*Report{one}
	}
	for _, r := range list {
		if r == nil || r.Scenario == "" {
			return nil, fmt.Errorf("%s is no report of relay bench --json", file)
		}
	}
	return list, nil
}

// Compare writes two runs side by side, scenario by scenario, and the ratio of
// the second to the first.
func Compare(w io.Writer, a, b []*Report) error {
	found := false
	for _, x := range a {
		for _, y := range b {
			if x.Scenario == y.Scenario {
				found = true
				if err := compare(w, x, y); err != nil {
					return err
				}
			}
		}
	}
	if !found {
		return errors.New("the two have no scenario in common")
	}
	return nil
}

func compare(w io.Writer, a, b *Report) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "%s\t%s\t%s\tratio\t\n", a.Scenario, a.Started.Format("01-02 15:04"), b.Started.Format("01-02 15:04"))
	row := func(name string, x, y float64, show func(float64) string) {
		if x == 0 && y == 0 {
			return
		}
		ratio := "-"
		if x != 0 {
			ratio = fmt.Sprintf("%.3f", y/x)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t\n", name, show(x), show(y), ratio)
	}
	row("requests/s", a.Rate, b.Rate, Number)
	if f, g := a.Frontier, b.Frontier; f != nil && g != nil {
		for i := range min(len(f.Readings), len(g.Readings)) {
			name := "requests/s, no bound"
			if bound := f.Readings[i].Bound; bound > 0 {
				name = "requests/s, p99 < " + Duration(bound)
			}
			row(name, f.Readings[i].Rate, g.Readings[i].Rate, Number)
		}
		row("streams whole", float64(f.Streams), float64(g.Streams), Number)
	}
	if m, n := a.Max, b.Max; m != nil && n != nil {
		row("highest "+m.Of, m.Value, n.Value, Number)
	}
	row("errors", float64(a.Errors), float64(b.Errors), Number)
	for _, m := range []struct {
		name string
		of   func(*Report) load.Summary
	}{
		{"latency", func(r *Report) load.Summary { return r.Latency }},
		{"TTFT", func(r *Report) load.Summary { return r.TTFT }},
		{"gap", func(r *Report) load.Summary { return r.Gap }},
		{"delay", func(r *Report) load.Summary { return r.Delay }},
	} {
		x, y := m.of(a), m.of(b)
		row(m.name+" p50", x.P50, y.P50, Duration)
		row(m.name+" p99", x.P99, y.P99, Duration)
		row(m.name+" p99.9", x.P999, y.P999, Duration)
		row(m.name+" max", x.Max, y.Max, Duration)
	}
	for _, name := range []string{"latency", "ttft", "delay"} {
		x, y := a.Added[name], b.Added[name]
		row("added "+name+" p50", x.P50.Value, y.P50.Value, Duration)
		row("added "+name+" p99", x.P99.Value, y.P99.Value, Duration)
	}
	if a.Loop != load.Streams {
		row("CPU a request", each(a.Cost.Peer, a.Cost.Requests), each(b.Cost.Peer, b.Cost.Requests), Duration)
	}
	if a.Cost.Events > a.Cost.Requests {
		row("CPU an event", each(a.Cost.Peer, a.Cost.Events), each(b.Cost.Peer, b.Cost.Events), Duration)
	}
	x, _ := a.Memory.PerStream()
	y, _ := b.Memory.PerStream()
	row("KiB a stream", x, y, Number)
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, r := range []*Report{a, b} {
		if !r.Valid {
			fmt.Fprintf(w, "NOT VALID: the run of %s: %v\n", r.Started.Format("01-02 15:04"), r.Invalid)
		}
	}
	for _, of := range []struct {
		what string
		a, b any
	}{
		{"loop", a.Loop, b.Loop}, {"rate asked for", a.TargetRate, b.TargetRate}, {"streams", a.Streams, b.Streams}, {"streams held", a.Hold, b.Hold}, {"answers checked", a.Checked, b.Checked},
	} {
		if of.a != of.b {
			fmt.Fprintf(w, "NOT THE SAME LOAD: %s %v and %v\n", of.what, of.a, of.b)
		}
	}
	if a.Environment.CPU != b.Environment.CPU || a.Environment.Cores != b.Environment.Cores || a.Environment.Kernel != b.Environment.Kernel {
		fmt.Fprintln(w, "NOT THE SAME MACHINE: the ratios say little.")
	}
	_, err := fmt.Fprintln(w)
	return err
}

func each(ns, n int64) float64 {
	if n == 0 {
		return 0
	}
	return float64(ns) / float64(n) / 1e9
}
