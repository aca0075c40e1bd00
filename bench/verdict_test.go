package bench

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"streamrelay/bench/load"
	"streamrelay/bench/report"
	"streamrelay/bench/simulate"
)

// TestADirectEndpointThatFailsIsNoCleanRun fails half of what a run sends.
func TestADirectEndpointThatFailsIsNoCleanRun(t *testing.T) {
	t.Parallel()
	profile, err := simulate.ParseProfile(simulate.Profile{}, []byte("cut=5"))
	if err != nil {
		t.Fatal(err)
	}
	good, bad := provider(t, simulate.Options{}), provider(t, simulate.Options{Profile: profile})
	html := filepath.Join(t.TempDir(), "x.html")
	text, err := run(t, "burst", "--url", good, "--direct", bad, "--key", "k", "--duration", "300ms", "--streams", "2", "--html", html)
	if !errors.Is(err, errBroken) || !strings.Contains(text, "the direct endpoint failed ") || !strings.Contains(text, " × cut): nothing can be compared with it") || strings.Contains(text, "Added ") {
		t.Errorf("%v\n%s", err, text)
	}
	if page, err := os.ReadFile(html); err != nil || !bytes.Contains(page, []byte("Not valid: the direct endpoint failed")) || !bytes.Contains(page, []byte("error of the direct endpoint")) {
		t.Errorf("the page does not say so: %v", err)
	}
}

// TestCompareSaysWhatIsNotTheSame has two runs of different loads, the second
// without --pid.
func TestCompareSaysWhatIsNotTheSame(t *testing.T) {
	t.Parallel()
	url, dir := provider(t, simulate.Options{}), t.TempDir()
	a, b := filepath.Join(dir, "a.json"), filepath.Join(dir, "b.json")
	for file, args := range map[string][]string{a: {"--duration", "300ms", "--pid", pid()}, b: {"--duration", "200ms", "--simulate", "events=2000", "--model", "other", "--direct", url}} {
		if _, err := run(t, append(args, "json", "--url", url, "--key", "k", "--out", file)...); err != nil && !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
	}
	text, err := run(t, "--compare", a, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"NOT THE SAME LOAD: --simulate none and events=2000", "NOT THE SAME LOAD: model simulated and other",
		"NOT THE SAME LOAD: seconds measured 0.3 and 0.2", "NOT THE SAME LOAD: --direct false and true",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) { // one of the two is not measured
		if f := strings.Fields(line); (strings.Contains(line, "CPU") || strings.Contains(line, "added")) && (f[len(f)-1] != "-") {
			t.Errorf("what was not measured is shown as something: %s", line)
		}
	}
	if !strings.Contains(text, "added latency p50") {
		t.Errorf("no added time in\n%s", text)
	}
}

func TestAnInterruptEndsTheTries(t *testing.T) {
	for name, tt := range map[string]struct {
		runs []*report.Report // nil: an error
		ends int              // the run in which the interrupt comes
		want int              // the run that is returned, 0: an error
	}{
		"until one is valid": {runs: []*report.Report{{}, {Result: load.Result{Valid: true}}, {}}, ends: 9, want: 2},
		"the last":           {runs: []*report.Report{{}, {}, {}}, ends: 9, want: 3},
		"part of one":        {runs: []*report.Report{{}, {}, {}}, ends: 1, want: 1},
		"before the second":  {runs: []*report.Report{{}, nil, {}}, ends: 2, want: 1},
		"before the first":   {runs: []*report.Report{nil, {}}, ends: 1},
		"no interrupt":       {runs: []*report.Report{{}, nil}, ends: 9},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		n := 0
		got, err := tries(ctx, len(tt.runs), func() (*report.Report, error) {
			if n++; n == tt.ends {
				cancel()
			}
			if tt.runs[n-1] == nil {
				return nil, errors.New("no result")
			}
			return tt.runs[n-1], nil
		})
		cancel()
		if tt.want == 0 && err == nil || tt.want > 0 && (err != nil || got != tt.runs[tt.want-1]) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
