package limits

import (
	"sync/atomic"
	"testing"
	"time"

	"streamrelay/auth/redistest"
)

func TestWhatWasUsedThroughRedisIsUsedWithoutIt(t *testing.T) {
	s := redistest.Start(t)
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	list := relays(t, s, 4, Options{Now: now.Load})
	take := func() (passed int) {
		for range 60 {
			for _, l := range list {
				var g Grant
				if _, ok := l.Admit(&g, l.Account("key:k", Limits{Requests: 60}, 0), nil, &Ask{}); ok {
					passed++
					g.Settle(&Outcome{Sent: true})
				}
			}
		}
		return passed
	}
	if n := take(); n < 60 {
		t.Fatalf("%d passed of 60", n)
	}
	s.Kill()
	now.Add(int64(1200 * time.Millisecond)) // longer than the wait that Redis named
	if n := take(); n > 4 {                 // what was in hand
		t.Errorf("%d more passed without Redis", n)
	}
	now.Add(int64(time.Minute))
	if n := take(); n < 60 || n > 64 {
		t.Errorf("%d passed a minute later", n)
	}
}

func TestAKeyOfAnotherTypeInRedisIsItsAccountsProblemAlone(t *testing.T) {
	s := redistest.Start(t)
	if err := s.Do("RPUSH", "test:{key:bad}:requests", "x").Error(); err != nil {
		t.Fatal(err)
	}
	var now, failed, again atomic.Int64
	now.Store(time.Now().UnixNano())
	l := relays(t, s, 1, Options{Refuse: true, Now: now.Load, Shared: func(err error) {
		if err != nil {
			failed.Add(1)
		} else {
			again.Add(1)
		}
	}})[0]
	ask := func(scope string) bool {
		var g Grant
		_, ok := l.Admit(&g, l.Account(scope, Limits{Requests: 6000, Concurrent: 10, BudgetDay: Dollar}, 0), nil, &Ask{})
		g.Settle(&Outcome{Sent: true})
		return ok
	}
	for i := range 20 {
		if ask("key:bad") {
			t.Fatal("a limit that cannot be looked up was passed")
		}
		_, before := l.Calls()
		if ask("key:bad") {
			t.Fatal("passed at once thereafter")
		}
		if _, after := l.Calls(); after != before {
			t.Errorf("Redis was asked again for an account that it had just refused")
		}
		if !ask("key:good") {
			t.Fatalf("round %d: another account is refused", i)
		}
		now.Add(int64(pause / 4))
	}
	if failed.Load() != 1 || again.Load() != 0 {
		t.Errorf("told %d times that calls fail, %d times that they succeed", failed.Load(), again.Load())
	}
	if err := s.Do("DEL", "test:{key:bad}:requests").Error(); err != nil {
		t.Fatal(err)
	}
	now.Add(3 * int64(pause))
	if !ask("key:bad") || failed.Load() != 1 || again.Load() != 1 {
		t.Errorf("mended: told %d times that calls fail, %d times that they succeed", failed.Load(), again.Load())
	}
}
