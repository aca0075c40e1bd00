package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"

	"streamrelay/bench/load"
)

//go:embed page.html
var page string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"duration": Duration, "number": Number, "charts": charts, "cards": cards, "join": strings.Join,
	"dict": func(name string, s load.Summary) map[string]load.Summary { return map[string]load.Summary{name: s} },
}).Parse(page))

// HTML writes runs as one page without any reference beyond itself.
func HTML(w io.Writer, title string, runs []*Report) error {
	if err := pageTemplate.Execute(w, struct {
		Title string
		Runs  []*Report
	}{title, runs}); err != nil {
		return fmt.Errorf("write the HTML report: %w", err)
	}
	return nil
}

// card is a figure with a name.
type card struct{ Name, Value, Note string }

// cards are the figures that a run is known by.
func cards(r *Report) (cs []card) {
	add := func(name, value, note string) { cs = append(cs, card{name, value, note}) }
	quantiles := func(name string, s load.Summary) {
		if s.Count > 0 {
			add(name, Duration(s.P50), "p99 "+Duration(s.P99)+", max "+Duration(s.Max))
		}
	}
	if r.Frontier != nil {
		for _, reading := range r.Frontier.Readings {
			name := "any latency"
			if reading.Bound > 0 {
				name = "p99 < " + plainDuration(reading.Bound)
			}
			value, note := "none", ""
			if reading.Rate > 0 {
				value, note = Number(reading.Rate)+"/s", fmt.Sprintf("%d connections, p99 %s", reading.Connections, Duration(reading.P99))
			}
			add(name, value, note)
		}
		add("whole streams", fmt.Sprint(r.Frontier.Streams), "at once, 64 events 20 ms apart")
		return cs
	}
	if r.Max != nil {
		add("highest "+r.Max.Of, Number(r.Max.Value), r.Max.Limit)
	}
	add("requests", fmt.Sprint(r.Requests), Number(r.Rate)+"/s")
	add("errors", fmt.Sprint(r.Errors), Number(r.ErrorShare()*100)+" %")
	quantiles("latency", r.Latency)
	quantiles("TTFT", r.TTFT)
	quantiles("event delay", r.Delay)
	for _, name := range []string{"latency", "ttft", "delay"} {
		if a, ok := r.Added[name]; ok {
			note := "too few values for an interval"
			if a.P50.Known {
				note = fmt.Sprintf("95 %%: %s to %s", Duration(a.P50.Low), Duration(a.P50.High))
			}
			add("added "+name, Duration(a.P50.Value), note+"; p99 "+Duration(a.P99.Value))
		}
	}
	if c := r.Cost; c.Peer > 0 {
		if r.Loop != load.Streams {
			add("CPU a request", per(c.Peer, c.Requests), "")
		}
		if c.Events > c.Requests {
			add("CPU an event", per(c.Peer, c.Events), "")
		}
	}
	if open, later := r.Memory.PerStream(); r.Memory.Known() {
		add("memory a stream", Number(open)+" KiB", Number(later)+" KiB at the end")
	}
	return cs
}

// charts draws what there is to draw of a run.
func charts(r *Report) (svgs []template.HTML) {
	add := func(c chart) {
		if svg := c.svg(); svg != "" {
			svgs = append(svgs, svg)
		}
	}
	if r.Frontier != nil {
		add(frontierChart(r.Frontier))
		return svgs
	}
	for _, m := range []struct{ name, title string }{
		{"latency", "Latency by percentile"}, {"ttft", "Time to first token by percentile"}, {"delay", "Event delay by percentile"}, {"gap", "Gap between events by percentile"},
	} {
		if len(r.Curves[m.name]) > 1 {
			add(percentiles(r, m.name, m.title))
		}
	}
	if len(r.Series) > 2 {
		rate := line{name: "requests/s", class: "c1"}
		p50, p99, d50, d99 := line{name: "p50", class: "c1"}, line{name: "p99", class: "c2"}, line{name: "p50", class: "c1"}, line{name: "p99", class: "c2"}
		step := r.Series[1].At - r.Series[0].At
		for _, s := range r.Series {
			x := s.At + step/2
			when := fmt.Sprintf(" at %s s", Number(s.At))
			rate.points = append(rate.points, point{x, float64(s.Finished) / step, Number(float64(s.Finished)/step) + "/s" + when})
			if s.Finished > 0 {
				p50.points = append(p50.points, point{x, s.P50, Duration(s.P50) + when})
				p99.points = append(p99.points, point{x, s.P99, Duration(s.P99) + when})
			}
			if s.DelayP99 > 0 {
				d50.points = append(d50.points, point{x, s.DelayP50, Duration(s.DelayP50) + when})
				d99.points = append(d99.points, point{x, s.DelayP99, Duration(s.DelayP99) + when})
			}
		}
		xMax := step * float64(len(r.Series))
		seconds := chart{xLabel: "seconds", xTicks: secondTicks(xMax), xMax: xMax, show: plainDuration}
		if len(p50.points) > 1 {
			c := seconds
			c.title, c.lines, c.log = "Latency over time", []line{p50, p99}, true
			add(c)
			c.title, c.lines, c.log, c.show = "Requests a second over time", []line{rate}, false, plain
			add(c)
		}
		if len(d50.points) > 1 {
			c := seconds
			c.title, c.lines, c.log = "Event delay over time", []line{d50, d99}, true
			add(c)
		}
	}
	return svgs
}

// percentiles draws a curve, and the direct one beside it. The horizontal axis
// gives each nine the same room.
func percentiles(r *Report, name, title string) chart {
	nines := 2.0
	one := func(label, class string, curve []load.Point) line {
		l := line{name: label, class: class}
		for _, p := range curve {
			x := math.Log10(1 / (1 - p.Q))
			if p.Q == 1 {
				x = math.Log10(float64(p.Count)) // the slowest of so many
			}
			nines = max(nines, x)
			l.points = append(l.points, point{x, p.Value, fmt.Sprintf("%.5g %% at most %s", p.Q*100, Duration(p.Value))})
		}
		return l
	}
	c := chart{title: title, xLabel: "percentile", log: true, show: plainDuration, lines: []line{one(r.Scenario, "c1", r.Curves[name])}}
	if r.Direct != nil && len(r.Direct.Curves[name]) > 1 {
		c.lines[0].name = "relayed"
		c.lines = append(c.lines, one("direct", "c3", r.Direct.Curves[name]))
	}
	c.xMax = nines
	for i, label := range []string{"0", "90", "99", "99.9", "99.99", "99.999", "99.9999"} {
		if float64(i) <= nines {
			c.xTicks = append(c.xTicks, tick{float64(i), label})
		}
	}
	return c
}

func secondTicks(seconds float64) (ticks []tick) {
	step := nice(seconds / 8)
	for v := 0.0; v <= seconds*1.001; v += step {
		ticks = append(ticks, tick{v, plain(v)})
	}
	return ticks
}

// frontierChart shows the sweep: the best window of each number of connections.
func frontierChart(f *Frontier) chart {
	c := chart{title: "Requests a second by connections", xLabel: "connections", show: plain}
	rate := line{name: "requests/s", class: "c1"}
	for _, r := range f.Rungs {
		x := math.Log2(float64(r.Connections)) + 0.5
		p := point{x, r.Rate, fmt.Sprintf("%s at %d, p99 %s", Number(r.Rate), r.Connections, Duration(r.P99))}
		switch n := len(rate.points); {
		case n == 0 || rate.points[n-1].x != x:
			rate.points = append(rate.points, p)
			c.xTicks = append(c.xTicks, tick{x, fmt.Sprint(r.Connections)})
			c.xMax = x + 0.5
		case p.y > rate.points[n-1].y:
			rate.points[n-1] = p
		}
	}
	c.lines = []line{rate}
	return c
}
