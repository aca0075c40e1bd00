package simulate

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDrawnTimesHaveTheirMean draws 200,000 times: the mean of that many differs
// from the true one by less than a hundredth in all but one run of many millions.
func TestDrawnTimesHaveTheirMean(t *testing.T) {
	for _, dist := range []Distribution{Constant, Exponential, LogNormal} {
		c := &conn{p: &Provider{}}
		c.answer.profile = Profile{Dist: dist, Sigma: 0.5, Gap: 20 * time.Millisecond, TTFT: time.Second}
		const n = 200_000
		var sum float64
		different := 0
		for range n {
			d := c.gap()
			sum += float64(d)
			if d != 20*time.Millisecond {
				different++
			}
		}
		if mean := sum / n / 1e6; math.Abs(mean-20) > 0.4 {
			t.Errorf("distribution %d: mean %v ms, want 20", dist, mean)
		}
		if (dist == Constant) != (different == 0) {
			t.Errorf("distribution %d: %d of %d differ from the mean", dist, different, n)
		}
	}
}

func TestTracedAnswersTakeTheirLinesInTurns(t *testing.T) {
	p := &Provider{options: Options{Trace: Trace{{5, 1, 2}, {7}}}}
	c := &conn{p: p}
	c.answer.profile = Profile{Dist: Traced, Gap: 9}
	var got []time.Duration
	for range 3 {
		c.recorded, c.gaps = p.nextRecorded(), 0
		got = append(got, c.ttft(), c.gap(), c.gap(), c.gap())
	}
	want := []time.Duration{5, 1, 2, 1, 7, 9, 9, 9, 5, 1, 2, 1}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func TestJSONAnswersTakeTheTimeOfTheirTokens(t *testing.T) {
	for _, tt := range []struct {
		profile Profile
		timed   bool
		want    time.Duration
	}{
		{Profile{TTFT: 100, Gap: 9, Events: 4}, true, 136},
		{Profile{TTFT: 100, Gap: 9, Events: 4}, false, 100},
		{Profile{Dist: Traced, Gap: 9, Events: 4}, true, 9}, // 5, and the gaps 1, 2, 1
		{Profile{Dist: Traced, Gap: 9, Events: 4}, false, 5},
		{Profile{Dist: Traced, Gap: 9}, true, 5},
	} {
		c := &conn{p: &Provider{}, recorded: []time.Duration{5, 1, 2}}
		c.answer.profile, c.head.route.timed = tt.profile, tt.timed
		if got := c.takes(); got != tt.want {
			t.Errorf("%+v: %d, want %d", tt.profile, got, tt.want)
		}
	}
}

func TestLoadTrace(t *testing.T) {
	for text, want := range map[string]string{
		"# TTFT gaps\n812.5 21 19.5\n\n7\n": "",
		"":                                  "no recorded answer in it",
		"1 2\nx":                            `line 2: "x": want milliseconds from 0 to 600000`,
		"-1":                                `line 1: "-1": want milliseconds from 0 to 600000`,
		"NaN":                               `line 1: "NaN": want milliseconds from 0 to 600000`,
	} {
		file := filepath.Join(t.TempDir(), "trace")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := LoadTrace(file)
		if want == "" {
			if err != nil || len(got) != 2 || got[0][0] != 812500*time.Microsecond || len(got[0]) != 3 {
				t.Errorf("%q: %v, %v", text, got, err)
			}
		} else if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParseTrace(f *testing.F) {
	f.Add([]byte("# TTFT gaps\n812.5 21 19.5\n\n7\n"))
	f.Add([]byte("1e300 -0 NaN"))
	f.Fuzz(func(t *testing.T, b []byte) {
		trace, err := parseTrace(b)
		if (err == nil) != (len(trace) > 0) {
			t.Fatalf("%d answers, %v", len(trace), err)
		}
		for _, one := range trace {
			for _, d := range one {
				if d < 0 || d > maxDuration {
					t.Fatalf("%s out of bounds", d)
				}
			}
		}
	})
}

func TestFaultsReachTheWire(t *testing.T) {
	_, addr := start(t, Options{})
	_, sound, err := call(t, addr, rawRequest("/v1/chat/completions", "events=9,id=x", streamBody))
	if err != nil {
		t.Fatal(err)
	}
	sound, _ = blank(t, sound)
	events := strings.SplitAfter(sound, "\n\n")
	for fault, check := range map[string]func(got []string) bool{
		"drop=4":   func(got []string) bool { return len(got) == len(events)-1 && got[5] == events[6] },
		"nodone=1": func(got []string) bool { return strings.Join(got, "")+"data: [DONE]\n\n" == sound },
		"alter=4": func(got []string) bool {
			differ := 0
			for i := range got {
				for j := range got[i] {
					if got[i][j] != events[i][j] {
						differ++
					}
				}
			}
			return len(got) == len(events) && differ == 1 && got[5] != events[5]
		},
	} {
		_, body, err := call(t, addr, rawRequest("/v1/chat/completions", "events=9,id=x,"+fault, streamBody))
		if err != nil {
			t.Fatal(err)
		}
		body = maskTimes(body)
		if got := strings.SplitAfter(body, "\n\n"); !check(got) {
			t.Errorf("%s: got %q", fault, got)
		}
	}
}

// maskTimes replaces send times by zeros, whatever events there are.
func maskTimes(body string) string {
	parts := strings.Split(body, markKey)
	for i := 1; i < len(parts); i++ {
		parts[i] = strings.Repeat("0", timeWidth) + parts[i][timeWidth:]
	}
	return strings.Join(parts, markKey)
}

func TestFreezeHoldsEveryAnswer(t *testing.T) {
	p, addr := start(t, Options{})
	p.Freeze(300 * time.Millisecond)
	began := time.Now()
	if _, _, err := call(t, addr, rawRequest("/v1/chat/completions", "events=2", streamBody)); err != nil {
		t.Fatal(err)
	}
	// What the freeze itself takes is no noise.
	if took := time.Since(began); took < 250*time.Millisecond {
		t.Errorf("answered after %s of a freeze of 300 ms", took)
	}
	resp, body, _ := call(t, addr, "GET /sim/freeze?for=1ms HTTP/1.1\r\n\r\n")
	if resp.StatusCode != 200 || !strings.Contains(body, `"frozen_for": "1ms"`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	resp, body, _ = call(t, addr, "GET /sim/freeze HTTP/1.1\r\n\r\n")
	if resp.StatusCode != 400 || !strings.Contains(body, "/sim/freeze?for=2s") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}
