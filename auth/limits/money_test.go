package limits

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"streamrelay/configs"
)

func TestNoPriceMakesACostThatWrapsAround(t *testing.T) {
	for _, c := range []struct{ n, perMillion, want int64 }{
		{500_000, 20_000e9, 10_000e9}, {999_999, 1e15, 999_999e9}, {3, 1e6, 3}, {1, 1, 0}, {-1, 5, 0},
		{MaxRate, 1e15, math.MaxInt64 / 8}, {math.MaxInt64, math.MaxInt64, math.MaxInt64 / 8},
	} {
		if got := cost(c.n, c.perMillion); int64(got) != c.want {
			t.Errorf("%d at %d a million cost %d, want %d", c.n, c.perMillion, got, c.want)
		}
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
	g.Settle(&Outcome{})
	// A file that is uploaded names no model, and has no price by that.
	if r, ok := l.Admit(&g, nil, a, &Ask{BodyBytes: 1 << 20, MaxTokens: 0}); !ok || l.Unpriced() != 1 {
		t.Errorf("an upload: %+v; %d without a price", r, l.Unpriced())
	}
	g.Settle(&Outcome{})
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

func TestTheRequestsOfAKilledRelayAreForgotten(t *testing.T) {
	limits := Limits{Concurrent: 5}
	first := newOwn(t, Options{Instance: "first"})
	if _, r, ok := admitted(first, first.Account("key:k", limits, 0), Ask{}); !ok {
		t.Fatalf("%+v", r)
	}
	file := first.Share(nil, true, false) // after which it is killed
	second := newOwn(t, Options{Instance: "second"})
	if _, r, ok := admitted(second, second.Account("key:k", limits, 0), Ask{}); !ok {
		t.Fatalf("%+v", r)
	}
	second.Restore(file, time.Unix(0, second.now))
	running := func() int64 {
		file = second.Share(file, true, false)
		return UsageOf(file, "key:k", limits, time.Unix(0, second.now)).Concurrent
	}
	if n := running(); n != 2 || len(file) != 2 {
		t.Errorf("%d requests: %+v", n, file)
	}
	second.pass(4 * ShareEvery)
	if n := running(); n != 1 || len(file) != 1 {
		t.Errorf("later %d requests: %+v", n, file)
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
