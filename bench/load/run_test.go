package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"streamrelay/bench/simulate"
)

func TestEveryLoopCountsWhatTheProviderSaw(t *testing.T) {
	t.Parallel()
	p, addr := startProvider(t, simulate.Options{})
	var cost Cost
	for _, tt := range []struct {
		loop     Loop
		simulate string
	}{
		{Closed, "burst=1,events=64"}, {Closed, "onewrite=1,events=64"}, {Closed, "events=3,size=40000"},
		{Open, "events=5"}, {Streams, "gap=10ms,events=20"},
	} {
		for _, exact := range []bool{true, false} {
			before := p.Stats()
			job := shortJob(tt.loop, addr, streamBody, tt.simulate)
			job.PID, job.Provider, job.Exact, job.Settle = os.Getpid(), os.Getpid(), exact, 0
			if tt.loop == Open {
				job.Streams = 100
			}
			res := mustRun(t, job)
			after := p.Stats()
			if res.Errors != 0 || res.Requests == 0 || res.Requests > after.Requests-before.Requests ||
				tt.loop != Closed && res.Requests != after.Requests-before.Requests {
				t.Errorf("%s %s: %d requests, the provider saw %d; errors %v", tt.loop, tt.simulate, res.Requests, after.Requests-before.Requests, res.ByClass)
			}
			if tt.loop == Open && (res.Requests != 20 || res.Sends != 20) {
				t.Errorf("%d requests, %d sends of 200/s in 100 ms", res.Requests, res.Sends)
			}
			cost.Peer, cost.Own, cost.Provider = cost.Peer+res.Cost.Peer, cost.Own+res.Cost.Own, cost.Provider+res.Cost.Provider
			var finished int64
			for _, s := range res.Series {
				finished += s.Finished
			}
			if tt.loop == Open && finished != res.Requests {
				t.Errorf("the series holds %d of %d", finished, res.Requests)
			}
		}
	}
	// Of all runs: a virtual machine's CPU clocks stand still for a tenth of a
	// second where its host has time to account for that it took away.
	if cost.Peer <= 0 || cost.Own <= 0 || cost.Provider <= 0 {
		t.Errorf("no CPU measured: %+v", cost)
	}
}

func TestJSONAnswersAreChecked(t *testing.T) {
	_, addr := startProvider(t, simulate.Options{})
	job := shortJob(Closed, addr, jsonBody, "events=30")
	if res := mustRun(t, job); res.Errors != 0 || res.Requests == 0 || res.TTFT.Count != 0 {
		t.Errorf("%+v", res)
	}
}

func TestAnswersAreExpectedOfAnyProvider(t *testing.T) {
	_, addr := startProvider(t, simulate.Options{Profile: simulate.Profile{Events: 3, Size: 500, Prompt: 100, Cached: 50}})
	for _, body := range []string{jsonBody, streamBody} {
		if res := mustRun(t, shortJob(Closed, addr, body, "")); res.Errors != 0 || res.Requests == 0 {
			t.Errorf("%d requests, errors %v", res.Requests, res.ByClass)
		}
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	p, addr := startProvider(t, simulate.Options{})
	job := shortJob(Open, addr, jsonBody, "events=1")
	job.Streams, job.Window = 100, 500*time.Millisecond
	if res := mustRun(t, job); res.Errors != 0 {
		t.Errorf("%v", res.ByClass)
	}
	if s := p.Stats(); s.Connections >= s.Requests {
		t.Errorf("%d connections for %d requests", s.Connections, s.Requests)
	}
}

func TestAMixHasItsShares(t *testing.T) {
	p, addr := startProvider(t, simulate.Options{})
	job := shortJob(Open, addr, jsonBody, "")
	job.Streams, job.Rate, job.Window, job.Settle = 100, 400, 250*time.Millisecond, 0
	job.Requests = []Request{
		{Name: "stream", Path: chatPath, Body: streamBody, Simulate: "events=2", Weight: 5},
		{Name: "json", Path: chatPath, Body: jsonBody, Simulate: "events=2", Weight: 3},
		{Name: "responses", Path: "/responses", Body: streamBody, Simulate: "events=2"},
		{Name: "embeddings", Path: "/embeddings", Body: `{"model":"m","input":"x"}`},
	}
	res := mustRun(t, job)
	routes := p.Stats().ByRoute
	if res.Errors != 0 || routes["chat.completions"] != 80 || routes["responses"] != 10 || routes["embeddings"] != 10 {
		t.Errorf("%v, errors %v", routes, res.ByClass)
	}
}

func TestArmsTakeTurnsInPairs(t *testing.T) {
	r := &run{arms: []*arm{{mix: mix{{header: "a"}, {header: "b"}}}, {mix: mix{{header: "a"}, {header: "b"}}}}}
	var got strings.Builder
	for k := range 8 {
		a, q := r.armOf(k)
		got.WriteString(map[*arm]string{r.arms[0]: "A", r.arms[1]: "B"}[a] + q.header + " ")
	}
	if want := "Aa Ba Bb Ab Aa Ba Bb Ab "; got.String() != want {
		t.Errorf("got %s, want %s", got.String(), want)
	}
}

func TestCancelsAreAllNoticed(t *testing.T) {
	_, addr := startProvider(t, simulate.Options{})
	for range 2 { // the provider remembers those of the first run
		job := shortJob(Cancel, addr, jsonBody, "")
		job.Streams = 12
		res := mustRun(t, job)
		if res.Never != 0 || res.Errors != 0 || res.Requests != 36 || res.Latency.Count != 36 {
			t.Errorf("%+v", res)
		}
		for _, phase := range []string{"before_head", "mid_stream", "non_stream"} {
			if res.Cancels[phase].Count != 12 {
				t.Errorf("%s: %+v", phase, res.Cancels[phase])
			}
		}
	}
}

func TestStreamsAreHeldOpenMeanwhile(t *testing.T) {
	p, addr := startProvider(t, simulate.Options{})
	job := shortJob(Closed, addr, jsonBody, "events=3")
	job.Hold, job.Window = 30, 300*time.Millisecond
	open := make(chan int64, 1)
	time.AfterFunc(200*time.Millisecond, func() { open <- p.Stats().StreamsOpen })
	res := mustRun(t, job)
	if n := <-open; n != 30 || res.Errors != 0 || res.Requests == 0 {
		t.Errorf("%d held, errors %v, %d requests", n, res.ByClass, res.Requests)
	}
	job.Requests[0].Simulate = ""
	job.Endpoint.URL = "http://" + listen(t, func(net.Conn) {})
	if _, err := Run(context.Background(), job); err == nil || !strings.Contains(err.Error(), "of 30 streams began") {
		t.Error(err)
	}
}

func TestMemoryIsReadWithAllStreamsOpen(t *testing.T) {
	t.Parallel()
	_, addr := startProvider(t, simulate.Options{})
	job := shortJob(Streams, addr, streamBody, "gap=500ms,events=3")
	job.Memory, job.PID, job.Streams = true, os.Getpid(), 50
	res := mustRun(t, job)
	if m := res.Memory; m.Idle <= 0 || m.Base <= 0 || m.Open <= 0 || m.Later <= 0 || m.Streams != 50 || res.Errors != 0 {
		t.Errorf("%+v, errors %v", m, res.ByClass)
	}
	job.PID = 0
	if _, err := Run(context.Background(), job); err == nil || !strings.Contains(err.Error(), "neither a process nor an admin URL") {
		t.Error(err)
	}
}

func TestRunEndsWhenItsContextDoes(t *testing.T) {
	_, addr := startProvider(t, simulate.Options{})
	for _, loop := range []Loop{Closed, Open, Streams, Cancel} {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(50*time.Millisecond, cancel)
		job := shortJob(loop, addr, streamBody, "gap=1s,events=600")
		job.Window, job.Rate, job.Streams = 10*time.Minute, 0.01, 1000
		if res, err := Run(ctx, job); !errors.Is(err, context.Canceled) && (err != nil || res.Valid) {
			t.Errorf("%s: %v, valid %v", loop, err, res.Valid)
		}
	}
}

func TestAJobThatCannotBeRunSaysWhy(t *testing.T) {
	for want, change := range map[string]func(*Job){
		`loop "nothing": want closed, open, streams or cancel`: func(j *Job) { j.Loop = "nothing" },
		`URL "127.0.0.1:1": want http://HOST:PORT`:             func(j *Job) { j.Endpoint.URL = "127.0.0.1:1" },
		"the key has a line break in it":                       func(j *Job) { j.Endpoint.Key = "a\nb" },
		"no kind of request":                                   func(j *Job) { j.Requests = nil },
		`X-Simulate evnts="1": unknown key`:                    func(j *Job) { j.Requests[0].Simulate = "evnts=1" },
		"its body is not JSON":                                 func(j *Job) { j.Requests[0].Body = "{" },
		"raise it (ulimit -n)":                                 func(j *Job) { j.Streams = 1 << 30 },
	} {
		job := shortJob(Closed, "127.0.0.1:1", jsonBody, "")
		change(&job)
		if _, err := Run(context.Background(), job); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestErrorsKeepWhatTheFirstSaid(t *testing.T) {
	_, addr := startProvider(t, simulate.Options{Key: "another-key"})
	job := shortJob(Closed, addr, jsonBody, "")
	job.Endpoint.Key = "simulated"
	res := mustRun(t, job)
	if said := res.Examples["status 401"]; !strings.Contains(said, "no or wrong credential") {
		t.Errorf("%v: %q", res.ByClass, said)
	}
	job.Endpoint = Endpoint{URL: "http://127.0.0.1:1", Key: "refused"}
	if res := mustRun(t, job); res.ByClass["refused"] == 0 || strings.Contains(res.Examples["refused"], "refused") {
		t.Errorf("%v %v", res.ByClass, res.Examples)
	}
}

func TestTLSEndpointsAreDriven(t *testing.T) {
	cert, certPEM, _, err := simulate.SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	_, addr := startProvider(t, simulate.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, certPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, loop := range []Loop{Closed, Open, Streams} {
		job := shortJob(loop, addr, streamBody, "events=20,burst=1")
		job.Endpoint = Endpoint{URL: "https://" + addr, Key: "k", CAFile: file}
		if loop == Open {
			job.Streams = 100
		}
		exact, err := Probe(context.Background(), job.Endpoint, job.Requests)
		if err != nil || !exact {
			t.Fatalf("probe: %v, %v", exact, err)
		}
		if res := mustRun(t, job); res.Errors != 0 || res.Requests == 0 {
			t.Errorf("%s: %d requests, %v %v", loop, res.Requests, res.ByClass, res.Examples)
		}
	}
	job := shortJob(Closed, addr, jsonBody, "")
	job.Endpoint = Endpoint{URL: "https://" + addr, Key: "k"} // nobody vouches for it
	if res := mustRun(t, job); res.Requests != res.Failed || res.ByClass["TLS handshake"] == 0 {
		t.Errorf("%v %v", res.ByClass, res.Examples)
	}
}

// TestMetricsTellCPUAndMemory reads both from a page of metrics.
func TestMetricsTellCPUAndMemory(t *testing.T) {
	_, addr := startProvider(t, simulate.Options{})
	var reads atomic.Int64
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := reads.Add(1)
		fmt.Fprintf(w, "# HELP x y\nprocess_cpu_seconds_total %d\nprocess_resident_memory_bytes %d\n", n, n<<20)
	}))
	defer admin.Close()
	job := shortJob(Streams, addr, streamBody, "gap=300ms,events=3")
	job.Memory, job.Admin = true, admin.URL
	res := mustRun(t, job)
	// Memory idle, of the first and of all streams, CPU before and after, memory later: six reads.
	if res.Memory != (Memory{Idle: 1 << 10, Base: 2 << 10, Open: 3 << 10, Later: 6 << 10, Streams: 4}) || res.Cost.Peer != 1e9 {
		t.Errorf("%+v %+v", res.Memory, res.Cost)
	}
	job.Admin = "http://127.0.0.1:1"
	if _, err := Run(context.Background(), job); err == nil || !strings.Contains(err.Error(), "read the endpoint's metrics") {
		t.Error(err)
	}
}

func TestTreeHoldsThisProcess(t *testing.T) {
	tree, err := Tree(os.Getppid())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(tree, os.Getpid()) {
		t.Errorf("%d is not among the children of %d: %v", os.Getpid(), os.Getppid(), tree)
	}
	before, err := cpu(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
	}
	if after, err := cpu(os.Getpid()); err != nil || after <= before {
		t.Errorf("CPU time went from %d to %d, %v", before, after, err)
	}
	if kib, err := pss(os.Getpid()); err != nil || kib <= 0 {
		t.Errorf("memory %d KiB, %v", kib, err)
	}
}

// TestChildrenThatBeganWithinTheWindowCost starts one between two readings.
func TestChildrenThatBeganWithinTheWindowCost(t *testing.T) {
	m := newMeter(os.Getpid(), 0, "")
	before, err := m.cpu(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", "600")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	during, err := m.cpu(context.Background())
	if _, ok := during[child.Process.Pid]; !ok || err != nil {
		t.Errorf("%d is not in %v, %v", child.Process.Pid, during, err)
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	after, err := m.cpu(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := spent(before, after); err != nil {
		t.Error(err) // it began and ended in between
	}
	if _, err := spent(during, after); err == nil || !strings.Contains(err.Error(), "ended within the window") {
		t.Error(err)
	}
	if ns, err := spent(map[int]int64{1: 5, 2: 7}, map[int]int64{1: 6, 2: 9, 3: 100}); ns != 103 || err != nil {
		t.Errorf("%d, %v", ns, err)
	}
}
