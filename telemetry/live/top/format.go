package top

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rivo/uniseg"
)

// clean returns s without what a terminal would act upon: control characters,
// and those that turn the direction of writing. Clients choose models.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == unicode.ReplacementChar || r == '\u2028' || r == '\u2029' {
			return '·'
		}
		return r
	}, s)
}

// fit returns s in exactly width cells, cut with an ellipsis where it is longer.
func fit(s string, width int, right bool) string {
	if width <= 0 {
		return ""
	}
	n := uniseg.StringWidth(s)
	if n > width {
		var b strings.Builder
		n = 0
		for g := uniseg.NewGraphemes(s); g.Next(); {
			if n+g.Width() > width-1 {
				break
			}
			n += g.Width()
			b.WriteString(g.Str())
		}
		b.WriteString("…")
		n++
		s = b.String()
	}
	if right {
		return strings.Repeat(" ", width-n) + s
	}
	return s + strings.Repeat(" ", width-n)
}

// digits writes about three digits of v.
func digits(v float64) string {
	n := 2
	switch {
	case v >= 100:
		n = 0
	case v >= 10:
		n = 1
	}
	s := strconv.FormatFloat(v, 'f', n, 64)
	if n > 0 {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	return s
}

func count(v float64) string {
	switch {
	case v != v:
		return "-"
	case v >= 1e9:
		return digits(v/1e9) + " G"
	case v >= 1e6:
		return digits(v/1e6) + " M"
	case v >= 1e4:
		return digits(v/1e3) + " k"
	}
	return digits(v)
}

// whole writes v with a comma between each three digits.
func whole(v uint64) string {
	s := strconv.FormatUint(v, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func seconds(s float64) string {
	switch {
	case s != s:
		return "-"
	case s == 0:
		return "0"
	case s < 1e-3:
		return digits(s*1e6) + " µs"
	case s < 1:
		return digits(s*1e3) + " ms"
	case s < 120:
		return digits(s) + " s"
	}
	return span(time.Duration(s * 1e9))
}

func span(d time.Duration) string {
	d = max(d, 0)
	m, h := int(d.Minutes()), int(d.Hours())
	switch {
	case m < 2:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case h < 1:
		return fmt.Sprintf("%d min", m)
	case h < 24:
		return fmt.Sprintf("%d h %d min", h, m%60)
	}
	return fmt.Sprintf("%d d %d h", h/24, h%24)
}

func share(part, all float64) string {
	if !(all > 0) {
		return "-"
	}
	return digits(part/all*100) + " %"
}

var blocks = []rune("▁▂▃▄▅▆▇█")

// spark draws values, the newest at the right; a blank where there is none.
func spark(values []float32, width int) string {
	width = max(width, 0)
	values = values[max(len(values)-width, 0):]
	most := float32(0)
	for _, v := range values {
		if v == v {
			most = max(most, v)
		}
	}
	out := make([]rune, 0, width)
	for range width - len(values) {
		out = append(out, ' ')
	}
	for _, v := range values {
		switch {
		case v != v:
			out = append(out, ' ')
		case most == 0:
			out = append(out, blocks[0])
		default:
			out = append(out, blocks[max(int(math.Ceil(float64(v/most)*float64(len(blocks))))-1, 0)])
		}
	}
	return string(out)
}
