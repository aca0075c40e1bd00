package bench

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"streamrelay/bench/load"
	"streamrelay/bench/report"
)

// TestFindMaxFindsWhatIsCarriedNotWhatIsOffered has an endpoint that answers
// 100 requests a second and no more, queueing what comes above: within a short
// run no latency gets as high as the bound.
func TestFindMaxFindsWhatIsCarriedNotWhatIsOffered(t *testing.T) {
	t.Parallel()
	queue := make(chan chan struct{}, 100_000)
	defer close(queue)
	go func() {
		for c := range queue {
			time.Sleep(10 * time.Millisecond)
			close(c)
		}
	}()
	e := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		c := make(chan struct{})
		queue <- c
		<-c
		_, _ = io.WriteString(w, `{"choices":[]}`)
	}))
	defer e.Close()
	out, err := run(t, "json", "--url", e.URL, "--key", "k", "--rate", "120", "--duration", "300ms", "--find-max", "--slo", "p99=1s", "--json")
	if err != nil && !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	var r report.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.Max.Value > 110 {
		t.Errorf("it carries 100/s; found %v/s in a run that answered %.0f/s: %+v", r.Max.Value, r.Rate, r.Max.Probes)
	}
}

func TestALowerRateIsNotCarriedOnlyWhereLatencyGrows(t *testing.T) {
	for _, tt := range []struct {
		loop         load.Loop
		rate, growth float64
		valid        bool
	}{
		{load.Open, 94, 0.06, false},
		{load.Open, 96, 0.06, true},
		{load.Open, 50, 0, true}, // answers take longer than the window's half
		{load.Closed, 50, 1, true},
	} {
		r := &report.Report{Loop: tt.loop, Rate: tt.rate, TargetRate: 100, Result: load.Result{Valid: true, Growth: tt.growth}}
		if carried(r); r.Valid != tt.valid || len(r.Invalid) > 0 == tt.valid {
			t.Errorf("%+v: %v %v", tt, r.Valid, r.Invalid)
		}
	}
}
