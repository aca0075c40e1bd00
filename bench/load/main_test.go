package load

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"streamrelay/bench/simulate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	chatPath   = "/v1/chat/completions"
	streamBody = `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`
)

func startProvider(t *testing.T, o simulate.Options) (*simulate.Provider, string) {
	t.Helper()
	p, err := simulate.New(o)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := p.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, addr
}

// shortJob is a job of some hundred milliseconds.
func shortJob(scenario, addr, simulate string) Job {
	return Job{
		Scenario: scenario, Addr: addr, Key: "k", Path: chatPath, Body: streamBody, Simulate: simulate, Streams: 4, Rate: 200,
		Ramp: 20 * time.Millisecond, Settle: 20 * time.Millisecond, Window: 100 * time.Millisecond, ProviderURL: "http://" + addr,
	}
}

func mustRun(t *testing.T, job Job) Result {
	t.Helper()
	res, err := Run(context.Background(), job)
	if err != nil {
		t.Fatal(err)
	}
	return res
}
