package load

import (
	"context"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"streamrelay/bench/simulate"
)

// queue forwards at most n connections to addr at a time; the others wait, as at
// an endpoint that has too few workers.
func queue(t *testing.T, addr string, n int) string {
	t.Helper()
	free := make(chan struct{}, n)
	return listen(t, func(c net.Conn) {
		free <- struct{}{}
		defer func() { <-free }()
		up, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			_, _ = io.Copy(up, c)
			up.Close()
		}()
		_, _ = io.Copy(c, up)
	})
}

func invalidFor(res Result, why string) bool {
	return !res.Valid && strings.Contains(strings.Join(res.Invalid, "; "), why)
}

func TestStreamsThatAreNotOpenAtOnceMakeARunInvalid(t *testing.T) {
	t.Parallel()
	_, addr := startProvider(t, simulate.Options{})
	late := shortJob(Streams, queue(t, addr, 5), streamBody, "gap=10ms,events=600")
	late.Streams, late.Requests[0].Length = 20, 6*time.Second
	res := mustRun(t, late)
	if res.Open != 5 || !invalidFor(res, "only 5 of 20 streams were open throughout the window") {
		t.Errorf("%d open, valid %v: %v", res.Open, res.Valid, res.Invalid)
	}
	short := shortJob(Streams, addr, streamBody, "gap=1ms,events=5")
	short.Window = 300 * time.Millisecond
	if res := mustRun(t, short); res.Open != 0 || !invalidFor(res, "only 0 of 4 streams") {
		t.Errorf("ended early: %d open, valid %v: %v", res.Open, res.Valid, res.Invalid)
	}
	long := shortJob(Streams, addr, streamBody, "gap=10ms,events=100")
	long.Requests[0].Length = time.Second
	if res := mustRun(t, long); res.Open != 4 || !res.Valid {
		t.Errorf("%d open, valid %v: %v", res.Open, res.Valid, res.Invalid)
	}
}

func TestAnAnswerThatSpansTheWindowCounts(t *testing.T) {
	t.Parallel()
	_, addr := startProvider(t, simulate.Options{})
	job := shortJob(Closed, queue(t, addr, 2), jsonBody, "events=3")
	job.Streams = 20
	res := mustRun(t, job)
	// 18 of the connections wait until the two that are served end.
	if res.Latency.Max < job.Window.Seconds() || res.Latency.Count != uint64(res.Requests-res.Failed+res.Waited) {
		t.Errorf("latency up to %v s in a window of %s: %+v", res.Latency.Max, job.Window, res.Latency)
	}
}

func TestErrorsOfTheDirectEndpointAreNotTheOthers(t *testing.T) {
	t.Parallel()
	_, addr := startProvider(t, simulate.Options{})
	broken := listen(t, func(c net.Conn) {
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			if _, err := io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"); err != nil {
				return
			}
		}
	})
	job := shortJob(Open, addr, jsonBody, "events=3")
	job.Direct, job.Streams = &Endpoint{URL: "http://" + broken}, 100
	res := mustRun(t, job)
	if res.Errors != 0 || len(res.ByClass) != 0 || res.DirectErrors == 0 || res.DirectByClass["status 503"] != res.DirectErrors {
		t.Errorf("errors %d %v, direct %d %v", res.Errors, res.ByClass, res.DirectErrors, res.DirectByClass)
	}
}

func TestAProviderWithAnotherClockHasNoDelays(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string]func() int64{
		"behind": func() int64 { return simulate.Now() - int64(time.Hour) },
		"ahead":  func() int64 { return simulate.Now() + int64(time.Hour) },
		"ours":   simulate.Now,
	} {
		r := &run{job: Job{Loop: Closed, Window: time.Second}, began: simulate.Now()}
		a := newArm(r, nil, 1)
		r.arms = []*arm{a}
		r.opens(simulate.Now())
		c := &client{run: r, arm: a, began: simulate.Now()}
		c.asked.Store(&query{stream: true})
		at := sent()
		c.now = simulate.Now()
		c.exactEvent(at)
		var res Result
		r.complete(&res)
		if want := name != "ours"; res.OtherClock != want || res.Delay.Count == 0 != want {
			t.Errorf("%s: other clock %v, delays %+v", name, res.OtherClock, res.Delay)
		}
	}
}

func TestMoreThanTheAnswerIsFound(t *testing.T) {
	t.Parallel()
	for _, loop := range []Loop{Open, Closed} {
		var answers atomic.Int64
		addr := listen(t, func(c net.Conn) {
			b := make([]byte, 64<<10)
			for {
				if _, err := c.Read(b); err != nil {
					return
				}
				answers.Add(1)
				if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}0123456789"); err != nil {
					return
				}
			}
		})
		job := shortJob(loop, addr, jsonBody, "")
		job.Exact = false
		if loop == Open {
			job.Streams = 100
		}
		res := mustRun(t, job)
		if res.Errors == 0 || res.ByClass[errAfter.Error()] != res.Errors || res.Errors != answers.Load() || res.Latency.Count != 0 {
			t.Errorf("%s: %d answers, errors %v", loop, answers.Load(), res.ByClass)
		}
	}
}

func TestWhatWasSeenBeforeAnInterruptionIsReported(t *testing.T) {
	t.Parallel()
	_, addr := startProvider(t, simulate.Options{})
	for _, loop := range []Loop{Closed, Open, Streams} {
		ctx, cancel := context.WithCancel(context.Background())
		job := shortJob(loop, addr, streamBody, "gap=1ms,events=5")
		job.Window, job.Settle = 10*time.Minute, 0
		job.Progress = func(p Progress) {
			if p.Finished > 0 {
				cancel()
			}
		}
		res, err := Run(ctx, job)
		if err != nil || res.Requests == 0 || !invalidFor(res, "interrupted after") || res.Seconds <= 0 || res.Seconds > 600 {
			t.Errorf("%s: %v, %d requests in %v s: %v", loop, err, res.Requests, res.Seconds, res.Invalid)
		}
		cancel()
	}
}

func TestWhatIsUnderWayAfterTheWindowCanBeInterrupted(t *testing.T) {
	t.Parallel()
	_, addr := startProvider(t, simulate.Options{})
	for _, loop := range []Loop{Closed, Open, Streams} {
		ctx, cancel := context.WithCancel(context.Background())
		job := shortJob(loop, addr, streamBody, "gap=10ms,events=6000")
		job.Requests[0].Length = time.Minute
		job.Progress = func(p Progress) {
			if p.Elapsed > p.Planned+time.Second {
				cancel()
			}
		}
		began := time.Now()
		res, err := Run(ctx, job)
		cancel()
		if err != nil || !invalidFor(res, "interrupted") || res.Seconds <= 0 || res.Delay.Count == 0 || res.Cost.Events == 0 {
			t.Errorf("%s: %v, %v s, delays %+v: %v", loop, err, res.Seconds, res.Delay, res.Invalid)
		}
		if took := time.Since(began); took > 30*time.Second { // the streams last a minute
			t.Errorf("%s: it ended after %s", loop, took)
		}
	}
}

func TestAnEndpointWhoseProcessEndsHasAResult(t *testing.T) {
	t.Parallel()
	_, addr := startProvider(t, simulate.Options{})
	process := exec.Command("sleep", "600")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	job := shortJob(Open, addr, jsonBody, "events=3")
	job.PID, job.Streams, job.Window = process.Process.Pid, 100, 3*time.Second
	job.Progress = func(p Progress) {
		if p.Elapsed > time.Second && process.ProcessState == nil {
			_ = process.Process.Kill()
			_ = process.Wait()
		}
	}
	res := mustRun(t, job)
	if res.Valid || res.Requests != 600 || res.Cost.Requests == 0 || res.Seconds == 0 {
		t.Errorf("%d requests, %d in %v s, valid %v: %v", res.Requests, res.Cost.Requests, res.Seconds, res.Valid, res.Invalid)
	}
}
