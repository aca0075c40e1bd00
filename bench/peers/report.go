package main

import (
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"

	"streamrelay/bench"
	"streamrelay/bench/load"
)

// outcome is one turn of one peer.
type outcome struct {
	Scenario string      `json:"scenario"`
	Peer     string      `json:"peer"`
	TLS      bool        `json:"tls_upstream"`
	Turn     int         `json:"turn"`
	Result   load.Result `json:"result"`
}

// column is one figure of a scenario's table.
type column struct {
	title string
	unit  float64 // what a printed 1 is
	ratio bool    // whether a ratio to nginx makes sense
	of    func(*load.Result) float64
}

func per(cpu func(*load.Result) int64, n func(*load.Result) int64) func(*load.Result) float64 {
	return func(r *load.Result) float64 {
		if n(r) == 0 {
			return 0
		}
		return float64(cpu(r)) / float64(n(r))
	}
}

func peerCPU(r *load.Result) int64     { return r.Cost.Peer }
func providerCPU(r *load.Result) int64 { return r.Cost.Provider }
func ownCPU(r *load.Result) int64      { return r.Cost.Own }
func requests(r *load.Result) int64    { return r.Cost.Requests }
func events(r *load.Result) int64      { return r.Cost.Events }

func perSecond(n func(*load.Result) int64) func(*load.Result) float64 {
	return func(r *load.Result) float64 { return float64(n(r)) / max(r.Seconds, 1e-9) }
}

const µs = 1e3 // in nanoseconds

var requestColumns = []column{
	{"µs/req", µs, true, per(peerCPU, requests)},
	{"req/s", 1, true, perSecond(requests)},
	{"p50 µs", 1e-6, true, func(r *load.Result) float64 { return r.Latency.P50 }},
	{"p99 µs", 1e-6, true, func(r *load.Result) float64 { return r.Latency.P99 }},
	{"provider µs/req", µs, false, per(providerCPU, requests)},
	{"load µs/req", µs, false, per(ownCPU, requests)},
}

var scheduled = append(slices.Clone(requestColumns), column{"send lag p99 µs", 1e-6, false, func(r *load.Result) float64 { return r.Lag.P99 }})

var columns = map[string][]column{
	"paced": {
		{"µs/event", µs, true, per(peerCPU, events)},
		{"events/s", 1, false, perSecond(events)},
		{"delay p50 µs", 1e-6, true, func(r *load.Result) float64 { return r.Delay.P50 }},
		{"p99 µs", 1e-6, true, func(r *load.Result) float64 { return r.Delay.P99 }},
		{"provider µs/event", µs, false, per(providerCPU, events)},
		{"load µs/event", µs, false, per(ownCPU, events)},
	},
	"burst": requestColumns,
	"json":  requestColumns,
	"rate":  scheduled,
	"open":  scheduled,
	"mixed": scheduled,
	"soak": {
		{"KiB/stream", 1, true, func(r *load.Result) float64 { open, _ := r.Memory.PerStream(); return open }},
		{"at the end", 1, true, func(r *load.Result) float64 { _, later := r.Memory.PerStream(); return later }},
		{"idle MiB", 1024, false, func(r *load.Result) float64 { return float64(r.Memory.Idle) }},
		{"streams", 1, false, func(r *load.Result) float64 { return float64(r.Memory.Streams) }},
		{"µs/event", µs, true, per(peerCPU, events)},
		{"delay p50 µs", 1e-6, true, func(r *load.Result) float64 { return r.Delay.P50 }},
	},
	"cancel": append(append(cancelColumns("before_head", "before head"), cancelColumns("mid_stream", "mid-stream")...), append(cancelColumns("non_stream", "non-stream"),
		column{"never noticed", 1, false, func(r *load.Result) float64 { return float64(r.Never) }})...),
}

func cancelColumns(phase, title string) []column {
	return []column{
		{title + " p50 ms", 1e-3, false, func(r *load.Result) float64 { return r.Cancels[phase].P50 }},
		{"p99 ms", 1e-3, false, func(r *load.Result) float64 { return r.Cancels[phase].P99 }},
	}
}

// line is what is shown while the comparison runs.
func (o outcome) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %-12s %s turn %d:", o.Scenario, o.Peer, tlsWord(o.TLS), o.Turn+1)
	for _, c := range columns[o.Scenario] {
		fmt.Fprintf(&b, " %s %s,", c.title, figure(c.of(&o.Result)/c.unit))
	}
	fmt.Fprintf(&b, " errors %d", o.Result.Errors)
	for class, n := range o.Result.ByClass {
		fmt.Fprintf(&b, " (%s: %d)", class, n)
	}
	for _, why := range o.Result.Invalid {
		fmt.Fprintf(&b, "; NOT VALID: %s", why)
	}
	return b.String()
}

func tlsWord(on bool) string {
	if on {
		return "tls  "
	}
	return "plain"
}

// report prints a table for each scenario.
func report(w io.Writer, s *settings, all []outcome) {
	for _, sc := range s.scenarios {
		for _, tls := range s.tls {
			table(w, s, sc, tls, all)
		}
	}
}

func table(w io.Writer, s *settings, scenario string, tls bool, all []outcome) {
	byPeer := map[string][]load.Result{}
	for _, o := range all {
		if o.Scenario == scenario && o.TLS == tls {
			byPeer[o.Peer] = append(byPeer[o.Peer], o.Result)
		}
	}
	if len(byPeer) == 0 {
		return
	}
	about := ""
	if sc, err := bench.Find(scenario); err == nil {
		about = sc.About
		if job, err := s.job(scenario); err == nil {
			about += "; " + bench.Describe(job)
		}
	}
	fmt.Fprintf(w, "\n%s: %s", scenario, about)
	if tls {
		fmt.Fprint(w, ", TLS to the provider")
	}
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "peer\t")
	for _, c := range columns[scenario] {
		fmt.Fprint(tw, c.title, "\t")
	}
	fmt.Fprintln(tw, "errors\tof\tvalid turns\t")
	for _, name := range s.peers {
		results := byPeer[name]
		if len(results) == 0 {
			continue
		}
		fmt.Fprint(tw, name, "\t")
		for _, c := range columns[scenario] {
			v := median(results, c.of)
			cell := figure(v / c.unit)
			if base := byPeer["nginx"]; c.ratio && name != "nginx" && len(base) > 0 && v > 0 {
				if b := median(base, c.of); b > 0 {
					cell += fmt.Sprintf(" (%.2f)", v/b)
				}
			}
			fmt.Fprint(tw, cell, "\t")
		}
		var failed, done int64
		valid := 0
		for i := range results {
			failed += results[i].Errors
			done += results[i].Requests
			if results[i].Valid {
				valid++
			}
		}
		fmt.Fprintf(tw, "%d\t%d\t%d of %d\t\n", failed, done, valid, len(results))
	}
	tw.Flush()
}

// median is the lower one of two.
func median(results []load.Result, of func(*load.Result) float64) float64 {
	v := make([]float64, len(results))
	for i := range results {
		v[i] = of(&results[i])
	}
	sort.Float64s(v)
	return v[(len(v)-1)/2]
}

func figure(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
