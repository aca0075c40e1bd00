package load

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Result is what a run showed.
type Result struct {
	Measures
	ByClass  map[string]int64  `json:"errors_by_class"`          // in the whole run, warm-up included
	Examples map[string]string `json:"error_examples,omitempty"` // what the first of each class said
	Errors   int64             `json:"errors"`                   // all of them; a direct endpoint's are apart
	Valid    bool              `json:"valid"`
	Invalid  []string          `json:"invalid,omitempty"` // why not
	Lag      Summary           `json:"lag"`               // of our sending behind the due time
	Sends    int64             `json:"sends"`
	Late     int64             `json:"late_sends"` // of which more than 10 ms
	NotSent  int64             `json:"not_sent"`
	Open     int64             `json:"streams_open"` // of loop streams, of both endpoints: the fewest at the window's ends
	Seconds  float64           `json:"seconds"`      // length of the window
	Growth   float64           `json:"growth"`       // of loop open: of the mean latency, seconds a second of the window
	Cost     Cost              `json:"cost"`
	Memory   Memory            `json:"memory"`

	Cancels map[string]Summary `json:"cancels,omitempty"` // by phase: our close to the provider's notice
	Never   int64              `json:"never_noticed"`     // cancels that it did not notice

	// OtherClock: the times that the provider wrote into its events are not of
	// this machine's clock, so that nothing is known of their delay.
	OtherClock bool `json:"other_clock,omitempty"`

	Direct        *Measures        `json:"direct,omitempty"`
	DirectErrors  int64            `json:"direct_errors,omitempty"`
	DirectByClass map[string]int64 `json:"direct_errors_by_class,omitempty"`

	Added map[string]Added `json:"added,omitempty"` // by measure: latency, ttft, delay; none where the direct endpoint failed
}

// Measures are what one endpoint showed. All times are in seconds.
type Measures struct {
	Requests int64              `json:"requests"` // due within the window; of loop streams, all
	Failed   int64              `json:"failed"`   // of which failed
	Waited   int64              `json:"waited"`   // failures that went on for longer than the median answer: in latency (head, ttft) as the least that they took
	Broken   int64              `json:"broken"`   // answers that ended badly after a 200 had come
	Stalls   int64              `json:"stalls"`   // answers with a gap longer than allowed
	Latency  Summary            `json:"latency"`  // due to last byte; of loop cancel: our close to the provider's notice
	Head     Summary            `json:"head"`     // due to the answer's head
	TTFT     Summary            `json:"ttft"`     // due to the first event with output
	Gap      Summary            `json:"gap"`      // between two events
	Delay    Summary            `json:"delay"`    // of an event, the provider's write to our read
	Connect  Summary            `json:"connect"`
	Curves   map[string][]Point `json:"curves"` // of the percentiles, by measure
	Series   []Second           `json:"series"` // the window in equal parts
}

// Second is a part of the window, most often a second.
type Second struct {
	At       float64 `json:"at"` // its beginning, seconds from the window's
	Finished int64   `json:"finished"`
	Failed   int64   `json:"failed"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	Max      float64 `json:"max"`
	DelayP50 float64 `json:"delay_p50"`
	DelayP99 float64 `json:"delay_p99"`
}

// Cost is what the window cost, CPU in nanoseconds.
type Cost struct {
	Requests int64 `json:"requests"` // finished within the window
	Events   int64 `json:"events"`   // received within it
	Peer     int64 `json:"peer_cpu_ns"`
	Provider int64 `json:"provider_cpu_ns"`
	Own      int64 `json:"own_cpu_ns"`
}

// Memory is the endpoint's, in KiB.
type Memory struct {
	Idle    int64 `json:"idle_kib"`
	Base    int64 `json:"base_kib"`  // with the first streams open, which are none of those below
	Open    int64 `json:"open_kib"`  // with all streams open
	Later   int64 `json:"later_kib"` // at the window's end
	Streams int64 `json:"streams"`   // that were open
}

// Known reports whether the memory of a stream was measured.
func (m Memory) Known() bool { return m.Open > 0 && m.Streams > 0 }

// PerStream returns the memory of an open stream in KiB, beyond that of the
// first ones, at the window's beginning and its end.
func (m Memory) PerStream() (open, later float64) {
	if !m.Known() {
		return 0, 0
	}
	return float64(m.Open-m.Base) / float64(m.Streams), float64(m.Later-m.Base) / float64(m.Streams)
}

func (res *Result) cost(before, after reading) {
	peer, err := spent(before.peer, after.peer)
	if err != nil {
		res.Invalid = append(res.Invalid, err.Error())
	}
	res.Seconds = float64(after.at-before.at) / 1e9
	res.Cost = Cost{
		Requests: after.finished - before.finished, Events: after.events - before.events,
		Peer: peer, Provider: after.provider - before.provider, Own: after.own - before.own,
	}
}

// complete adds what the arms counted. All goroutines have ended.
func (r *run) complete(res *Result) {
	a := r.arms[0]
	for _, a := range r.arms {
		a.bound()
	}
	res.ByClass, res.Examples, res.Errors = a.byClass, a.examples, a.errors.Load()
	res.OtherClock = r.strange.Load()
	if res.OtherClock {
		for _, a := range r.arms {
			a.delay = Histogram{}
			for i := range a.slices {
				a.slices[i].delay, a.slices[i].delays = Histogram{}, sample{}
			}
		}
		if r.job.Loop == Cancel {
			res.Invalid = append(res.Invalid, "the provider's clock is another one than ours: when it noticed is not known")
		}
	}
	res.Lag, res.Sends, res.Late, res.NotSent = r.lag.Summary(), r.sends.Load(), r.late.Load(), r.notSent.Load()
	res.Measures = a.measures()
	if r.job.Loop == Open {
		res.Growth = a.growth()
	}
	if len(r.arms) == 2 {
		direct := r.arms[1].measures()
		res.Direct, res.DirectErrors, res.DirectByClass = &direct, r.arms[1].errors.Load(), r.arms[1].byClass
		if res.DirectErrors == 0 {
			res.Added = compare(r.arms[0], r.arms[1])
		}
	}
	res.Invalid = append(res.Invalid, r.invalid(res)...)
	res.Valid = len(res.Invalid) == 0
}

// Bounds of a valid run.
const (
	maxLag       = time.Millisecond
	maxLagShare  = 0.1   // of the p99 latency
	maxLateShare = 0.001 // of the sends
)

// invalid says why the figures are not the endpoint's but the generator's, or
// have nothing to be compared with.
func (r *run) invalid(res *Result) (why []string) {
	if r.job.Loop == Open {
		if bound := max(maxLag.Seconds(), maxLagShare*res.Latency.P99); res.Lag.P99 > bound {
			why = append(why, fmt.Sprintf("the generator sent late: p99 of the lag is %s, allowed is %s", seconds(res.Lag.P99), seconds(bound)))
		}
		if res.Sends > 0 && float64(res.Late) > maxLateShare*float64(res.Sends) {
			why = append(why, fmt.Sprintf("%d of %d sends were more than %s late", res.Late, res.Sends, muchLate))
		}
		if res.NotSent > 0 {
			why = append(why, fmt.Sprintf("%d requests were not sent: all %d connections were busy (--streams)", res.NotSent, r.arms[0].idle.most))
		}
	}
	if n := res.ByClass[ownLimit]; n > 0 {
		why = append(why, fmt.Sprintf("%d connections failed for want of files or addresses here", n))
	}
	if n := res.DirectErrors; n > 0 {
		// What is left of its answers is not what the endpoint's stand beside.
		why = append(why, fmt.Sprintf("the direct endpoint failed %d times (%s): nothing can be compared with it", n, classes(res.DirectByClass)))
	}
	if res.Requests == 0 {
		why = append(why, "no request was due within the window")
	}
	return why
}

// classes lists errors by class.
func classes(n map[string]int64) string {
	var list []string
	for _, class := range slices.Sorted(maps.Keys(n)) {
		list = append(list, fmt.Sprintf("%d × %s", n[class], class))
	}
	return strings.Join(list, ", ")
}

// growth is how much longer answers in the window's second half took than those
// in its first, to the time between the two.
func (a *arm) growth() float64 {
	first, second := a.halves[0].mean(), a.halves[1].mean()
	if first == 0 || second == 0 {
		return 0
	}
	return (second - first) / (float64(a.run.job.Window) / 2)
}

func seconds(s float64) time.Duration {
	return time.Duration(s * 1e9).Round(time.Microsecond)
}

func (a *arm) measures() Measures {
	m := Measures{
		Requests: a.requests.Load(), Failed: a.failed.Load(), Waited: a.waited, Broken: a.broken.Load(), Stalls: a.stalls.Load(),
		Latency: a.latency.Summary(), Head: a.head.Summary(), TTFT: a.ttft.Summary(), Gap: a.gap.Summary(),
		Delay: a.delay.Summary(), Connect: a.connect.Summary(), Curves: map[string][]Point{},
	}
	for name, h := range map[string]*Histogram{"latency": &a.latency, "ttft": &a.ttft, "gap": &a.gap, "delay": &a.delay} {
		if c := h.Curve(); len(c) > 0 {
			m.Curves[name] = c
		}
	}
	width := a.run.job.Window.Seconds() / float64(max(len(a.slices), 1))
	for i := range a.slices {
		s := &a.slices[i]
		l, d := s.latency.Summary(), s.delay.Summary()
		m.Series = append(m.Series, Second{
			At: float64(i) * width, Finished: s.finished.Load(), Failed: s.failed.Load(),
			P50: l.P50, P99: l.P99, Max: l.Max, DelayP50: d.P50, DelayP99: d.P99,
		})
	}
	return m
}
