package report

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"streamrelay/bench/load"
)

func TestDurationsHaveThreeDigits(t *testing.T) {
	for s, want := range map[float64]string{
		0: "0 ns", 5e-9: "5.00 ns", 999e-9: "999 ns", 0.9996e-6: "1.00 µs", 12.34e-6: "12.3 µs", 1e-3: "1.00 ms", 0.1234: "123 ms", 0.9999: "1.00 s", 75: "75.0 s", -1.5e-3: "-1.50 ms",
	} {
		if got := Duration(s); got != want {
			t.Errorf("%v: %s, want %s", s, got, want)
		}
	}
}

func TestParseSLO(t *testing.T) {
	got, err := ParseSLO("p99=50ms, errors=0.1%,ttft_p90=1s,added_p99=5ms,added_delay_p50=100us,rate=500,kib=32,errors=0.5,")
	want := []Bound{{"p99", 0.05}, {"errors", 0.001}, {"ttft_p90", 1}, {"added_p99", 0.005}, {"added_delay_p50", 0.0001}, {"rate", 500}, {"kib", 32}, {"errors", 0.5}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%v, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
	}
	for _, bad := range []string{"p99", "p99=5", "p99=-1s", "errors=x", "errors=-1", "rate=NaN", "latency=1s", "added_p90=1s", "added_gap_p50=1s", "p98=1s", "errors=5", "errors=101%", "x_p50=1s", "=1"} {
		if got, err := ParseSLO(bad); err == nil {
			t.Errorf("%q is taken: %v", bad, got)
		}
	}
}

func FuzzParseSLO(f *testing.F) {
	f.Add("p99=50ms,errors=0.1%")
	f.Fuzz(func(t *testing.T, s string) {
		bounds, err := ParseSLO(s)
		if err != nil {
			return
		}
		r := &Report{}
		r.Judge(bounds)
		if n := len(r.Verdicts); n != len(bounds) && n != len(bounds)+1 { // errors=0 where none is named
			t.Fatalf("%d verdicts of %d bounds", len(r.Verdicts), len(bounds))
		}
	})
}

func TestJudge(t *testing.T) {
	r := sampled()
	bounds, err := ParseSLO("p99=30ms,p50=1ms,errors=1%,errors=0.1%,rate=100,rate=1000,ttft_p99=1s,added_p50=1ms,added_ttft_p50=1ms,kib=20")
	if err != nil {
		t.Fatal(err)
	}
	r.Judge(bounds)
	var got []string
	for _, v := range r.Verdicts {
		word := "broken"
		if v.Passed {
			word = "within"
		}
		got = append(got, v.Bound+": "+v.Text+": "+word)
	}
	want := []string{
		"p99 ≤ 30.0 ms: 20.0 ms: within", "p50 ≤ 1.00 ms: 2.00 ms: broken",
		"errors ≤ 1.00 %: 5 of 1000 (0.50 %): within", "errors ≤ 0.10 %: 5 of 1000 (0.50 %): broken",
		"rate ≥ 100/s: 500/s: within", "rate ≥ 1000/s: 500/s: broken",
		"ttft p99 ≤ 1.00 s: not measured: broken", // what was not measured is not within
		"added p50 ≤ 1.00 ms: 150 µs: within", "added ttft p50 ≤ 1.00 ms: not measured: broken",
		"memory ≤ 20.0 KiB/stream: 10.5 KiB: within",
	}
	// What is not measured has no value to print.
	for i := range want {
		if strings.Contains(got[i], "not measured") {
			got[i] = r.Verdicts[i].Bound + ": not measured: broken"
		}
		if got[i] != want[i] {
			t.Errorf("got  %s\nwant %s", got[i], want[i])
		}
	}
	if r.Passed() {
		t.Error("passed with broken bounds")
	}
	r.Judge(bounds[:1])
	if r.Passed() {
		t.Error("passed with errors that no bound allows")
	}
	r.Failed, r.Errors = 0, 1 // before the window
	if r.Judge(nil); r.Passed() || r.Verdicts[0].Text != "0 of 1000 (0 %) and 1 outside the window" {
		t.Errorf("%+v", r.Verdicts)
	}
	r.Errors = 0
	r.Judge(bounds[:1])
	if !r.Passed() {
		t.Error("not passed within all bounds")
	}
	r.Memory.Later = 40_000
	if r.Judge(bounds[len(bounds)-1:]); r.Passed() || r.Verdicts[0].Text != "30.0 KiB" {
		t.Errorf("within a bound of memory that was broken by the window's end: %+v", r.Verdicts)
	}
	r.Memory.Streams = 0
	if r.Judge(bounds[len(bounds)-1:]); r.Passed() {
		t.Error("within a bound of memory of no stream")
	}
	r.Memory.Open = 0
	if r.Judge(bounds[len(bounds)-1:]); r.Passed() {
		t.Error("within a bound of memory that nobody read")
	}
	r.Judge(nil)
	if r.Valid = false; r.Passed() {
		t.Error("an invalid run passed")
	}
}

// sampled is a run with something of everything.
func sampled() *Report {
	var h load.Histogram
	for i := range int64(1000) {
		h.Add(1e6 + i*2e4)
	}
	r := &Report{Scenario: "json", About: "an <example>", Started: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Rate: 500, TargetRate: 500, Loop: load.Open, Checked: "to the last byte"}
	r.Requests, r.Errors, r.Failed, r.Valid, r.Seconds = 1000, 5, 5, true, 2
	r.Latency = load.Summary{Count: 995, Min: 0.001, Mean: 0.003, P50: 0.002, P90: 0.01, P95: 0.015, P99: 0.02, P999: 0.021, Max: 0.022}
	r.ByClass, r.Examples = map[string]int64{"cut": 5}, map[string]string{"cut": "EOF <b>"}
	r.Added = map[string]load.Added{"latency": {P50: load.Interval{Value: 150e-6, Known: true, Low: 140e-6, High: 160e-6}, P99: load.Interval{Value: 1e-3, Known: true, Low: -1e-4, High: 2e-3}}}
	r.Memory = load.Memory{Idle: 9_000, Base: 10_000, Open: 20_000, Later: 20_500, Streams: 1000}
	r.Cost = load.Cost{Requests: 1000, Events: 1000, Peer: 50e6, Own: 20e6}
	r.Curves = map[string][]load.Point{"latency": h.Curve()}
	r.Direct = &load.Measures{Latency: load.Summary{Count: 995, P50: 0.0019}, Curves: map[string][]load.Point{"latency": h.Curve()}}
	for i := range 10 {
		r.Series = append(r.Series, load.Second{At: float64(i), Finished: 50, P50: 0.002, P99: 0.02})
	}
	r.Sends, r.Lag = 1000, load.Summary{Count: 1000, P50: 5e-5, P99: 2e-4, Max: 1e-3}
	return r
}

// TestTextIsAsBefore compares with a file; -update is by RELAY_UPDATE=1.
func TestTextIsAsBefore(t *testing.T) {
	r := sampled()
	bounds, err := ParseSLO("p99=30ms,errors=0")
	if err != nil {
		t.Fatal(err)
	}
	r.Judge(bounds)
	r.Invalid, r.Valid = []string{"the generator sent late"}, false
	var b bytes.Buffer
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	r.Max = &Max{Of: "requests/s", Value: 400, Failed: 420, Proven: true, Limit: "p99 ≤ 1 s is 2 s", Probes: []Probe{{Value: 400, Within: true, P99: 0.01}, {Value: 420, Why: "p99 ≤ 1 s is 2 s", P99: 2}}}
	(&printer{w: &b}).max(r.Max)
	f := &Report{Scenario: "frontier", About: "the board's", Frontier: &Frontier{
		Readings: []Reading{{Bound: 0.001}, {Bound: 0.005, Rate: 15438, Connections: 64, P99: 0.004}, {Rate: 19284, Connections: 1024, P99: 0.04, Lower: true}},
		Streams:  512, Failed: 540, Why: "3 streams stalled for more than 200 ms",
	}}
	if err := f.Text(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "text.txt", b.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("RELAY_UPDATE") == "1" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestHTMLEscapesWhatItWasTold(t *testing.T) {
	var b bytes.Buffer
	r := sampled()
	r.Examples["cut"] = "<script>alert(1)</script>"
	r.Scenario = "json"
	if err := HTML(&b, "a <title>", []*Report{r, {Scenario: "frontier", Result: load.Result{Valid: true}, Frontier: &Frontier{Rungs: []Rung{{Connections: 1, Rate: 5}, {Connections: 2, Rate: 9}}}}}); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, bad := range []string{"<script", "a <title>", "an <example>", "ZgotmplZ", "NaN", "Inf", "no value", "http://", "https://"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if n := strings.Count(page, "<svg"); n != 4 { // curve, latency and rate over time, frontier
		t.Errorf("%d charts", n)
	}
}

func TestReportsCanBeReadBack(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.json"), filepath.Join(dir, "b.json")
	second := sampled()
	second.Rate, second.Latency.P99 = 1000, 0.01
	second.Environment.Cores = 8
	for file, v := range map[string]any{a: sampled(), b: []*Report{{Scenario: "other"}, second}} {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x, err := Load(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := Load(b)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Compare(&out, x, y); err != nil {
		t.Fatal(err)
	}
	golden(t, "compare.txt", out.Bytes())
	if err := Compare(&out, x, y[:1]); err == nil || !strings.Contains(err.Error(), "no scenario in common") {
		t.Error(err)
	}
	if err := os.WriteFile(a, []byte(`{"requests":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(a); err == nil || !strings.Contains(err.Error(), "no report of relay bench") {
		t.Error(err)
	}
}

func TestHGRMCanBePlotted(t *testing.T) {
	var h load.Histogram
	for i := int64(1); i <= 1000; i++ {
		h.Add(i * 1e6)
	}
	var b bytes.Buffer
	if err := HGRM(&b, h.Curve(), h.Summary()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if !strings.Contains(lines[0], "1/(1-Percentile)") || lines[1] != "" || !strings.HasSuffix(lines[len(lines)-3], "inf") ||
		!strings.HasPrefix(strings.TrimSpace(lines[len(lines)-3]), "1000.000000 1.000000000000       1000") ||
		!strings.HasPrefix(lines[len(lines)-1], "#[Max     =  1000.000000, Total count    =         1000]") {
		t.Errorf("%s", b.String())
	}
}
