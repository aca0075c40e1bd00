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
	row := func(name string, x, y figure, show func(float64) string) {
		if !x.known && !y.known {
			return
		}
		ratio := "-"
		if x.known && y.known && x.value != 0 {
			ratio = fmt.Sprintf("%.3f", y.value/x.value)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t\n", name, x.text(show), y.text(show), ratio)
	}
	row("requests/s", a.rate(), b.rate(), Number)
	if f, g := a.Frontier, b.Frontier; f != nil && g != nil {
		for i := range min(len(f.Readings), len(g.Readings)) {
			name := "requests/s, no bound"
			if bound := f.Readings[i].Bound; bound > 0 {
				name = "requests/s, p99 < " + Duration(bound)
			}
			row(name, figure{f.Readings[i].Rate, true}, figure{g.Readings[i].Rate, true}, Number)
		}
		row("streams whole", figure{float64(f.Streams), true}, figure{float64(g.Streams), true}, Number)
	}
	if m, n := a.Max, b.Max; m != nil && n != nil {
		row("highest "+m.Of, figure{m.Value, true}, figure{n.Value, true}, Number)
	}
	row("errors", a.errors(), b.errors(), Number)
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
		for _, q := range []struct {
			name string
			x, y float64
		}{{"p50", x.P50, y.P50}, {"p99", x.P99, y.P99}, {"p99.9", x.P999, y.P999}, {"max", x.Max, y.Max}} {
			row(m.name+" "+q.name, figure{q.x, x.Count > 0}, figure{q.y, y.Count > 0}, Duration)
		}
	}
	for _, name := range []string{"latency", "ttft", "delay"} {
		x, knownX := a.Added[name]
		y, knownY := b.Added[name]
		row("added "+name+" p50", figure{x.P50.Value, knownX}, figure{y.P50.Value, knownY}, Duration)
		row("added "+name+" p99", figure{x.P99.Value, knownX}, figure{y.P99.Value, knownY}, Duration)
	}
	if a.Loop != load.Streams {
		row("CPU a request", each(a.Cost.Peer, a.Cost.Requests), each(b.Cost.Peer, b.Cost.Requests), Duration)
	}
	if a.Cost.Events > a.Cost.Requests {
		row("CPU an event", each(a.Cost.Peer, a.Cost.Events), each(b.Cost.Peer, b.Cost.Events), Duration)
	}
	row("KiB a stream", a.perStream(), b.perStream(), Number)
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
		{"seconds measured", a.Window, b.Window}, {"model", a.Model, b.Model}, {"--simulate", a.Simulate, b.Simulate}, {"--direct", a.Direct != nil, b.Direct != nil},
	} {
		if of.a != of.b {
			fmt.Fprintf(w, "NOT THE SAME LOAD: %s %v and %v\n", of.what, orNone(of.a), orNone(of.b))
		}
	}
	if a.Environment.CPU != b.Environment.CPU || a.Environment.Cores != b.Environment.Cores || a.Environment.Kernel != b.Environment.Kernel {
		fmt.Fprintln(w, "NOT THE SAME MACHINE: the ratios say little.")
	}
	_, err := fmt.Fprintln(w)
	return err
}

// figure is a value, or none where it was not measured.
type figure struct {
	value float64
	known bool
}

func (f figure) text(show func(float64) string) string {
	if !f.known {
		return "-"
	}
	return show(f.value)
}

func (r *Report) rate() figure {
	return figure{r.Rate, r.Rate > 0 || r.Frontier == nil && (r.Loop == load.Open || r.Loop == load.Closed)}
}

func (r *Report) errors() figure { return figure{float64(r.Errors), r.Frontier == nil} }

func (r *Report) perStream() figure {
	open, _ := r.Memory.PerStream()
	return figure{open, r.Memory.Known()}
}

func each(ns, n int64) figure {
	return figure{float64(ns) / float64(max(n, 1)) / 1e9, ns > 0 && n > 0}
}

func orNone(v any) any {
	if v == "" {
		return "none"
	}
	return v
}
