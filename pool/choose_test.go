package pool

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"streamrelay/configs"
)

// setOf builds upstreams u0, u1, … at different hosts, each changed by change,
// with the credentials given: "" is an upstream without one.
func setOf(t testing.TB, n int, change func(i int, c *configs.Upstream)) *Set {
	t.Helper()
	cfg := make([]configs.Upstream, n)
	for i := range cfg {
		cfg[i] = configs.Upstream{
			Name: fmt.Sprint("u", i), BaseURL: fmt.Sprintf("http://127.0.0.%d/v1", i+1), Dialect: configs.OpenAI, Weight: 1, IdleTimeout: time.Minute,
			Credentials: []configs.Credential{{Value: configs.NewSecret(fmt.Sprint("k", i)), Weight: 1}},
			Circuit:     configs.Circuit{Failures: 3, OpenFor: time.Second, MaxOpen: 4 * time.Second},
		}
		if change != nil {
			change(i, &cfg[i])
		}
	}
	s, err := NewSet(context.Background(), cfg, nil, nil, &Buffers{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// one chooses, ends the attempt at once and returns upstream and credential.
func one(c *Candidates, tried *Tried, model uint64, now int64) string {
	var a Attempt
	if !c.Choose(&a, tried, model, now) {
		return ""
	}
	defer a.End(false)
	return a.Upstream.Name + "/" + a.Name
}

// TestChoiceFollowsWeights draws so often that a share is off by a hundredth
// about once in a thousand million runs.
func TestChoiceFollowsWeights(t *testing.T) {
	s := setOf(t, 3, func(i int, c *configs.Upstream) {
		c.Weight = []int{1, 3, 4}[i]
		if i == 2 {
			c.Credentials = []configs.Credential{{Name: "small", Value: configs.NewSecret("a"), Weight: 1}, {Name: "large", Value: configs.NewSecret("b"), Weight: 3}}
		}
	})
	c := NewCandidates(s.Upstreams)
	const draws = 1_000_000
	got := map[string]int{}
	now := Now()
	for range draws {
		// One draw, without the comparison of load, which is the same for all.
		got[c.tiers[0].draw().Upstream.Name+"/"+c.tiers[0].draw().Name]++
	}
	share := func(name string) float64 {
		n := 0
		for k, v := range got {
			if k[:2] == name {
				n += v
			}
		}
		return float64(n) / draws
	}
	for name, want := range map[string]float64{"u0": 1. / 8, "u1": 3. / 8, "u2": 4. / 8} {
		if math.Abs(share(name)-want) > .003 {
			t.Errorf("%s: %v of the draws, want %v", name, share(name), want)
		}
	}
	if one(c, &Tried{}, 0, now) == "" {
		t.Error("nobody was chosen")
	}
}

func TestTheLessBusyOfTwoIsChosen(t *testing.T) {
	s := setOf(t, 2, nil)
	c := NewCandidates(s.Upstreams)
	busy := s.Upstreams[0].Credentials[0]
	for range 1000 {
		var a Attempt
		a.Pin(busy, Now())
	}
	toBusy := 0
	for range 1000 {
		if one(c, &Tried{}, 0, Now()) == "u0/0" {
			toBusy++
		}
	}
	if toBusy < 150 || toBusy > 350 { // only where both draws are the busy one: a quarter
		t.Errorf("%d of 1000 went to the busy one", toBusy)
	}
	if n := busy.InFlight(); n != 1000 {
		t.Errorf("%d under way", n)
	}
}

func TestLowerPriorityNumbersComeFirst(t *testing.T) {
	s := setOf(t, 4, func(i int, c *configs.Upstream) { c.Priority = []int{5, 1, 1, 9}[i] })
	c := NewCandidates(s.Upstreams)
	var tried Tried
	seen := map[string]bool{}
	for range 4 {
		var a Attempt
		if !c.Choose(&a, &tried, 0, Now()) {
			t.Fatal("nobody left")
		}
		tried.Add(a.Credential)
		if n := len(seen); (n < 2) != (a.Upstream.Priority == 1) || n == 2 && a.Upstream.Priority != 5 || seen[a.Upstream.Name] {
			t.Errorf("choice %d is %s", n+1, a.Upstream.Name)
		}
		seen[a.Upstream.Name] = true
		a.End(false)
	}
	var a Attempt
	if c.Choose(&a, &tried, 0, Now()) {
		t.Error("a fifth choice")
	}
	if c.First().Upstream.Name != "u1" {
		t.Errorf("first is %s", c.First().Upstream.Name)
	}
}

func TestALimitRestsTheModelAtItsAccount(t *testing.T) {
	s := setOf(t, 2, func(i int, c *configs.Upstream) { c.Priority = i })
	c := NewCandidates(s.Upstreams)
	now := Now()
	const m1, m2 = 0x1234567890abcdef, 0xfedcba0987654321
	var a Attempt
	a.Pin(s.Upstreams[0].Credentials[0], now)
	if d := a.Limited(m1, now, 7*time.Second); d != 7*time.Second {
		t.Errorf("rests for %v", d)
	}
	a.End(false)
	for _, k := range []struct {
		model uint64
		after time.Duration
		want  string
	}{{m1, 0, "u1/0"}, {m2, 0, "u0/0"}, {m1, 6999 * time.Millisecond, "u1/0"}, {m1, 7002 * time.Millisecond, "u0/0"}} {
		if got := one(c, &Tried{}, k.model, now+int64(k.after)); got != k.want {
			t.Errorf("model %x after %v: %s, want %s", k.model, k.after, got, k.want)
		}
	}
	// Without Retry-After it doubles, and a good answer begins anew.
	a.Pin(s.Upstreams[0].Credentials[0], now)
	var waits []time.Duration
	for at, i := now+int64(10*time.Second), 0; i < 8; i++ {
		d := a.Limited(m2, at, 0)
		waits = append(waits, d)
		if again := a.Limited(m2, at, 0); again > d+time.Millisecond { // rests are kept in whole milliseconds
			t.Errorf("a second word at the same time made %v of %v", again, d)
		}
		at += int64(d) + 1e6
	}
	if fmt.Sprint(waits) != "[1s 2s 4s 8s 16s 32s 1m0s 1m0s]" {
		t.Errorf("rests %v", waits)
	}
	a.End(true)
	a.Pin(s.Upstreams[0].Credentials[0], now)
	if d := a.Limited(m2, now+int64(time.Hour), 0); d != time.Second {
		t.Errorf("after a good answer: %v", d)
	}
	a.End(false)
}

func TestAllRestingIsNobody(t *testing.T) {
	s := setOf(t, 2, nil)
	c := NewCandidates(s.Upstreams)
	now := Now()
	for i, u := range s.Upstreams {
		var a Attempt
		a.Pin(u.Credentials[0], now)
		a.Limited(1, now, time.Duration(10+i)*time.Second)
		a.End(false)
	}
	if got := one(c, &Tried{}, 1, now); got != "" {
		t.Errorf("chose %s", got)
	}
	if d := c.ReadyIn(1, now); d < 10*time.Second || d > 10*time.Second+time.Millisecond {
		t.Errorf("ready in %v", d)
	}
	sole := NewCandidates(s.Upstreams[:1])
	if got := one(sole, &Tried{}, 1, now); got != "u0/0" {
		t.Errorf("a sole account: %q", got)
	}
}

func TestRefusedComesLastAndIsForgivenByASuccess(t *testing.T) {
	s := setOf(t, 2, func(i int, c *configs.Upstream) { c.Priority = i })
	c := NewCandidates(s.Upstreams)
	now := Now()
	a, b := s.Upstreams[0].Credentials[0], s.Upstreams[1].Credentials[0]
	refuse := func(k *Credential, at int64) {
		var try Attempt
		try.Pin(k, at)
		try.Refused(at, "401")
		try.End(false)
	}
	refuse(a, now)
	if got := one(c, &Tried{}, 0, now); got != "u1/0" {
		t.Errorf("chose %s", got)
	}
	refuse(b, now)
	if got := one(c, &Tried{}, 0, now); got != "u0/0" {
		t.Errorf("both refused: chose %q", got)
	}
	if a.State(now) != StateRefused || a.State(now+int64(11*time.Second)) != StateUp {
		t.Errorf("states %s, %s", a.State(now), a.State(now+int64(11*time.Second)))
	}
	var try Attempt
	try.Pin(a, now)
	try.End(true)
	if a.State(now) != StateUp {
		t.Errorf("after a success: %s", a.State(now))
	}
}

func TestCircuitOpensHalfOpensAndCloses(t *testing.T) {
	s := setOf(t, 2, func(i int, c *configs.Upstream) { c.Priority = i })
	c := NewCandidates(s.Upstreams)
	u := s.Upstreams[0]
	now := Now()
	fail := func(at int64) {
		t.Helper()
		var a Attempt
		if !c.Choose(&a, &Tried{}, 0, at) || a.Upstream != u {
			t.Fatalf("not the first upstream at %v", time.Duration(at-now))
		}
		a.Failed(at, "test")
		a.End(false)
	}
	at := func(d time.Duration) int64 { return now + int64(d) }
	fail(now)
	fail(now)
	var good Attempt
	good.Pin(u.Credentials[0], now)
	good.End(true) // begins the count anew
	fail(now)
	fail(now)
	if u.State(now) != StateUp {
		t.Fatalf("%s after two in a row", u.State(now))
	}
	fail(now)
	if u.State(now) != StateOpen || one(c, &Tried{}, 0, now) != "u1/0" {
		t.Fatalf("%s after three in a row", u.State(now))
	}
	if u.State(at(time.Second)) != StateHalfOpen {
		t.Fatalf("%s after a second", u.State(at(time.Second)))
	}
	// Each probe that fails doubles the time, up to max_open.
	when := time.Second
	for _, d := range []time.Duration{2 * time.Second, 4 * time.Second, 4 * time.Second} {
		fail(at(when))
		if u.State(at(when+d-1)) != StateOpen || u.State(at(when+d)) != StateHalfOpen {
			t.Fatalf("after a failed probe at %v it is not open for %v", when, d)
		}
		when += d
	}
	// One probe at a time; one that learns nothing lets the next one pass.
	var probe, other Attempt
	if !c.Choose(&probe, &Tried{}, 0, at(when)) || probe.Upstream != u {
		t.Fatal("no probe")
	}
	if c.Choose(&other, &Tried{}, 0, at(when)); other.Upstream == u {
		t.Fatal("two probes")
	}
	other.End(false)
	probe.End(false)
	if !c.Choose(&probe, &Tried{}, 0, at(when)) || probe.Upstream != u {
		t.Fatal("no second probe")
	}
	probe.Answered()
	if u.State(at(when)) != StateUp || one(c, &Tried{}, 0, at(when)) != "u0/0" {
		t.Fatal("an answered probe does not close it")
	}
	probe.Failed(at(when), "cut") // nothing has gone well yet
	probe.End(false)
	if u.State(at(when)) != StateOpen {
		t.Fatal("an answered probe that breaks off does not open it")
	}
	when += 4 * time.Second
	if !c.Choose(&probe, &Tried{}, 0, at(when)) || probe.Upstream != u {
		t.Fatal("no third probe")
	}
	probe.Answered()
	probe.End(false)
	fail(at(when))
	if u.State(at(when)) != StateOpen {
		t.Fatal("the first failure after a probe does not open it")
	}
}

func TestNoFailuresNoCircuit(t *testing.T) {
	s := setOf(t, 2, func(i int, c *configs.Upstream) { c.Circuit.Failures = 0; c.Priority = i })
	for range 1000 {
		var a Attempt
		a.Pin(s.Upstreams[0].Credentials[0], Now())
		a.Failed(Now(), "test")
		a.End(false)
	}
	if s.Upstreams[0].State(Now()) != StateUp {
		t.Error("it opened")
	}
}

func TestOneAccountIsWhatAProviderKnowsAsOne(t *testing.T) {
	key := func(v string) []configs.Credential {
		return []configs.Credential{{Value: configs.NewSecret(v), Weight: 1}}
	}
	s := setOf(t, 6, func(i int, c *configs.Upstream) {
		c.BaseURL = []string{"https://h/v1", "https://h/beta", "https://h/v1", "https://other/v1", "https://h/v1", "https://h/x"}[i]
		c.Credentials = [][]configs.Credential{key("k"), key("k"), key("l"), key("k"), nil, nil}[i]
	})
	if n := NewCandidates(s.Upstreams).Accounts(); n != 5 {
		t.Errorf("%d accounts, want 5", n)
	}
	var tried Tried
	tried.Add(s.Upstreams[0].Credentials[0])
	for i, want := range []bool{true, true, false, false, false, false} {
		if got := tried.Has(s.Upstreams[i].Credentials[0]); got != want {
			t.Errorf("upstream %d: %v", i, got)
		}
	}
}

// TestManyChooseAtOnce ends with nothing under way, whatever happened between.
func TestManyChooseAtOnce(t *testing.T) {
	s := setOf(t, 4, func(i int, c *configs.Upstream) {
		c.Priority, c.Circuit = i/2, configs.Circuit{Failures: 2, OpenFor: 1, MaxOpen: 1000}
	})
	c := NewCandidates(s.Upstreams)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 5000 {
				var a Attempt
				now := Now()
				if !c.Choose(&a, &Tried{}, uint64(i%3), now) {
					continue
				}
				switch (g + i) % 5 {
				case 0:
					a.Failed(now, "test")
				case 1:
					a.Limited(uint64(i%3), now, 1)
				case 2:
					a.Refused(now, "test")
				case 3:
					a.Answered()
				}
				a.End(i%2 == 0)
				a.End(true) // does nothing
			}
		})
	}
	wg.Wait()
	for _, u := range s.Upstreams {
		if n := u.Credentials[0].InFlight(); n != 0 || u.circuit.probing.Load() {
			t.Errorf("%s: %d under way, probing %v", u.Name, n, u.circuit.probing.Load())
		}
	}
}

func TestChoosingAllocatesNothing(t *testing.T) {
	s := setOf(t, 64, func(i int, c *configs.Upstream) { c.Priority = i % 2 })
	c := NewCandidates(s.Upstreams)
	now := Now()
	for _, u := range s.Upstreams[:63] { // the draws miss, and all are looked at
		var a Attempt
		a.Pin(u.Credentials[0], now)
		a.Limited(5, now, time.Minute)
		a.End(false)
	}
	for model := range uint64(10) {
		x := new(struct { // as in an exchange
			try   Attempt
			tried Tried
		})
		if n := testing.AllocsPerRun(200, func() {
			if !c.Choose(&x.try, &x.tried, model, now) {
				t.Fatal("nobody")
			}
			x.try.Answered()
			x.try.End(true)
		}); n != 0 {
			t.Errorf("model %d: %v allocations", model, n)
		}
	}
}

func TestACircuitOfOneFailureForgetsWhatWentWellAgain(t *testing.T) {
	c := circuit{cfg: configs.Circuit{Failures: 1, OpenFor: time.Second, MaxOpen: time.Hour}}
	for range 3 {
		if opened, d := c.failed(1, false, c.times.Load()); !opened || d != time.Second {
			t.Fatalf("opened %v for %s, want 1s", opened, d)
		}
		c.enter(int64(time.Hour))
		c.answered()
		c.well()
	}
}

func TestOneAccountIsOneHoweverItsHostIsSpelled(t *testing.T) {
	s := setOf(t, 3, func(i int, c *configs.Upstream) {
		c.BaseURL = []string{"https://api.example.com/v1", "https://API.Example.com/v1", "https://api.example.com:443/v2"}[i]
		c.Credentials = []configs.Credential{{Value: configs.NewSecret("k"), Weight: 1}}
	})
	if n := NewCandidates(s.Upstreams).Accounts(); n != 1 {
		t.Errorf("%d accounts", n)
	}
}
