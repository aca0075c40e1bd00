package load

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"streamrelay/bench/simulate"
)

func expected(t testing.TB) simulate.Expected {
	t.Helper()
	e, err := simulate.Expect(chatPath, streamBody, simulate.Profile{Events: 5, Size: 250, Prompt: 7, ID: "x"}, false)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// feedAll feeds b in pieces of size n.
func feedAll(k *checker, b []byte, n int) error {
	for len(b) > 0 {
		m := min(n, len(b))
		if err := k.feed(b[:m], 100); err != nil {
			return err
		}
		b = b[m:]
	}
	return k.end()
}

func TestCheckerFindsEveryAlteration(t *testing.T) {
	want := expected(t)
	check := func(b []byte, n int) error {
		k := &checker{run: &run{}}
		k.reset(want)
		return feedAll(k, b, n)
	}
	whole := string(want.Body)
	if n := len(want.Times); n != 5 {
		t.Fatalf("%d marks", n)
	}
	for n := 1; n < 600; n++ {
		if err := check([]byte(whole), n); err != nil {
			t.Fatalf("whole answer in pieces of %d: %v", n, err)
		}
	}
	events := strings.SplitAfter(whole, "\n\n")
	for name, broken := range map[string]string{
		"one event lost":     strings.Replace(whole, events[2], "", 1),
		"one event doubled":  strings.Replace(whole, events[2], events[2]+events[2], 1),
		"two events swapped": strings.Replace(whole, events[2]+events[3], events[3]+events[2], 1),
		"a comment added":    strings.Replace(whole, events[2], ": hello\n\n"+events[2], 1),
		"no terminal event":  strings.TrimSuffix(whole, "data: [DONE]\n\n"),
		"usage lost":         strings.Replace(whole, events[len(events)-3], "", 1),
		"something behind":   whole + "\n",
		"nothing":            "",
	} {
		if broken == whole {
			t.Fatalf("%s: the test alters nothing", name)
		}
		if check([]byte(broken), 100) == nil {
			t.Errorf("%s: not found", name)
		}
	}
	times := map[int]bool{}
	for _, at := range want.Times {
		for i := range simulate.TimeWidth {
			times[at+i] = true
		}
	}
	for i := range whole {
		b := []byte(whole)
		b[i] ^= 0x80
		if check(b, 64) == nil {
			t.Errorf("byte %d altered (send time: %v): not found", i, times[i])
		}
	}
}

func TestCheckerReadsSendTimes(t *testing.T) {
	want := expected(t)
	b := bytes.Clone(want.Body)
	copy(b[want.Times[3]:], "000000000000003c") // 60; feedAll receives at 100
	r := &run{}
	r.recorded.Store(true)
	k := &checker{run: r}
	k.reset(want)
	if err := feedAll(k, b, 7); err != nil {
		t.Fatal(err)
	}
	if r.events.Load() != 5 || r.delay.counts[40].Load() != 1 || r.delay.max.Load() != 100 {
		t.Errorf("%d events, %d of 40 ns, longest %d", r.events.Load(), r.delay.counts[40].Load(), r.delay.max.Load())
	}
}

func TestHistogramKeepsItsError(t *testing.T) {
	var h Histogram
	for _, v := range []int64{0, 1, 63, 64, 127, 128, 1000, 123_456, 999_999_999, math.MaxInt64} {
		if got := valueOf(bucketOf(v)); math.Abs(float64(got-v)) > 0.016*float64(v) {
			t.Errorf("%d is kept as %d", v, got)
		}
	}
	h.Add(-5)
	for i := int64(1); i <= 1000; i++ {
		h.Add(i * 1000)
	}
	s := h.Summary()
	for name, v := range map[string][2]float64{"p50": {s.P50, 500e-6}, "p90": {s.P90, 900e-6}, "p99": {s.P99, 990e-6}, "p999": {s.P999, 999e-6}, "max": {s.Max, 1000e-6}} {
		if math.Abs(v[0]-v[1]) > 0.02*v[1] {
			t.Errorf("%s is %v, want %v", name, v[0], v[1])
		}
	}
	if s.Count != 1001 {
		t.Errorf("count %d", s.Count)
	}
	if s := new(Histogram).Summary(); s != (Summary{}) {
		t.Errorf("empty: %+v", s)
	}
}

func TestCheckingDoesNotAllocate(t *testing.T) {
	want := expected(t)
	r := &run{}
	r.recorded.Store(true)
	k := &checker{run: r}
	if n := testing.AllocsPerRun(100, func() {
		k.reset(want)
		if err := feedAll(k, want.Body, 200); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
