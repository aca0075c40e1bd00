package limits

import (
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"streamrelay/auth/redistest"
)

// million is a price of a dollar a token.
var million = Prices{map[string]price{"m": {in: 1e15, out: 1e15}}}

// spend sends n requests of a dollar each, one after the other, and returns how
// many of them passed.
func spend(l *Limiter, a *Account, n int) (passed int) {
	for range n {
		var g Grant
		if _, ok := l.Admit(&g, a, nil, &Ask{MaxTokens: 1, Model: []byte("m")}); ok {
			passed++
			g.Settle(&Outcome{Sent: true, Known: true, Output: 1, Model: []byte("m")})
		}
	}
	return passed
}

// settled waits until the relays have told Redis all and know it.
func settled(t *testing.T, want Money, list ...*Account) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		all := true
		for _, a := range list {
			a.day.mu.Lock()
			a.day.rollLocked(a.l.now()) // an account that nobody used asks for nothing
			a.day.mu.Unlock()
			a.l.activate(a)
			_, spent, _, _ := a.day.state(a.l.now())
			all = all && spent == want
		}
		if all {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not all know of %v", want)
		}
	}
}

func TestAnIdleRelayAsksWhatOthersSpentBeforeItAdmits(t *testing.T) {
	s := redistest.Start(t)
	list := relays(t, s, 2, Options{Prices: million})
	limits := Limits{BudgetDay: 20 * Dollar}
	a, b := list[0].Account("key:k", limits, 0), list[1].Account("key:k", limits, 0)
	if spend(list[1], b, 1) != 1 {
		t.Fatal("refused")
	}
	settled(t, Dollar, a, b)
	if n := spend(list[0], a, 40); n != 19 {
		t.Fatalf("%d passed", n)
	}
	c := client(t, s)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // it is written down
		u, err := ReadUsage(t.Context(), c, "test:", []string{"key:k"}, []Limits{limits}, time.Now())
		if err == nil && u[0].Day == 20*Dollar {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(u, err)
		}
	}
	time.Sleep(2 * fresh)
	calls, _ := list[1].Calls()
	var wg sync.WaitGroup
	var passed atomic.Int64
	for range 40 {
		wg.Go(func() { passed.Add(int64(spend(list[1], b, 1))) })
	}
	wg.Wait()
	if passed.Load() != 0 {
		t.Errorf("%d passed of a budget that was spent elsewhere", passed.Load())
	}
	if now, _ := list[1].Calls(); now-calls > 8 { // and ticks, which ask for other things, too
		t.Errorf("%d calls for 40 requests at the same time", now-calls)
	}
}

func TestABudgetIsDividedWhileRedisDoesNotAnswer(t *testing.T) {
	s := redistest.Start(t)
	list := relays(t, s, 4, Options{Prices: million})
	limits := Limits{BudgetDay: 50 * Dollar}
	var accounts []*Account
	for _, l := range list {
		accounts = append(accounts, l.Account("key:k", limits, 0))
	}
	if n := spend(list[0], accounts[0], 10); n != 10 {
		t.Fatalf("%d passed", n)
	}
	settled(t, 10*Dollar, accounts...)
	s.Signal(syscall.SIGSTOP)
	time.Sleep(2 * fresh)
	for i, l := range list {
		// The first spends in its share what it spends now, not what it had.
		if n := spend(l, accounts[i], 40); n != 10 {
			t.Errorf("relay %d: %d passed of a share of 10", i, n)
		}
	}
	var g Grant
	if r, ok := list[0].Admit(&g, accounts[0], nil, &Ask{MaxTokens: 1, Model: []byte("m")}); ok || r.Quota || r.Retry != time.Second {
		t.Errorf("a share that is spent: %v %+v", ok, r)
	}
	s.Signal(syscall.SIGCONT)
	settled(t, 50*Dollar, accounts...)
	if r, ok := list[0].Admit(&g, accounts[0], nil, &Ask{MaxTokens: 1, Model: []byte("m")}); ok || !r.Quota {
		t.Errorf("a budget that is spent: %v %+v", ok, r)
	}
}

func TestLimitsAreKeptByARedisThatIsFull(t *testing.T) {
	s := redistest.Start(t)
	var told atomic.Int64
	list := relays(t, s, 2, Options{Prices: million, Shared: func(error) { told.Add(1) }})
	if err := s.Do("CONFIG", "SET", "maxmemory", "1").Error(); err != nil {
		t.Fatal(err)
	}
	money, rate := Limits{BudgetDay: 10 * Dollar}, Limits{Requests: 600, Burst: time.Second, Concurrent: 3}
	a, b := list[0].Account("key:k", money, 0), list[1].Account("key:k", money, 0)
	spend(list[0], a, 6)
	settled(t, 6*Dollar, a, b)
	if n := spend(list[1], b, 20); n != 4 {
		t.Errorf("%d passed of the 4 that were left", n)
	}
	for _, l := range list {
		var g Grant
		if r, ok := l.Admit(&g, l.Account("key:r", rate, 0), nil, &Ask{}); !ok {
			t.Errorf("%+v", r)
		}
		g.Settle(&Outcome{Sent: true})
		if _, failed := l.Calls(); failed != 0 {
			t.Errorf("%d calls failed", failed)
		}
	}
	if told.Load() != 0 {
		t.Errorf("told %d times of a failure", told.Load())
	}
}

func TestWhatOthersSpentStaysSpentWhenRedisLosesIt(t *testing.T) {
	s := redistest.Start(t)
	list := relays(t, s, 2, Options{Prices: million})
	limits := Limits{BudgetDay: 10 * Dollar}
	a, b := list[0].Account("key:k", limits, 0), list[1].Account("key:k", limits, 0)
	spend(list[0], a, 4)
	spend(list[1], b, 4)
	settled(t, 8*Dollar, a, b)
	if err := s.Do("FLUSHALL").Error(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * fresh)
	if n := spend(list[0], a, 10); n != 2 {
		t.Errorf("%d passed of the 2 that were left", n)
	}
	settled(t, 10*Dollar, a, b)
}

func TestSharedIsToldOnceWhenCallsFailAndOnceWhenTheySucceed(t *testing.T) {
	s := redistest.Start(t)
	var failed, again atomic.Int64
	l := relays(t, s, 1, Options{Prices: million, Shared: func(err error) {
		if err != nil {
			failed.Add(1)
		} else {
			again.Add(1)
		}
	}})[0]
	a := l.Account("key:k", Limits{BudgetDay: 1000 * Dollar}, 0)
	spend(l, a, 1)
	s.Signal(syscall.SIGSTOP)
	for deadline := time.Now().Add(patience); failed.Load() == 0 && time.Now().Before(deadline); {
		spend(l, a, 1)
	}
	for range 100 {
		spend(l, a, 1)
	}
	s.Signal(syscall.SIGCONT)
	for deadline := time.Now().Add(patience); again.Load() == 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		spend(l, a, 1)
	}
	if failed.Load() != 1 || again.Load() != 1 {
		t.Errorf("told %d times that calls fail, %d times that they succeed", failed.Load(), again.Load())
	}
}
