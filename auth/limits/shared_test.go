package limits

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"streamrelay/auth/redistest"
)

// patience is how long a test waits for what takes a second at most.
const patience = 30 * time.Second

// long is how long the proofs of shared limits run.
func long(t testing.TB, otherwise time.Duration) time.Duration {
	t.Helper()
	if d, err := time.ParseDuration(os.Getenv("RELAY_TEST_LONG")); err == nil {
		return d
	}
	return otherwise
}

// storm asks each limiter for its part of rate per second, in an open loop.
func storm(list []*Limiter, limits Limits, ask Ask, rate float64, d time.Duration) (passed, asked int64, took time.Duration) {
	var in, all atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for _, l := range list {
		wg.Go(func() {
			a := l.Account("key:k", limits, 0)
			each := rate / float64(len(list))
			for n := 0.0; time.Since(began) < d; {
				for due := each * time.Since(began).Seconds(); n < due; n++ {
					var g Grant
					all.Add(1)
					if _, ok := l.Admit(&g, a, nil, &ask); ok {
						in.Add(1)
						g.Settle(&Outcome{Sent: true, Known: true, Input: g.taken[0].in, Output: g.taken[0].out})
					}
				}
				time.Sleep(500 * time.Microsecond)
			}
		})
	}
	wg.Wait()
	return in.Load(), all.Load(), time.Since(began)
}

func TestFourRelaysShareOneLimitWithoutOvershoot(t *testing.T) {
	s := redistest.Start(t)
	for _, rate := range []int64{100, 2000, 20_000} {
		t.Run(strconv.FormatInt(rate, 10)+" a second", func(t *testing.T) {
			client(t, s).Do(t.Context(), client(t, s).B().Flushall().Build())
			list := relays(t, s, 4, Options{})
			limits := Limits{Requests: rate * 60, Burst: time.Second}
			passed, asked, took := storm(list, limits, Ask{MaxTokens: -1}, float64(2*rate), long(t, 2*time.Second))
			allowed := float64(rate) * (took.Seconds() + 1) // what a second may burst comes on top
			var calls int64
			for _, l := range list {
				n, failed := l.Calls()
				calls += n
				if failed != 0 {
					t.Errorf("%d calls failed", failed)
				}
			}
			t.Logf("passed %.2f %% of what is allowed, asked for %.2f times that; %.3f calls of Redis per passed request, %.3f per request", 100*float64(passed)/allowed,
				float64(asked)/allowed, float64(calls)/float64(passed), float64(calls)/float64(asked))
			if float64(passed) > allowed+1 {
				t.Errorf("%d passed, %.1f are allowed", passed, allowed)
			}
			if float64(asked) > 1.5*allowed && float64(passed) < 0.97*allowed {
				t.Errorf("%d passed of %.1f: less than 97 %%", passed, allowed)
			}
		})
	}
}

func TestFourRelaysShareOneLimitOnTokens(t *testing.T) {
	s := redistest.Start(t)
	list := relays(t, s, 4, Options{})
	// 20,000 tokens a second, requests of 100: double.
	limits := Limits{Tokens: 20_000 * 60, Burst: time.Second}
	passed, asked, took := storm(list, limits, Ask{BodyBytes: 200, MaxTokens: 50}, 400, long(t, 2*time.Second))
	allowed := 20_000 * (took.Seconds() + 1)
	t.Logf("passed %.2f %%, asked for %.2f times what is allowed", 100*float64(passed*100)/allowed, float64(asked*100)/allowed)
	used := float64(passed * 100)
	if used > allowed+100 {
		t.Errorf("%.0f tokens passed, %.0f are allowed", used, allowed)
	}
	if float64(asked*100) > 1.5*allowed && used < 0.97*allowed { // else the machine let nobody ask
		t.Errorf("%.0f tokens passed of %.0f: less than 97 %%", used, allowed)
	}
}

// counter watches how many requests run at the same time, over all relays.
type counter struct{ running, most atomic.Int64 }

func (c *counter) enter() {
	n := c.running.Add(1)
	for m := c.most.Load(); n > m && !c.most.CompareAndSwap(m, n); m = c.most.Load() {
	}
}

func TestConcurrencyIsExactOverRelays(t *testing.T) {
	s := redistest.Start(t)
	for _, limit := range []int64{1, 2, 10, 100} {
		t.Run(strconv.FormatInt(limit, 10), func(t *testing.T) {
			list := relays(t, s, 4, Options{})
			limits := Limits{Concurrent: limit}
			scope := "key:" + strconv.FormatInt(limit, 10)
			var c counter
			var wg sync.WaitGroup
			var passed atomic.Int64
			stop := time.Now().Add(long(t, time.Second))
			for i := range 4 * (limit + 4) {
				l := list[i%4]
				wg.Go(func() {
					a := l.Account(scope, limits, 0)
					for time.Now().Before(stop) {
						var g Grant
						if _, ok := l.Admit(&g, a, nil, &Ask{MaxTokens: -1}); !ok {
							time.Sleep(time.Duration(rand.IntN(int(time.Millisecond))))
							continue
						}
						c.enter()
						passed.Add(1)
						time.Sleep(time.Duration(rand.IntN(int(2 * time.Millisecond))))
						c.running.Add(-1)
						g.Settle(&Outcome{Sent: rand.IntN(2) == 0})
					}
				})
			}
			wg.Wait()
			// How near a large limit is come to depends on the machine.
			most, least := c.most.Load(), min(limit, 2)
			t.Logf("at most %d at the same time, of %d", most, limit)
			if most > limit || most < least {
				t.Errorf("at most %d at the same time, want %d to %d (%d passed)", most, least, limit, passed.Load())
			}
			// Afterwards all are free, for one relay as well.
			last := list[0].Account(scope, limits, 0)
			grants := make([]Grant, limit)
			for i := range grants {
				deadline := time.Now().Add(patience)
				for {
					if _, ok := list[0].Admit(&grants[i], last, nil, &Ask{}); ok {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("only %d of %d slots are free again", i, limit)
					}
					time.Sleep(time.Millisecond)
				}
			}
			for i := range grants {
				grants[i].Settle(&Outcome{})
			}
			for _, l := range list {
				if used := l.Account(scope, limits, 0).slots.used.Load(); used != 0 {
					t.Errorf("an idle relay shows %d", used)
				}
			}
		})
	}
}

func TestSlotsOfADeadRelayComeBack(t *testing.T) {
	s := redistest.Start(t)
	list := relays(t, s, 2, Options{})
	limits := Limits{Concurrent: 2}
	// The first took both and was killed 11 s ago.
	c := client(t, s)
	c.Do(t.Context(), c.B().Hset().Key("test:{key:k}:slots").FieldValue().FieldValue("dead", "2:"+strconv.FormatInt(time.Now().Add(-11*time.Second).UnixMilli(), 10)).Build())
	var g Grant
	if r, ok := list[1].Admit(&g, list[1].Account("key:k", limits, 0), nil, &Ask{}); !ok {
		t.Errorf("%+v", r)
	}
	g.Settle(&Outcome{})
}

func TestWithoutRedisEachRelayGrantsItsShareOrRefuses(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		s := redistest.Start(t)
		list := relays(t, s, 4, Options{Refuse: refuse})
		s.Signal(syscall.SIGKILL)
		limits := Limits{Requests: 60, Concurrent: 8}
		var passed int
		for _, l := range list {
			a := l.Account("key:k", limits, 0)
			for range 60 {
				var g Grant
				if _, ok := l.Admit(&g, a, nil, &Ask{}); ok {
					passed++
					g.Settle(&Outcome{Sent: true})
				}
			}
		}
		var g Grant
		r, ok := list[0].Admit(&g, list[0].Account("key:money", Limits{BudgetDay: Dollar}, 0), nil, &Ask{})
		if ok == refuse || r.Quota {
			t.Errorf("refuse %v: a budget that cannot be looked up: %v %+v", refuse, ok, r)
		}
		g.Settle(&Outcome{})
		if want := map[bool]int{false: 60, true: 0}[refuse]; passed < want || passed > want+4 {
			t.Errorf("refuse %v: %d passed, want about %d", refuse, passed, want)
		}
	}
}

func TestNobodyWaitsForAFrozenRedisTwice(t *testing.T) {
	s := redistest.Start(t)
	l := relays(t, s, 1, Options{})[0]
	a := l.Account("key:k", Limits{Requests: 6000, Concurrent: 100}, 0)
	s.Signal(syscall.SIGSTOP)
	defer s.Signal(syscall.SIGCONT)
	for range 1000 {
		var g Grant
		if _, ok := l.Admit(&g, a, nil, &Ask{}); ok {
			g.Settle(&Outcome{Sent: true})
		}
	}
	if calls, _ := l.Calls(); calls > 8 {
		t.Errorf("%d calls to a Redis that does not answer", calls)
	}
}

func TestMoneyIsSharedAndCountedOnce(t *testing.T) {
	s := redistest.Start(t)
	prices := Prices{map[string]price{"m": {in: 1e15, out: 2e15}}} // a million dollars per million: 1 a token
	list := relays(t, s, 3, Options{Prices: prices})
	limits := Limits{BudgetDay: 300 * Dollar}
	var spent Money
	deadline := time.Now().Add(patience)
	for i := 0; ; i++ {
		l := list[i%3]
		var g Grant
		refusal, ok := l.Admit(&g, l.Account("key:k", limits, 0), nil, &Ask{MaxTokens: 10, Model: []byte("m")})
		if !ok && !refusal.Quota && time.Now().Before(deadline) {
			time.Sleep(tick) // what was set aside comes back, or turns out to be spent
			continue
		}
		if !ok {
			if !refusal.Quota || refusal.Kind != BudgetDay || refusal.Code() != "insufficient_quota" {
				t.Fatalf("%+v", refusal)
			}
			break
		}
		o := Outcome{Sent: true, Known: true, Input: 4, Output: 3, Model: []byte("m")}
		g.Settle(&o)
		cost, _ := prices.Cost([]byte("m"), &o)
		spent += cost
		if spent > 400*Dollar {
			t.Fatal("the budget is never used up")
		}
		if i%5 == 0 {
			time.Sleep(150 * time.Millisecond) // a tick
		}
	}
	// The last request may come on top.
	if spent < 300*Dollar || spent > 310*Dollar {
		t.Errorf("spent %v of 300", spent)
	}
	deadline = time.Now().Add(patience)
	for {
		u, err := ReadUsage(t.Context(), client(t, s), "test:", []string{"key:k"}, []Limits{limits}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if u[0].Day == spent && u[0].Month == spent {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Redis says %+v, spent were %v", u[0], spent)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestRequestsThatComeDuringACallAreNotRefused(t *testing.T) {
	s := redistest.Start(t)
	l := relays(t, s, 1, Options{})[0]
	a := l.Account("key:k", Limits{Concurrent: 1000}, 0)
	if _, _, ok := admitted(&own{Limiter: l}, a, Ask{}); !ok { // the script is known to Redis, and the slack of it is ours
		t.Fatal("the first is refused")
	}
	s.Signal(syscall.SIGSTOP)
	const more = 500 // far above the slack, and below the limit
	var wg sync.WaitGroup
	var refused atomic.Int64
	for range more {
		wg.Go(func() {
			var g Grant
			if _, ok := l.Admit(&g, a, nil, &Ask{}); !ok {
				refused.Add(1)
			}
		})
	}
	for a.slots.used.Load() < more {
		time.Sleep(time.Millisecond)
	}
	s.Signal(syscall.SIGCONT)
	wg.Wait()
	if n := refused.Load(); n > 0 {
		t.Errorf("%d of %d refused, of 1000 at the same time", n, more)
	}
}
