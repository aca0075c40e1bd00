package top

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	"streamrelay/telemetry/live"
)

const (
	keepGood   = 500
	keepFailed = 300
	keepSpark  = 900
)

// board is what is known of the relay, and how the user wants to see it.
type board struct {
	s         *live.Snapshot // the newest; nil: there is none yet
	good, bad []live.Request
	spark     []float32 // requests a second
	lost      string    // why there is nothing new; "": there is

	filter string
	typing bool // the filter
	failed bool // those alone
	sort   order
	paused bool
	held   []live.Request // what is shown while paused
}

type order int

const (
	byTime order = iota
	byTTFT
	byDuration
	byTokens
	numOrders
)

var orderNames = [numOrders]string{"time", "TTFT", "duration", "tokens out"}

// take adds an event.
func (b *board) take(e event) error {
	if e.lost != nil {
		b.lost = e.lost.Error()
		return nil
	}
	s := new(live.Snapshot)
	if err := json.Unmarshal(e.raw, s); err != nil {
		return err
	}
	b.lost = ""
	if e.name == "state" {
		b.good, b.bad, b.spark = nil, nil, nil
		if s.History != nil {
			b.spark = s.History.Columns["requests"]
			if b.spark == nil {
				b.spark = make([]float32, s.History.Seconds)
			}
		}
	} else {
		if b.s != nil {
			for range min(s.Time-b.s.Time-s.Seconds, keepSpark) {
				b.spark = append(b.spark, float32(math.NaN()))
			}
		}
		for range min(s.Seconds, keepSpark) {
			b.spark = append(b.spark, float32(s.Point["requests"]))
		}
	}
	b.spark = b.spark[max(len(b.spark)-keepSpark, 0):]
	for _, r := range s.Requests {
		if r.Failed {
			b.bad = append(b.bad, r)
		} else {
			b.good = append(b.good, r)
		}
	}
	b.good, b.bad = b.good[max(len(b.good)-keepGood, 0):], b.bad[max(len(b.bad)-keepFailed, 0):]
	b.s = s
	return nil
}

// key does what a key asks for, and reports whether it asks to end.
func (b *board) key(k rune) (quit bool) {
	const escape, backspace, ctrlC, ctrlU = 0x1b, 0x7f, 3, 21
	if k == ctrlC {
		return true
	}
	if b.typing {
		switch {
		case k == '\r' || k == '\n':
			b.typing = false
		case k == escape:
			b.typing, b.filter = false, ""
		case k == backspace || k == '\b':
			if r := []rune(b.filter); len(r) > 0 {
				b.filter = string(r[:len(r)-1])
			}
		case k == ctrlU:
			b.filter = ""
		case k >= ' ' && len(b.filter) < 100:
			b.filter += string(k)
		}
		return false
	}
	switch k {
	case 'q', 'Q':
		return true
	case '/':
		b.typing = true
	case escape:
		b.filter, b.failed = "", false
	case 'e':
		b.failed = !b.failed
	case 's':
		b.sort = (b.sort + 1) % numOrders
	case 'p', ' ':
		b.paused = !b.paused
		b.held = b.all()
	}
	return false
}

func (b *board) all() []live.Request {
	all := append(slices.Clone(b.good), b.bad...)
	slices.SortStableFunc(all, func(x, y live.Request) int { return cmp.Compare(y.Time, x.Time) })
	return all
}

// requests returns those that the user wants to see, in the order wanted.
func (b *board) requests() []live.Request {
	all := b.held
	if !b.paused {
		all = b.all()
	}
	words := strings.Fields(strings.ToLower(b.filter))
	list := slices.DeleteFunc(slices.Clone(all), func(r live.Request) bool { return b.failed && !r.Failed || !matches(&r, words) })
	value := func(r *live.Request) float64 {
		v := 0.0
		switch b.sort {
		case byTTFT:
			v = float64(r.TTFT)
		case byDuration:
			v = r.Duration
		case byTokens:
			v = float64(r.TokensOut)
		}
		if v != v {
			return -1
		}
		return v
	}
	slices.SortStableFunc(list, func(x, y live.Request) int { return cmp.Compare(value(&y), value(&x)) })
	return list
}

// matches reports whether all words stand in a request, and none of those that
// begin with "-".
func matches(r *live.Request, words []string) bool {
	text := strings.ToLower(strings.Join([]string{r.ID, r.Tenant, r.Endpoint, r.Model, r.Upstream, strconv.Itoa(r.Status), r.End, r.Code}, " "))
	for _, w := range words {
		not, no := strings.CutPrefix(w, "-")
		if no && not != "" && strings.Contains(text, not) || !no && !strings.Contains(text, w) {
			return false
		}
	}
	return true
}
