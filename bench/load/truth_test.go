package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"streamrelay/bench/simulate"
)

// The tests in this file show the generator something that is known and expect
// it to say so. Times in them are injected delays, a hundred times what a busy
// machine adds, never measurements of this machine.

// undisturbed runs f until it has nothing to say, five times at most. What f
// returns is too much time: the machine may add any. Too little is never excused.
func undisturbed(t *testing.T, f func() string) {
	t.Helper()
	said := ""
	for range 5 {
		if said = f(); said == "" || t.Failed() {
			return
		}
		t.Log(said)
	}
	t.Error(said)
}

// TestAFreezeIsSeenByWhoeverWasDue freezes the provider for a fifth of the run. In
// a closed loop hardly anybody would notice; by schedule a fifth of the requests
// are late, and the last percent of them by almost the whole freeze.
func TestAFreezeIsSeenByWhoeverWasDue(t *testing.T) {
	t.Parallel()
	p, addr := startProvider(t, simulate.Options{})
	window, freeze, rate := 5*time.Second, time.Second, 300.0
	if long(t) {
		window, freeze = 10*time.Second, 2*time.Second
	}
	job := shortJob(Open, addr, jsonBody, "events=30")
	job.Window, job.Rate, job.Streams = window, rate, 2000
	undisturbed(t, func() string {
		time.AfterFunc(window/2, func() { p.Freeze(freeze) })
		return seesFreeze(t, mustRun(t, job), rate, window, freeze)
	})
}

func seesFreeze(t *testing.T, res Result, rate float64, window, freeze time.Duration) string {
	t.Helper()
	t.Logf("p50 %.4f s, p90 %.3f s, p99 %.3f s, max %.3f s of a freeze of %s; lag p99 %.4f s", res.Latency.P50, res.Latency.P90, res.Latency.P99, res.Latency.Max, freeze, res.Lag.P99)
	if res.Errors != 0 || res.Requests != int64(rate*window.Seconds()) || res.NotSent != 0 {
		t.Errorf("%d requests, %d not sent, errors %v", res.Requests, res.NotSent, res.ByClass)
	}
	// 1 % of the requests is 5 % of those due within the freeze.
	if want := 0.9 * freeze.Seconds(); res.Latency.P99 < want || res.Latency.Max < want {
		t.Errorf("p99 %.3f s, want at least %.3f s", res.Latency.P99, want)
	}
	stood := 0
	for _, s := range res.Series {
		if s.Max > freeze.Seconds()/2 {
			stood++
		}
	}
	if stood == 0 {
		t.Errorf("the series does not show the freeze")
	}
	if res.Latency.P50 > freeze.Seconds()/4 || stood == len(res.Series) {
		return fmt.Sprintf("p50 %.3f s, freeze seen in %d of %d seconds: most requests were not due within it", res.Latency.P50, stood, len(res.Series))
	}
	return ""
}

// TestTooFewConnectionsMakeARunInvalid has all connections busy in a freeze: a
// generator that waited for one would hide it.
func TestTooFewConnectionsMakeARunInvalid(t *testing.T) {
	t.Parallel()
	p, addr := startProvider(t, simulate.Options{})
	job := shortJob(Open, addr, jsonBody, "events=30")
	job.Window, job.Rate, job.Streams = 500*time.Millisecond, 200, 3
	p.Freeze(400 * time.Millisecond)
	res := mustRun(t, job)
	if res.Valid || res.NotSent == 0 || !strings.Contains(strings.Join(res.Invalid, "; "), "requests were not sent: all 3 connections were busy") {
		t.Errorf("valid %v, %d not sent: %v", res.Valid, res.NotSent, res.Invalid)
	}
}

// TestEveryFaultIsCaught asks the provider for one fault in each answer and
// expects every answer to count as failed, under the fault's own class.
func TestEveryFaultIsCaught(t *testing.T) {
	t.Parallel()
	_, addr := startProvider(t, simulate.Options{})
	for _, tt := range []struct{ fault, exact, form string }{
		{"drop=4", "bytes differ", ""}, // nobody who does not know the answer can see these two
		{"alter=4", "bytes differ", ""},
		{"nodone=1", "clean end, bytes missing", "clean end, no terminal event"},
		{"fail=3", "bytes differ", "cut"},
		{"cut=3", "cut", "cut"},
		{"cut=3,reset=1", "cut", "cut"},
		{"cut=head", "cut", "cut"},
		{"stall=3", "timeout", "timeout"},
		{"stall=head", "timeout", "timeout"},
		{"error=503", "status 503", "status 503"},
	} {
		for _, loop := range []Loop{Open, Streams, Closed} {
			if strings.HasPrefix(tt.fault, "stall") && loop == Closed {
				continue
			}
			for _, exact := range []bool{true, false} {
				job := shortJob(loop, addr, streamBody, "gap=1ms,events=9,"+tt.fault)
				job.Exact, job.Settle = exact, 0
				if strings.HasPrefix(tt.fault, "stall") {
					job.Timeout = 200 * time.Millisecond
				}
				class := tt.exact
				if !exact {
					class = tt.form
				}
				res := mustRun(t, job)
				if class == "" {
					if res.Errors != 0 {
						t.Errorf("%s, %s, form only: %v", tt.fault, loop, res.ByClass)
					}
					continue
				}
				waited := int64(0)
				if class == "timeout" {
					waited = res.Failed
				}
				if res.Requests == 0 || res.Failed != res.Requests || res.Waited != waited || int64(res.Latency.Count) != waited || res.ByClass[class] != res.Errors || len(res.ByClass) != 1 {
					t.Errorf("%s, %s, exact %v: %d of %d failed: %v, want %q", tt.fault, loop, exact, res.Failed, res.Requests, res.ByClass, class)
				}
			}
		}
	}
}

// TestKnownDelaysAreRecovered looks for the provider's planned times in the
// figures: never less, and not a gross amount more.
func TestKnownDelaysAreRecovered(t *testing.T) {
	_, addr := startProvider(t, simulate.Options{})
	job := shortJob(Open, addr, streamBody, "ttft=200ms,head=100ms,gap=50ms,events=5")
	job.Rate, job.Streams, job.Window = 50, 200, 500*time.Millisecond
	for _, exact := range []bool{true, false} {
		job.Exact = exact
		undisturbed(t, func() string { return knowsDelays(t, mustRun(t, job), exact) })
	}
}

func knowsDelays(t *testing.T, res Result, exact bool) (slow string) {
	t.Helper()
	for name, v := range map[string]struct {
		got  Summary
		want float64
	}{
		"head": {res.Head, 0.1}, "ttft": {res.TTFT, 0.2}, "latency": {res.Latency, 0.4},
	} {
		if v.got.Count != 25 || v.got.Min < v.want*0.996 {
			t.Errorf("exact %v, %s: %+v, want %v", exact, name, v.got, v.want)
		}
		if v.got.P50 > v.want+0.1 {
			slow = fmt.Sprintf("exact %v, %s: p50 %v, want %v", exact, name, v.got.P50, v.want)
		}
	}
	if g := res.Gap; g.Count == 0 || g.P50 < 0.025 || g.P50 > 0.15 {
		slow = fmt.Sprintf("exact %v, gap: %+v, want 0.05", exact, g)
	}
	if !exact && res.Delay.Count > 0 {
		t.Errorf("delays without send times: %+v", res.Delay)
	}
	if d := res.Delay; exact && (d.Count == 0 || d.P50 > 0.1) {
		slow = fmt.Sprintf("delay: %+v", d)
	}
	return slow
}

// TestAnAddedDelayIsRecovered puts a forwarder between that holds each byte back
// by 50 ms, and compares with the direct way.
func TestAnAddedDelayIsRecovered(t *testing.T) {
	t.Parallel()
	_, addr := startProvider(t, simulate.Options{})
	const delay = 50 * time.Millisecond
	slow := listen(t, func(c net.Conn) {
		up, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			defer up.Close()
			_, _ = io.Copy(up, c)
		}()
		b := make([]byte, 64<<10)
		for {
			n, err := up.Read(b)
			if err != nil {
				return
			}
			time.Sleep(delay)
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
		}
	})
	for _, loop := range []Loop{Open, Closed, Streams} {
		body, how := jsonBody, "events=3"
		measure := "latency"
		if loop == Streams {
			body, how, measure = streamBody, "gap=100ms,events=60", "delay"
		}
		job := shortJob(loop, slow, body, how)
		job.Direct = &Endpoint{URL: "http://" + addr, Key: "k"}
		job.Window, job.Rate, job.Streams = time.Second, 50, 8
		if loop == Open {
			job.Streams = 500
		}
		if loop == Streams {
			job.Streams, job.Requests[0].Length = 16, 6*time.Second
		}
		undisturbed(t, func() string { return knowsAdded(t, job, measure) })
	}
}

func knowsAdded(t *testing.T, job Job, measure string) string {
	t.Helper()
	loop := job.Loop
	res := mustRun(t, job)
	added, ok := res.Added[measure]
	if res.Errors != 0 || !ok {
		t.Errorf("%s: errors %v, added %v", loop, res.ByClass, res.Added)
	}
	v := added.P50
	if !v.Known || v.Low > v.Value || v.High < v.Value {
		t.Errorf("%s: added %s p50 %+v", loop, measure, v)
	}
	if a, b := res.Requests, res.Direct.Requests; a == 0 || b == 0 || loop == Open && a != b {
		t.Errorf("%s: %d requests and %d direct ones", loop, a, b)
	}
	if v.Value < 0.04 || v.Value > 0.15 {
		return fmt.Sprintf("%s: added %s p50 %+v, want 0.05", loop, measure, v)
	}
	return ""
}

// TestStallsAreCounted has streams pause for longer than is allowed, between two
// events and before the end.
func TestStallsAreCounted(t *testing.T) {
	t.Parallel()
	_, addr := startProvider(t, simulate.Options{})
	for _, how := range []string{"gap=600ms,events=3", "gap=1ms,events=3,hold=600ms"} {
		for _, exact := range []bool{true, false} {
			job := shortJob(Streams, addr, streamBody, how)
			job.Stall, job.Exact = 500*time.Millisecond, exact
			if res := mustRun(t, job); res.Stalls != 4 || res.Errors != 0 {
				t.Errorf("%s: %d stalls, errors %v", how, res.Stalls, res.ByClass)
			}
		}
	}
}

// TestARunEndsWhateverTheEndpointDoes drives endpoints that never answer, drip,
// never stop, or talk nonsense.
func TestARunEndsWhateverTheEndpointDoes(t *testing.T) {
	for name, f := range map[string]func(net.Conn){
		"says nothing": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"drips": func(c net.Conn) {
			for _, b := range []byte(strings.Repeat("HTTP/1.1 200 OK\r\nX: ", 1000)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		},
		"never stops": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
			for {
				if _, err := c.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		},
		"endless head": func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, "HTTP/1.1 200 OK and so on "); err != nil {
					return
				}
			}
		},
		"nonsense": func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH\r\n\r\n") },
		"endless 100": func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
					return
				}
			}
		},
		"closes": func(net.Conn) {},
		"talks unasked": func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		},
	} {
		addr := listen(t, f)
		for _, loop := range []Loop{Open, Closed, Streams} {
			for _, exact := range []bool{true, false} {
				job := shortJob(loop, addr, streamBody, "events=3")
				job.Timeout, job.Exact, job.Settle, job.Ramp = 150*time.Millisecond, exact, 0, 0
				job.Streams = 8
				job.Window = 50 * time.Millisecond
				res, err := Run(context.Background(), job)
				if err != nil {
					t.Fatalf("%s, %s: %v", name, loop, err)
				}
				if res.Errors == 0 || res.Requests != res.Failed {
					t.Errorf("%s, %s, exact %v: %d errors, %d of %d requests failed", name, loop, exact, res.Errors, res.Failed, res.Requests)
				}
			}
		}
	}
}

// long reports whether the full sizes are asked for.
func long(t *testing.T) bool {
	t.Helper()
	return os.Getenv("RELAY_TEST_LONG") != ""
}
