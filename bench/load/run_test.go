package load

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"streamrelay/bench/simulate"
)

func TestScenariosEndWithoutErrors(t *testing.T) {
	p, addr := startProvider(t, simulate.Options{})
	for _, tt := range []struct{ scenario, simulate string }{
		{"closed", "burst=1,events=64"}, {"closed", "onewrite=1,events=64"}, {"closed", "events=3,size=40000"},
		{"open", "events=5"}, {"paced", "gap=10ms,events=20"}, {"hold", ""},
	} {
		t.Run(tt.scenario+" "+tt.simulate, func(t *testing.T) {
			before := p.Stats()
			job := shortJob(tt.scenario, addr, tt.simulate)
			job.Peer, job.Provider = os.Getpid(), os.Getpid()
			res := mustRun(t, job)
			after := p.Stats()
			if len(res.Errors) != 0 || res.All == 0 || res.All != after.Requests-before.Requests {
				t.Errorf("%d requests, the provider saw %d; errors %v", res.All, after.Requests-before.Requests, res.Errors)
			}
			if tt.scenario != "hold" && res.PeerCPU <= 0 {
				t.Errorf("no CPU measured: %+v", res)
			}
		})
	}
}

func TestJSONAnswersAreChecked(t *testing.T) {
	_, addr := startProvider(t, simulate.Options{})
	job := shortJob("closed", addr, "events=30")
	job.Body = `{"model":"m"}`
	if res := mustRun(t, job); len(res.Errors) != 0 || res.All == 0 {
		t.Errorf("%+v", res)
	}
}

// TestBrokenAnswersAreErrors asks the provider to break its answers in each way
// and expects every one to be found.
func TestBrokenAnswersAreErrors(t *testing.T) {
	_, addr := startProvider(t, simulate.Options{})
	for how, class := range map[string]string{
		"cut=3": "cut", "cut=head": "cut", "cut=3,reset=1": "cut", "fail=3": "bytes differ", "error=503": "status 503",
	} {
		res := mustRun(t, shortJob("paced", addr, "gap=1ms,events=9,"+how))
		if res.All != 0 || res.Errors[class] != 4 || len(res.Errors) != 1 {
			t.Errorf("%s: %d complete, errors %v", how, res.All, res.Errors)
		}
	}
}

func TestCancelsAreAllNoticed(t *testing.T) {
	_, addr := startProvider(t, simulate.Options{})
	job := shortJob("cancel", addr, "")
	job.Streams = 12
	res := mustRun(t, job)
	if res.Never != 0 || len(res.Errors) != 0 || res.Requests != 36 {
		t.Errorf("%+v", res)
	}
	for _, phase := range []string{"before_head", "mid_stream", "non_stream"} {
		if res.Cancels[phase].Count != 12 {
			t.Errorf("%s: %+v", phase, res.Cancels[phase])
		}
	}
}

func TestRunEndsWhenItsContextDoes(t *testing.T) {
	_, addr := startProvider(t, simulate.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	job := shortJob("closed", addr, "events=1")
	job.Window = 10 * time.Minute
	if _, err := Run(ctx, job); err != context.Canceled {
		t.Error(err)
	}
	if _, err := Run(context.Background(), Job{Scenario: "nothing", Addr: addr}); err == nil || !strings.Contains(err.Error(), `scenario "nothing"`) {
		t.Error(err)
	}
}

func TestTreeHoldsThisProcess(t *testing.T) {
	tree, err := Tree(os.Getppid())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, pid := range tree {
		found = found || pid == os.Getpid()
	}
	if !found {
		t.Errorf("%d is not among the children of %d: %v", os.Getpid(), os.Getppid(), tree)
	}
	before, err := cpu([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
	}
	if after, err := cpu([]int{os.Getpid()}); err != nil || after <= before {
		t.Errorf("CPU time went from %d to %d, %v", before, after, err)
	}
	if kib, err := pss([]int{os.Getpid()}); err != nil || kib <= 0 {
		t.Errorf("memory %d KiB, %v", kib, err)
	}
}
