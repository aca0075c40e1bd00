package pool

import (
	"context"
	"testing"
	"time"

	"streamrelay/configs"
)

// Attempts that began before the outage was over count against the upstream
// after it is back.
func TestFailuresOfAnOutageThatIsOverOpenNoCircuit(t *testing.T) {
	s, err := NewSet(context.Background(), []configs.Upstream{
		{Name: "a", BaseURL: "http://127.0.0.1:1", Dialect: configs.OpenAI, Circuit: configs.Circuit{Failures: 3, OpenFor: time.Second, MaxOpen: time.Minute}},
		{Name: "b", BaseURL: "http://127.0.0.1:2", Dialect: configs.OpenAI, Priority: 1},
	}, nil, nil, &Buffers{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := NewCandidates(s.Upstreams)
	now := Now()
	begin := func(want string) *Attempt {
		t.Helper()
		a := new(Attempt)
		if !c.Choose(a, &Tried{}, 0, now) || a.Upstream.Name != want {
			t.Fatalf("chose %s, want %s (state %s)", a.Upstream.Name, want, s.Upstreams[0].State(now))
		}
		return a
	}
	var old []*Attempt // hang in the outage until timeouts.head
	for range 6 {
		old = append(old, begin("a"))
	}
	for _, a := range old[:3] { // the first time out: the circuit opens
		a.Failed(now, "timeout_head")
		a.End(false)
	}
	now += int64(2 * time.Second)
	probe := begin("a")
	probe.Answered() // it is back
	probe.End(true)
	for range 100 { // and serves well
		a := begin("a")
		a.Answered()
		a.End(true)
	}
	for _, a := range old[3:] { // what hung in the outage times out now
		a.Failed(now, "timeout_head")
		a.End(false)
	}
	if st := s.Upstreams[0].State(now); st != StateUp {
		t.Errorf("the circuit of an upstream that serves well is %s", st)
	}
}
