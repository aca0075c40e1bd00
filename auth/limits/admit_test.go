package limits

import (
	"encoding/json"
	"fmt"
	"slices"
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

func TestBudgetsEndAndBeginAnew(t *testing.T) {
	prices := NewPrices(map[string]configs.Price{"m": {Input: 1, Output: 2, Cached: 0.5}})
	l := newOwn(t, Options{Prices: prices})
	a := l.Account("tenant:t", Limits{BudgetDay: Dollar}, 0)
	ask := Ask{MaxTokens: 1, Model: []byte("m")}
	var g Grant
	if r, ok := l.Admit(&g, nil, a, &ask); !ok {
		t.Fatalf("%+v", r)
	}
	g.Settle(&Outcome{Sent: true, Known: true, Input: 400_000, Cached: 200_000, Output: 350_000, Model: []byte("m")}) // 0.2 + 0.1 + 0.7
	r, ok := l.Admit(&g, nil, a, &ask)
	if ok || r.Kind != BudgetDay || !r.Tenant || !r.Quota || r.Code() != "insufficient_quota" || r.Retry != 12*time.Hour || r.Limit != int64(Dollar) || r.Remaining != 0 ||
		r.Message() != "The budget of this tenant for this day is used up: 1.00 USD. It begins anew in 12h0m0s." {
		t.Errorf("%v %+v %s", ok, r, r.Message())
	}
	l.pass(12 * time.Hour)
	if r, ok := l.Admit(&g, nil, a, &ask); !ok {
		t.Errorf("the next day: %+v", r)
	}
	g.Settle(&Outcome{})
	if r, ok := l.Admit(&g, nil, a, &Ask{MaxTokens: 1, Model: []byte("free")}); !ok || l.Unpriced() != 1 {
		t.Errorf("%+v; %d without a price", r, l.Unpriced())
	}
}

func TestTheEndOfABudgetIsPassedOneByOne(t *testing.T) {
	l := newOwn(t, Options{Prices: NewPrices(map[string]configs.Price{"m": {Output: 1}})})
	a := l.Account("key:k", Limits{BudgetMonth: Dollar}, 0)
	ask := Ask{MaxTokens: 600_000, Model: []byte("m")}
	g, _, ok := admitted(l, a, ask)
	if !ok {
		t.Fatal("the first")
	}
	_, r, ok := admitted(l, a, ask)
	if ok || r.Kind != BudgetMonth || r.Quota || r.Code() != "rate_limit_exceeded" || r.Retry != time.Second {
		t.Errorf("%v %+v", ok, r)
	}
	g.Settle(&Outcome{Sent: true, Known: true, Output: 600_000, Model: []byte("m")})
	if _, r, ok := admitted(l, a, ask); !ok {
		t.Errorf("%+v", r)
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

func TestSpentMoneyOutlivesARestart(t *testing.T) {
	prices := NewPrices(map[string]configs.Price{"m": {Output: 1}})
	l := newOwn(t, Options{Prices: prices})
	g, _, _ := admitted(l, l.Account("key:k", Limits{BudgetDay: Dollar, BudgetMonth: 5 * Dollar}, 0), Ask{Model: []byte("m")})
	g.Settle(&Outcome{Sent: true, Known: true, Output: 700_000, Model: []byte("m")})
	list := l.Share(nil, false, true)
	next := newOwn(t, Options{Prices: prices})
	next.Restore(list, time.Unix(0, next.now))
	a := next.Account("key:k", Limits{BudgetDay: Dollar}, 0)
	if _, spent, _, _ := a.day.state(next.now); spent != 7e8 {
		t.Errorf("spent %v", spent)
	}
	later := newOwn(t, Options{Prices: prices})
	later.pass(24 * time.Hour)
	later.Restore(list, time.Unix(0, next.now))
	b := later.Account("key:k", Limits{BudgetDay: Dollar}, 0)
	if _, day, _, _ := b.day.state(later.now); day != 0 {
		t.Errorf("the next day: %v", day)
	}
	if _, month, _, _ := b.month.state(later.now); month != 7e8 {
		t.Errorf("the next day of the month: %v", month)
	}
}

// Two relays share a file, which goes: whoever writes it anew must not add to
// the one's spending what the other will write again.
func TestAFileThatIsGoneIsWrittenAnewWithoutCountingTwice(t *testing.T) {
	prices := NewPrices(map[string]configs.Price{"m": {Output: 1}})
	relay := func(name string, tokens int64) (*own, *Account) {
		l := newOwn(t, Options{Prices: prices, Instance: name})
		a := l.Account("key:k", Limits{BudgetDay: 100 * Dollar}, 0)
		g, _, _ := admitted(l, a, Ask{Model: []byte("m")})
		g.Settle(&Outcome{Sent: true, Known: true, Output: tokens, Model: []byte("m")})
		return l, a
	}
	a, atA := relay("a", 10_000_000)
	b, atB := relay("b", 5_000_000)
	file := a.Share(nil, true, false)
	file = b.Share(file, true, false)
	a.Share(file, true, false)
	file = a.Share(nil, false, false) // gone
	file = b.Share(file, true, false)
	a.Share(file, true, false)
	for name, of := range map[string]*Account{"a": atA, "b": atB} {
		if _, spent, _, _ := of.day.state(a.now); spent != 15*Dollar {
			t.Errorf("%s knows of %v", name, spent)
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

func TestMoneyIsExact(t *testing.T) {
	for text, want := range map[string]Money{"0": 0, "1": Dollar, "12.50": 12500000000, "0.000000001": 1, "1000000000": maxMoney, "0.05": 5e7} {
		got, err := ParseMoney(text)
		if err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
		if again, err := ParseMoney(got.String()); err != nil || again != got {
			t.Errorf("%s: written %s, read %d, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", ".5", "1.", "-1", "+1", "1e3", "1,5", "$1", "1000000001", "0.0000000001", "99999999999999999999"} {
		if got, err := ParseMoney(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	if m, ok := NewPrices(map[string]configs.Price{"m": {Input: 0.05}}).Cost([]byte("m"), &Outcome{Input: 1}); !ok || m != 50 {
		t.Errorf("a token at 5 cents a million costs %d billionths", m)
	}
}

func TestAModelWithoutAPriceIsToldOnceWhereABudgetShouldCountIt(t *testing.T) {
	var told []string
	l := newOwn(t, Options{Prices: NewPrices(map[string]configs.Price{"m": {Output: 1}}), Unpriced: func(model string) { told = append(told, model) }})
	ask := func(limits Limits, model string, o Outcome) {
		g, _, _ := admitted(l, l.Account("key:"+fmt.Sprint(limits), limits, 0), Ask{Model: []byte(model)})
		o.Model = []byte(model)
		g.Settle(&o)
	}
	answered := Outcome{Sent: true, Known: true, Output: 1}
	ask(Limits{BudgetDay: Dollar}, "m", answered)
	ask(Limits{Requests: 10}, "no budget", answered)
	ask(Limits{BudgetDay: Dollar}, "nobody answered", Outcome{Sent: true})
	for range 2 {
		ask(Limits{BudgetDay: Dollar}, "new", answered)
		ask(Limits{BudgetMonth: Dollar}, "newer", answered)
	}
	if want := []string{"new", "newer"}; !slices.Equal(told, want) {
		t.Errorf("told of %q, want %q", told, want)
	}
	l.SetPrices(Prices{})
	ask(Limits{BudgetDay: Dollar}, "new", answered)
	for i := range 2 * maxUnpriced {
		ask(Limits{BudgetDay: Dollar}, fmt.Sprint(i), answered)
	}
	if len(told) != 2+maxUnpriced {
		t.Errorf("told of %d models", len(told))
	}
}

func TestTokensOfACacheHaveTheirPrices(t *testing.T) {
	prices := NewPrices(map[string]configs.Price{"m": {Input: 3, Output: 15, Cached: 0.3, CacheWrite: 3.75}})
	o := Outcome{Input: 1000, Cached: 200, CacheWrite: 100, Output: 10, InputExcludesCached: true}
	if m, _ := prices.Cost([]byte("m"), &o); m != 1000*3000+200*300+100*3750+10*15000 {
		t.Errorf("counted apart: %d", m)
	}
	o.InputExcludesCached = false
	if m, _ := prices.Cost([]byte("m"), &o); m != 700*3000+200*300+100*3750+10*15000 {
		t.Errorf("as a part of the input: %d", m)
	}
}

func FuzzLimitsJSON(f *testing.F) {
	f.Add(`{"requests_per_minute":60,"tokens_per_minute":1000,"concurrent":2,"budget_day":12.5,"budget_month":100,"burst":"1s"}`)
	f.Add(`{"budget_day":null}`)
	f.Add(`{"burst":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		var l Limits
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			return
		}
		if err := l.Check(); err != nil {
			t.Fatalf("accepted %+v: %v", l, err)
		}
		data, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		var again Limits
		if err := json.Unmarshal(data, &again); err != nil || again != l {
			t.Fatalf("%s became %+v, %v; was %+v", data, again, err, l)
		}
	})
}

func TestLimitsJSONIsStrict(t *testing.T) {
	for _, text := range []string{`{"rpm":1}`, `{"requests_per_minute":-1}`, `{"requests_per_minute":1.5}`, `{"burst":"2m"}`, `{"burst":"1ms"}`, `[]`, `{"budget_day":"x"}`, `{"concurrent":1e3}`} {
		var l Limits
		if err := json.Unmarshal([]byte(text), &l); err == nil {
			t.Errorf("%s is %+v", text, l)
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
