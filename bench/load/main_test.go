package load

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"streamrelay/bench/simulate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	chatPath   = "/chat/completions"
	jsonBody   = `{"model":"m"}`
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

// listen serves each connection with f until the test ends.
func listen(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return l.Addr().String()
}

// shortJob is a job of some hundred milliseconds.
func shortJob(loop Loop, addr, body, simulate string) Job {
	return Job{
		Loop: loop, Endpoint: Endpoint{URL: "http://" + addr, Key: "k"}, Exact: true, Streams: 4, Rate: 200,
		Requests: []Request{{Name: "one", Path: chatPath, Body: body, Simulate: simulate}},
		Ramp:     20 * time.Millisecond, Settle: 20 * time.Millisecond, Window: 100 * time.Millisecond, Timeout: 5 * time.Second,
		ProviderURL: "http://" + addr,
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
