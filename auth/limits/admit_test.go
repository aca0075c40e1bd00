package limits

import (
	"strings"
	"testing"
	"time"

	"streamrelay/configs"
)

func admitted(l *own, a *Account, ask Ask) (g Grant, r Refusal, ok bool) {
	r, ok = l.Admit(&g, a, nil, &ask)
	return g, r, ok
}

func TestRequestsPerMinute(t *testing.T) {
	l := newOwn(t, Options{})
	a := l.Account("key:k", Limits{Requests: 3}, 0)
	for i := range 3 {
		if _, r, ok := admitted(l, a, Ask{}); !ok {
			t.Fatalf("request %d of 3: %+v", i+1, r)
		}
	}
	_, r, ok := admitted(l, a, Ask{})
	if ok || r.Kind != Requests || r.Limit != 3 || r.Remaining != 0 || r.Retry != 20*time.Second || r.Reset != time.Minute || r.Code() != "rate_limit_exceeded" || r.Type() != "requests" || r.Quota {
		t.Errorf("the fourth: %v, %+v", ok, r)
	}
	l.pass(19 * time.Second)
	if _, _, ok := admitted(l, a, Ask{}); ok {
		t.Error("a second too early")
	}
	l.pass(time.Second)
	if _, r, ok := admitted(l, a, Ask{}); !ok {
		t.Errorf("when it may: %+v", r)
	}
	if _, _, ok := admitted(l, a, Ask{}); ok {
		t.Error("twice")
	}
	l.pass(time.Hour)
	g, _, _ := admitted(l, a, Ask{})
	if h := g.Headroom(); h.LimitRequests != 3 || h.RemainingRequests != 2 || h.ResetRequests != 20*time.Second || h.LimitTokens != 0 {
		t.Errorf("%+v", h)
	}
}

func TestWhatNeverReachedAProviderCostsNothing(t *testing.T) {
	l := newOwn(t, Options{Prices: NewPrices(map[string]configs.Price{"m": {Input: 1000, Output: 1000}})})
	a := l.Account("key:k", Limits{Requests: 1, Tokens: 1000, Concurrent: 1, BudgetDay: Dollar}, 0)
	for i := range 5 {
		g, r, ok := admitted(l, a, Ask{BodyBytes: 400, MaxTokens: 800, Model: []byte("m")})
		if !ok {
			t.Fatalf("%d: %+v", i, r)
		}
		if _, r, ok := admitted(l, a, Ask{Model: []byte("m")}); ok || r.Kind != Concurrency {
			t.Fatalf("%d: at the same time: %v %+v", i, ok, r)
		}
		g.Settle(&Outcome{})
		g.Settle(&Outcome{Sent: true, Known: true, Input: 1000}) // nothing: it was settled
	}
	if n := a.slots.used.Load(); n != 0 {
		t.Errorf("%d slots are taken", n)
	}
	if _, spent, _, _ := a.day.state(l.now); spent != 0 || a.day.pending != 0 {
		t.Errorf("spent %v, pending %v", spent, a.day.pending)
	}
}

func TestTokensAreReservedAndSettled(t *testing.T) {
	for _, test := range []struct {
		name string
		out  Outcome
		left int64 // of 1,000, after a reservation of 100 + 400
	}{
		{"less than reserved", Outcome{Sent: true, Known: true, Input: 80, Output: 20}, 900},
		{"as reserved", Outcome{Sent: true, Known: true, Input: 100, Output: 400}, 500},
		{"more than reserved", Outcome{Sent: true, Known: true, Input: 300, Output: 500}, 200},
		{"more than there is", Outcome{Sent: true, Known: true, Input: 900, Output: 500}, 0},
		{"with a cache beside", Outcome{Sent: true, Known: true, Input: 10, Output: 10, Cached: 70, CacheWrite: 10, InputExcludesCached: true}, 900},
		{"with a cache inside", Outcome{Sent: true, Known: true, Input: 90, Output: 10, Cached: 70}, 900},
		{"unknown, cut after 50 events", Outcome{Sent: true, Events: 50, Input: -1, Output: -1}, 850},
		{"unknown, nothing came", Outcome{Sent: true, Input: -1, Output: -1}, 900},
		{"refused by us", Outcome{}, 1000},
	} {
		l := newOwn(t, Options{})
		a := l.Account("key:k", Limits{Tokens: 1000}, 0)
		g, r, ok := admitted(l, a, Ask{BodyBytes: 400, MaxTokens: 400})
		if !ok {
			t.Fatalf("%+v", r)
		}
		if h := g.Headroom(); h.RemainingTokens != 500 || h.LimitTokens != 1000 {
			t.Errorf("%s: while it runs %+v", test.name, h)
		}
		g.Settle(&test.out)
		l.settled(a)
		if _, left, _ := a.tokens.level(l.now); left != test.left {
			t.Errorf("%s: %d left, want %d", test.name, left, test.left)
		}
	}
}

// settled waits for debts that are paid in the background.
func (l *own) settled(a *Account) {
	for a.tokens.asking.Load() {
		time.Sleep(time.Millisecond)
	}
	a.tokens.giveBack(l.now, false)
}

func TestWhatComesBackOverfillsNoBucket(t *testing.T) {
	l := newOwn(t, Options{})
	a := l.Account("key:k", Limits{Tokens: 60_000, Burst: time.Second}, 0) // a bucket of 1000
	ask := Ask{MaxTokens: 1000}
	var long []Grant
	for range 5 {
		g, r, ok := admitted(l, a, ask)
		if !ok {
			t.Fatalf("%+v", r)
		}
		long = append(long, g)
		l.pass(1100 * time.Millisecond) // it is full again
	}
	for i := range long {
		long[i].Settle(&Outcome{Sent: true, Known: true, Output: 1})
	}
	passed := 0
	for range 5 {
		if g, _, ok := admitted(l, a, ask); ok {
			passed++
			g.Settle(&Outcome{Sent: true, Known: true, Output: 1000})
		}
	}
	if passed != 1 {
		t.Errorf("%d requests passed, each of which takes the whole bucket", passed)
	}
	l.pass(time.Second)
	g, r, ok := admitted(l, a, ask)
	if !ok {
		t.Fatalf("%+v", r)
	}
	l.pass(time.Second / 2)
	g.Settle(&Outcome{Sent: true, Known: true, Output: 250}) // half of it came back already
	if _, left, _ := a.tokens.level(l.now); left != 1000 {
		t.Errorf("%d are left", left)
	}
}

func TestADebtIsPaidBeforeTheNextRequest(t *testing.T) {
	l := newOwn(t, Options{})
	a := l.Account("key:k", Limits{Tokens: 600}, 0) // 10 a second
	g, _, _ := admitted(l, a, Ask{MaxTokens: 10})
	g.Settle(&Outcome{Sent: true, Known: true, Output: 1200}) // two minutes' worth
	l.settled(a)
	_, r, ok := admitted(l, a, Ask{MaxTokens: 10})
	if ok || r.Kind != Tokens || r.Type() != "tokens" || r.Retry != 61*time.Second {
		t.Errorf("%v %+v", ok, r)
	}
	l.pass(61 * time.Second)
	if _, r, ok := admitted(l, a, Ask{MaxTokens: 10}); !ok {
		t.Errorf("%+v", r)
	}
}

func TestADebtOutlivesARestart(t *testing.T) {
	limits := Limits{Requests: 100, Tokens: 600}
	for _, clock := range []time.Duration{0, -time.Hour} { // how far it went meanwhile
		l := newOwn(t, Options{Instance: "a"})
		a := l.Account("key:k", limits, 0)
		g, _, _ := admitted(l, a, Ask{MaxTokens: 10})
		g.Settle(&Outcome{Sent: true, Known: true, Output: 6600}) // eleven minutes' worth, of which one is the bucket
		l.settled(a)
		if _, left, reset := a.tokens.level(l.now); left != 0 || reset != 11*time.Minute {
			t.Errorf("%d left, full in %v", left, reset)
		}
		next := newOwn(t, Options{Instance: "b"})
		next.pass(clock)
		next.Restore(l.Share(nil, false, false), time.Unix(0, l.now)) // it was killed
		b := next.Account("key:k", limits, 0)
		if _, r, ok := admitted(next, b, Ask{MaxTokens: 10}); ok || r.Kind != Tokens || r.Retry != 10*time.Minute+time.Second || r.Reset != 11*time.Minute {
			t.Errorf("clock %v: %v %+v", clock, ok, r)
		}
		next.pass(10*time.Minute + time.Second)
		if _, r, ok := admitted(next, b, Ask{MaxTokens: 10}); !ok {
			t.Errorf("clock %v: %+v", clock, r)
		}
	}
}

func TestARequestLargerThanTheLimitPassesWhenTheBucketIsFull(t *testing.T) {
	l := newOwn(t, Options{})
	a := l.Account("key:k", Limits{Tokens: 1000}, 0)
	g, r, ok := admitted(l, a, Ask{BodyBytes: 4000, MaxTokens: 100_000})
	if !ok {
		t.Fatalf("%+v", r)
	}
	if _, r, ok := admitted(l, a, Ask{MaxTokens: 1}); ok {
		t.Errorf("beside it: %+v", r)
	}
	g.Settle(&Outcome{Sent: true, Known: true, Input: 100, Output: 100})
	if _, r, ok := admitted(l, a, Ask{MaxTokens: 700}); !ok {
		t.Errorf("after it: %+v", r)
	}
}

func TestEstimatesAreLearned(t *testing.T) {
	l := newOwn(t, Options{})
	a := l.Account("key:k", Limits{Tokens: 1e9}, 0)
	for range 200 { // images: 1 MB of base64 is a thousand tokens
		g, _, _ := admitted(l, a, Ask{BodyBytes: 1e6, MaxTokens: -1})
		g.Settle(&Outcome{Sent: true, Known: true, Input: 1000, Output: 40})
	}
	in, out := a.estimate(&Ask{BodyBytes: 1e6, MaxTokens: -1})
	if in < 1000 || in > 1100 || out < 40 || out > 60 {
		t.Errorf("estimated %d and %d, used are 1000 and 40", in, out)
	}
}

func TestARefusalByOneLimitTakesNothingOfTheOthers(t *testing.T) {
	l := newOwn(t, Options{})
	key, tenant := l.Account("key:k", Limits{Requests: 2, Tokens: 1000, Concurrent: 5}, 0), l.Account("tenant:t", Limits{Requests: 1}, 0)
	var first, g Grant
	if r, ok := l.Admit(&first, key, tenant, &Ask{MaxTokens: 10}); !ok {
		t.Fatalf("%+v", r)
	}
	for range 10 {
		if r, ok := l.Admit(&g, key, tenant, &Ask{MaxTokens: 10}); ok || !r.Tenant || r.Kind != Requests {
			t.Fatalf("%v %+v", ok, r)
		}
		g.Settle(&Outcome{Sent: true}) // a refused one has nothing to settle
	}
	if _, left, _ := key.requests.level(l.now); left != 1 {
		t.Errorf("%d requests left of the key, want 1", left)
	}
	if _, left, _ := key.tokens.level(l.now); left != 990 {
		t.Errorf("%d tokens left of the key, want 990", left)
	}
	if n := key.slots.used.Load(); n != 1 {
		t.Errorf("%d slots taken, want 1", n)
	}
}

func TestLimitsMayChangeUnderWay(t *testing.T) {
	l := newOwn(t, Options{})
	a := l.Account("key:k", Limits{Requests: 1}, 0)
	admitted(l, a, Ask{})
	if _, _, ok := admitted(l, a, Ask{}); ok {
		t.Fatal("beyond the limit")
	}
	if l.Account("key:k", Limits{Requests: 100}, 0) != a {
		t.Fatal("another account")
	}
	// What was used of the old one is used of the new one, in parts of a whole.
	l.pass(600 * time.Millisecond)
	if _, r, ok := admitted(l, a, Ask{}); !ok {
		t.Errorf("a larger limit: %+v", r)
	}
	l.Account("key:k", Limits{}, 0)
	for range 1000 {
		if _, r, ok := admitted(l, a, Ask{}); !ok {
			t.Fatalf("no limit: %+v", r)
		}
	}
}

func TestResetsAreWrittenAsOpenAIDoes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0ms", -time.Second: "0ms", time.Microsecond: "1ms", 12 * time.Millisecond: "12ms", time.Second: "1s", 1500 * time.Millisecond: "1.5s",
		59999 * time.Millisecond: "59.999s", time.Minute: "1m0s", 6 * time.Minute: "6m0s", 90 * time.Second: "1m30s", time.Hour: "1h0m0s", 25*time.Hour + time.Second: "25h0m1s",
	} {
		if got := string(AppendReset(nil, d)); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestAdmissionAllocatesNothingWhileUnitsAreInHand(t *testing.T) {
	l := New(Options{Prices: NewPrices(map[string]configs.Price{"m": {Input: 1, Output: 1}})})
	defer l.Close()
	limits := Limits{Requests: 1e11, Tokens: 1e12, Concurrent: 100, BudgetDay: 1e6 * Dollar, BudgetMonth: 1e6 * Dollar}
	key, tenant := l.Account("key:k", limits, 0), l.Account("tenant:t", limits, 0)
	ask := Ask{BodyBytes: 500, MaxTokens: 100, Model: []byte("m")}
	out := Outcome{Sent: true, Known: true, Input: 100, Output: 100, Model: ask.Model}
	var g Grant
	var head [64]byte
	run := func() {
		if _, ok := l.Admit(&g, key, tenant, &ask); !ok {
			t.Fatal("refused")
		}
		h := g.Headroom()
		_ = AppendReset(head[:0], h.ResetRequests)
		g.Settle(&out)
	}
	for range 100 {
		run()
	}
	if n := testing.AllocsPerRun(2000, run); n > 0.1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAdmitAndSettle(b *testing.B) {
	l := New(Options{})
	defer l.Close()
	limits := Limits{Requests: 1e11, Tokens: 1e12, Concurrent: 100}
	key, tenant := l.Account("key:k", limits, 0), l.Account("tenant:t", limits, 0)
	ask := Ask{BodyBytes: 500, MaxTokens: 100}
	out := Outcome{Sent: true, Known: true, Input: 100, Output: 100}
	for name, accounts := range map[string][2]*Account{"none": {}, "key": {key, nil}, "key and tenant": {key, tenant}} {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			b.ReportAllocs()
			var g Grant
			for b.Loop() {
				if _, ok := l.Admit(&g, accounts[0], accounts[1], &ask); !ok {
					b.Fatal("refused")
				}
				g.Settle(&out)
			}
		})
	}
}

// What a stream named that broke off says nothing about how long answers are.
func TestAnAnswerThatBrokeOffTeachesNothing(t *testing.T) {
	l := newOwn(t, Options{})
	a := l.Account("key:k", Limits{Tokens: 1_000_000}, 0)
	_, before := a.estimate(&Ask{MaxTokens: -1})
	for range 40 {
		g, _, _ := admitted(l, a, Ask{BodyBytes: 400, MaxTokens: -1})
		g.Settle(&Outcome{Sent: true, Known: true, Partial: true, Input: 100, Output: 1, Events: 900})
	}
	if _, out := a.estimate(&Ask{MaxTokens: -1}); out != before {
		t.Errorf("an answer is taken for %d tokens, and was for %d", out, before)
	}
}
