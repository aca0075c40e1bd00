package bench

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"streamrelay/bench/load"
	"streamrelay/bench/report"
)

// upTo is a trial of an endpoint that carries limit and no more, but for runs
// that the machine disturbed.
func upTo(limit float64, disturbed ...int) trial {
	n := 0
	return func(_ context.Context, v float64) (*report.Report, error) {
		r := &report.Report{Result: load.Result{Valid: true}}
		ok := v <= limit
		for _, k := range disturbed {
			ok = ok && n != k
		}
		n++
		r.Verdicts = []report.Verdict{{Bound: "p99 ≤ 1 s", Passed: ok, Text: "2 s"}}
		return r, nil
	}
}

func TestFindMaxFindsTheKnee(t *testing.T) {
	for _, limit := range []float64{1, 7, 99, 100, 101, 149, 1234, 54321} {
		r, err := findMax(context.Background(), "requests/s", 100, maxRate, upTo(limit))
		if err != nil {
			t.Fatal(err)
		}
		m := r.Max
		if m.Value > limit || m.Value < limit*(1-2*resolution)-1 || m.Failed <= limit || !m.Proven || m.Limit != "p99 ≤ 1 s is 2 s" || len(m.Probes) > maxProbes {
			t.Errorf("%v: found %v, failed at %v, proven %v, %q, %d probes", limit, m.Value, m.Failed, m.Proven, m.Limit, len(m.Probes))
		}
	}
}

func TestFindMaxIsNotFooledByOneDisturbance(t *testing.T) {
	for k := range 8 {
		r, err := findMax(context.Background(), "requests/s", 100, maxRate, upTo(1000, k))
		if err != nil {
			t.Fatal(err)
		}
		if m := r.Max; m.Value < 850 || m.Value > 1000 || !m.Proven {
			t.Errorf("run %d disturbed: %+v", k, m)
		}
	}
}

func TestFindMaxSaysWhenItFoundNothing(t *testing.T) {
	r, err := findMax(context.Background(), "requests/s", 100, maxRate, upTo(0))
	if err != nil || r.Max.Value != 0 || r.Max.Proven || r.Max.Failed > 2 {
		t.Errorf("%+v, %v", r.Max, err)
	}
	// Without a failure there is no knee, only a lower bound.
	r, err = findMax(context.Background(), "streams", 100, 500, upTo(math.Inf(1)))
	if err != nil || r.Max.Value != 500 || r.Max.Proven || r.Max.Failed != 0 {
		t.Errorf("%+v, %v", r.Max, err)
	}
}

func TestASearchThatEndsEarlySaysWhatWasFound(t *testing.T) {
	for ends, want := range map[int]struct{ value, failed float64 }{0: {}, 1: {100, 0}, 4: {338, 0}, 9: {951, 1140}} {
		n, carries := 0, upTo(1000)
		r, err := findMax(context.Background(), "requests/s", 100, maxRate, func(ctx context.Context, v float64) (*report.Report, error) {
			if n++; n > ends {
				return nil, errors.New("no such process")
			}
			return carries(ctx, v)
		})
		if ends == 0 {
			if err == nil {
				t.Errorf("nothing was tried, and no error: %+v", r)
			}
			continue
		}
		if err != nil || r.Max.Value != want.value || r.Max.Failed != want.failed || r.Max.Proven || r.Valid || !strings.Contains(strings.Join(r.Invalid, "; "), "the search ended early: no such process") {
			t.Errorf("after %d runs: %+v, valid %v: %v, %v", ends, r.Max, r.Valid, r.Invalid, err)
		}
	}
}

func TestOneDisturbanceDoesNotEndALowSearchAtNothing(t *testing.T) {
	for _, limit := range []float64{8, 5, 3, 2} {
		for k := range 30 {
			r, err := findMax(context.Background(), "streams", 4, maxRate, upTo(limit, k))
			if err != nil {
				t.Fatal(err)
			}
			if m := r.Max; m.Value < limit-1 || m.Value > limit || !m.Proven {
				t.Errorf("limit %v, run %d disturbed: %+v", limit, k, m)
			}
		}
	}
}

func TestReadingsAreTheBoards(t *testing.T) {
	rungs := []report.Rung{
		{Connections: 16, Rate: 7015, P99: 0.0009, Finished: 10},
		{Connections: 64, Rate: 15438, P99: 0.004, Finished: 10},
		{Connections: 256, Rate: 18943, P99: 0.009, Finished: 10},
		{Connections: 512, Rate: 18943, P99: 0.0095, Finished: 10},
		{Connections: 1024, Rate: 19284, P99: 0.040, Finished: 10},
		{Connections: 2048, Rate: 30000, P99: 0.0001, Finished: 10, Failed: 1}, // a failed request
		{Connections: 2048, Rate: 40000, P99: 0.0001},                          // nothing finished
	}
	want := []report.Reading{
		{Bound: 0.001, Rate: 7015, Connections: 16, P99: 0.0009},
		{Bound: 0.005, Rate: 15438, Connections: 64, P99: 0.004},
		{Bound: 0.010, Rate: 18943, Connections: 256, P99: 0.009}, // the fewest connections
		{Bound: 0.050, Rate: 19284, Connections: 1024, P99: 0.040},
		{Bound: 0.100, Rate: 19284, Connections: 1024, P99: 0.040},
		{Bound: 0, Rate: 19284, Connections: 1024, P99: 0.040},
	}
	got := readings(rungs)
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
	if r := readings(rungs[:2]); !r[5].Lower || r[0].Lower {
		t.Errorf("a reading at the last rung is a lower bound: %+v", r)
	}
}

func TestSweepStopsWhereNothingIsClean(t *testing.T) {
	rungs, err := sweep(context.Background(), 1024, func(_ context.Context, n int) (*report.Report, error) {
		r := &report.Report{Rate: float64(n)}
		r.Requests = 100
		if n >= 8 {
			r.Errors = 1
		}
		return r, nil
	})
	if err != nil || len(rungs) != 4*windowsPerRung || rungs[len(rungs)-1].Connections != 8 {
		t.Errorf("%+v, %v", rungs, err)
	}
}

func TestStreamsSearchTakesTheBoardsGate(t *testing.T) {
	for name, spoil := range map[string]func(r *report.Report, n int){
		"10 streams stalled for more than 200 ms": func(r *report.Report, _ int) { r.Stalls = 10 },
		"only 3 of 20 streams were open":          func(r *report.Report, _ int) { r.Invalid = []string{"only 3 of 20 streams were open"} },
		"1 streams lacked events":                 func(r *report.Report, _ int) { r.Broken, r.Errors = 1, 1 },
		"":                                        func(r *report.Report, n int) { r.Errors = int64(float64(n)*boardErrors) + 1 },
	} {
		f := &report.Frontier{}
		err := streamsSearch(context.Background(), f, 10_000, func(_ context.Context, n int) (*report.Report, error) {
			r := &report.Report{}
			if n > 3000 {
				spoil(r, n)
			}
			return r, nil
		})
		if err != nil || f.Streams > 3000 || f.Streams < 2900 || f.Failed <= 3000 || name != "" && f.Why != name {
			t.Errorf("%s: %d whole, %d not: %s, %v", name, f.Streams, f.Failed, f.Why, err)
		}
	}
	f := &report.Frontier{}
	// Fewer than one in a thousand may never begin.
	err := streamsSearch(context.Background(), f, 8000, func(_ context.Context, n int) (*report.Report, error) {
		r := &report.Report{}
		if n == 8000 {
			r.Errors = 7
		}
		return r, nil
	})
	if err != nil || f.Streams != 8000 || f.Failed != 0 {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestStreamsNeverFallTogether(t *testing.T) {
	for _, gap := range []time.Duration{20 * time.Millisecond, 50 * time.Millisecond, time.Second} {
		step := apart(gap)
		if step < time.Millisecond || step > 3*time.Millisecond {
			t.Errorf("gap %s: streams begin each %s", gap, step)
		}
		const n, parts = 1000, 100
		var in [parts]int
		for i := range n {
			in[int(time.Duration(i)*step%gap*parts/gap)]++
		}
		for part, k := range in {
			if k < n/parts-5 || k > n/parts+5 {
				t.Errorf("gap %s: %d of %d streams in part %d of %d", gap, k, n, part, parts)
			}
		}
	}
}

func TestRateMakesAClosedLoopOpen(t *testing.T) {
	s, err := Find("json")
	if err != nil {
		t.Fatal(err)
	}
	if j := s.Job(Load{Duration: time.Second}); j.Loop != load.Closed || j.Streams != 16 {
		t.Errorf("%+v", j)
	}
	if j := s.Job(Load{Duration: time.Second, Rate: 10}); j.Loop != load.Open || j.Streams != mostConnections || j.Rate != 10 {
		t.Errorf("%+v", j)
	}
}
