package limits

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"streamrelay/auth/redistest"
)

// dollars asks for a request of n dollars.
func dollars(n int64) *Ask { return &Ask{MaxTokens: n, Model: []byte("m")} }

// lend admits requests of a dollar by turns, until every relay has refused one.
func lend(t *testing.T, list []*Limiter, limits Limits) (grants []Grant) {
	t.Helper()
	for refused := 0; refused < len(list); {
		refused = 0
		for _, l := range list {
			var g Grant
			if r, ok := l.Admit(&g, l.Account("key:k", limits, 0), nil, dollars(1)); ok {
				grants = append(grants, g)
			} else if refused++; r.Quota || r.Kind != BudgetDay || r.Retry != time.Second {
				t.Fatalf("%+v", r)
			}
		}
	}
	return grants
}

func settleAll(grants []Grant, cost int64) {
	for i := range grants {
		grants[i].Settle(&Outcome{Sent: true, Known: true, Output: cost, Model: []byte("m")})
	}
}

func TestABudgetIsLentOnceByAllRelays(t *testing.T) {
	s := redistest.Start(t)
	list := relays(t, s, 4, Options{Prices: million})
	limits := Limits{BudgetDay: 10 * Dollar}
	grants := lend(t, list, limits)
	if len(grants) != 10 {
		t.Errorf("%d requests of a dollar are under way", len(grants))
	}
	// Half of them cost nothing, which others may use then.
	settleAll(grants[:5], 1)
	settleAll(grants[5:], 0)
	var accounts []*Account
	for _, l := range list {
		accounts = append(accounts, l.Account("key:k", limits, 0))
	}
	settled(t, 5*Dollar, accounts...)
	for deadline := time.Now().Add(patience); lentOf(accounts) != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v are still set aside", lentOf(accounts))
		}
		for _, a := range accounts {
			a.l.activate(a)
		}
	}
	grants = lend(t, list, limits)
	if len(grants) != 5 {
		t.Errorf("%d requests of a dollar are under way, of the 5 that are left", len(grants))
	}
	settleAll(grants, 1)
	settled(t, 10*Dollar, accounts...)
	var g Grant
	if r, ok := list[0].Admit(&g, accounts[0], nil, dollars(1)); ok || !r.Quota {
		t.Errorf("a budget that is spent: %v %+v", ok, r)
	}
	// Relays of versions before this one add up whatever the totals' hash has.
	day, _ := periodOf(time.Now().UnixNano(), false)
	totals, err := s.Do("HVALS", spendKey("test:", "key:k", day)).AsStrSlice()
	if err != nil || len(totals) == 0 {
		t.Fatal(totals, err)
	}
	for _, total := range totals {
		if _, err := strconv.ParseInt(total, 10, 64); err != nil {
			t.Error(err)
		}
	}
}

func lentOf(accounts []*Account) (sum Money) {
	for _, a := range accounts {
		a.day.mu.Lock()
		sum += a.day.lent
		a.day.mu.Unlock()
	}
	return sum
}

func TestRelaysThatWantTheLastOfABudgetAtTheSameTimeShareIt(t *testing.T) {
	s := redistest.Start(t)
	list := relays(t, s, 4, Options{Prices: million})
	limits := Limits{BudgetDay: 20 * Dollar}
	var wg sync.WaitGroup
	var passed atomic.Int64
	for i := range 40 {
		l := list[i%4]
		wg.Go(func() {
			var g Grant
			for range 5 {
				if _, ok := l.Admit(&g, l.Account("key:k", limits, 0), nil, dollars(1)); ok {
					passed.Add(1)
					return // it stays under way
				}
			}
		})
	}
	wg.Wait()
	// Each may hold a sixteenth of what is free that others have not heard of.
	if n := passed.Load(); n > 24 {
		t.Errorf("%d dollars are set aside of 20", n)
	}
}

func TestWhatADeadRelaySetAsideComesBack(t *testing.T) {
	s := redistest.Start(t)
	l := relays(t, s, 2, Options{Prices: million})[1]
	a := l.Account("key:k", Limits{BudgetDay: 10 * Dollar}, 0)
	day, _ := periodOf(time.Now().UnixNano(), false)
	said := func(ago time.Duration) {
		at := strconv.FormatInt(time.Now().Add(-ago).UnixMilli(), 10)
		if err := s.Do("HSET", spendKey("test:", "key:k", day)+":pending", "dead", intArg(int64(10*Dollar))+":"+at).Error(); err != nil {
			t.Fatal(err)
		}
	}
	var g Grant
	said(0)
	if r, ok := l.Admit(&g, a, nil, dollars(1)); ok || r.Quota || r.Kind != BudgetDay {
		t.Errorf("all is set aside: %v %+v", ok, r)
	}
	said(11 * time.Second)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		r, ok := l.Admit(&g, a, nil, dollars(1))
		if ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", r)
		}
	}
	g.Settle(&Outcome{})
}

func TestWhatIsSetAsideIsHeldWhileRedisDoesNotAnswer(t *testing.T) {
	s := redistest.Start(t)
	list := relays(t, s, 4, Options{Prices: million})
	limits := Limits{BudgetDay: 10 * Dollar}
	var grants []Grant
	for range 6 { // all by one relay
		var g Grant
		if r, ok := list[0].Admit(&g, list[0].Account("key:k", limits, 0), nil, dollars(1)); !ok {
			t.Fatalf("%+v", r)
		}
		grants = append(grants, g)
	}
	var accounts []*Account
	for _, l := range list {
		accounts = append(accounts, l.Account("key:k", limits, 0))
	}
	settled(t, 0, accounts...) // makes them ask
	for deadline := time.Now().Add(patience); lentOf(accounts) != 3*6*Dollar; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("others know of %v", lentOf(accounts))
		}
		for _, a := range accounts {
			a.l.activate(a)
		}
	}
	s.Kill()
	time.Sleep(2 * fresh)
	grants = append(grants, lend(t, list, limits)...)
	if len(grants) != 10 {
		t.Errorf("%d requests of a dollar are under way", len(grants))
	}
	settleAll(grants, 1)
}
