package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// Charts are drawn as inline SVG: they need no script, print well, and follow
// the reader's light or dark theme by the page's style sheet.

// line is one series of a chart.
type line struct {
	name   string
	class  string // names its colour
	points []point
}

type point struct {
	x, y float64
	text string // shown where the pointer is
}

// tick is a labelled place on an axis.
type tick struct {
	at    float64
	label string
}

// chart is a frame with lines in it. x runs from 0 to xMax.
type chart struct {
	title  string
	xLabel string
	xTicks []tick
	xMax   float64
	log    bool // y is logarithmic
	show   func(float64) string
	lines  []line
}

// The frame, in the units of the view box.
const (
	width, height           = 640, 280
	left, right, top, below = 64, 14, 34, 40
)

func (c *chart) svg() template.HTML {
	low, high := c.bounds()
	if high == 0 || c.xMax == 0 {
		return ""
	}
	x := func(v float64) float64 { return left + v/c.xMax*(width-left-right) }
	y := func(v float64) float64 {
		share := (v - low) / (high - low)
		if c.log {
			share = math.Log(max(v, low)/low) / math.Log(high/low)
		}
		return height - below - share*(height-below-top)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, width, height, template.HTMLEscapeString(c.title))
	fmt.Fprintf(&b, `<text class="t" x="%d" y="16">%s</text>`, left, template.HTMLEscapeString(c.title))
	for _, t := range c.yTicks(low, high) {
		fmt.Fprintf(&b, `<path class="g" d="M%d %.1fH%d"/><text class="a" x="%d" y="%.1f" text-anchor="end">%s</text>`, left, y(t.at), width-right, left-8, y(t.at)+4, t.label)
	}
	for _, t := range c.xTicks {
		fmt.Fprintf(&b, `<path class="g" d="M%.1f %dV%d"/><text class="a" x="%.1f" y="%d" text-anchor="middle">%s</text>`, x(t.at), top, height-below, x(t.at), height-below+16, t.label)
	}
	fmt.Fprintf(&b, `<text class="a" x="%d" y="%d" text-anchor="end">%s</text>`, width-right, height-6, template.HTMLEscapeString(c.xLabel))
	for _, l := range c.lines {
		var path strings.Builder
		for i, p := range l.points {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(i, 1)], x(p.x), y(p.y))
		}
		fmt.Fprintf(&b, `<path class="l %s" d="%s"/>`, l.class, path.String())
		for _, p := range l.points {
			fmt.Fprintf(&b, `<circle class="p %s" cx="%.1f" cy="%.1f" r="5"><title>%s: %s</title></circle>`, l.class, x(p.x), y(p.y), l.name, template.HTMLEscapeString(p.text))
		}
	}
	// The legend stands right of the title, from the right.
	at := float64(width - right)
	for i := len(c.lines) - 1; i >= 0; i-- {
		l := c.lines[i]
		at -= 7 * float64(len([]rune(l.name)))
		fmt.Fprintf(&b, `<text class="a" x="%.1f" y="16">%s</text><path class="l %s" d="M%.1f 12h14"/>`, at, template.HTMLEscapeString(l.name), l.class, at-19)
		at -= 32
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) // every text in it is escaped above
}

// bounds are the lowest and the highest value shown.
func (c *chart) bounds() (low, high float64) {
	low = math.Inf(1)
	for _, l := range c.lines {
		for _, p := range l.points {
			high = max(high, p.y)
			if p.y > 0 {
				low = min(low, p.y)
			}
		}
	}
	if !c.log {
		return 0, nice(high)
	}
	if high == 0 {
		return 0, 0
	}
	low = math.Pow(10, math.Floor(math.Log10(low)))
	return low, math.Pow(10, math.Ceil(math.Log10(high*1.0001)))
}

// nice rounds up to 1, 2, 2.5, 4 or 5 times a power of ten, or 8.
func nice(v float64) float64 {
	if v == 0 {
		return 0
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 2.5, 4, 5, 8, 10} {
		if v <= m*power*1.0000001 {
			return m * power
		}
	}
	return v
}

func (c *chart) yTicks(low, high float64) (ticks []tick) {
	if c.log {
		for v := low; v <= high*1.01; v *= 10 {
			ticks = append(ticks, tick{v, c.show(v)})
		}
		return ticks
	}
	const parts = 4
	for i := range parts + 1 {
		v := high * float64(i) / parts
		ticks = append(ticks, tick{v, c.show(v)})
	}
	return ticks
}
