package limits

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"streamrelay/auth/redistest"
)

func TestASharedDebtOutlivesTheEndOfASmallerRequest(t *testing.T) {
	s := redistest.Start(t)
	l := relays(t, s, 1, Options{})[0]
	a := l.Account("key:k", Limits{Tokens: 1000}, 0)
	var small, large Grant
	for g, tokens := range map[*Grant]int64{&small: 400, &large: 300} {
		if r, ok := l.Admit(g, a, nil, &Ask{MaxTokens: tokens}); !ok {
			t.Fatalf("%+v", r)
		}
	}
	large.Settle(&Outcome{Sent: true, Known: true, Output: 8000})
	debt := func() time.Duration {
		ms, err := s.Do("PTTL", "test:{key:k}:tokens").AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(ms) * time.Millisecond
	}
	for deadline := time.Now().Add(patience); debt() < 8*time.Minute; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a debt of %v", debt())
		}
	}
	small.Settle(&Outcome{Sent: true, Known: true, Output: 1})
	for deadline := time.Now().Add(patience); l.Account("key:k", Limits{}, -1).tokens.hand.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what was not used is not given back")
		}
	}
	if d := debt(); d < 7*time.Minute {
		t.Errorf("a debt of %v is left of more than 8 minutes", d)
	}
	var g Grant
	if r, ok := l.Admit(&g, a, nil, &Ask{MaxTokens: 1}); ok || r.Retry < 6*time.Minute || r.Reset < 7*time.Minute {
		t.Errorf("%v %+v", ok, r)
	}
}

func TestAClockOfRedisThatWentBackBlocksNobody(t *testing.T) {
	s := redistest.Start(t)
	l := relays(t, s, 1, Options{})[0]
	now := time.Now().Add(time.Hour).UnixMicro() - epochSeconds*1e6
	// Written an hour from now: a minute's requests were used then.
	if err := s.Do("SET", "test:{key:k}:requests", fmt.Sprintf("%d.000:%d", now+60e6, now)).Error(); err != nil {
		t.Fatal(err)
	}
	var g Grant
	if r, ok := l.Admit(&g, l.Account("key:k", Limits{Requests: 60}, 0), nil, &Ask{}); ok || r.Retry > 2*time.Second {
		t.Errorf("%v %+v", ok, r)
	}
	// As versions before this one wrote it.
	now -= time.Hour.Microseconds()
	if err := s.Do("SET", "test:{key:old}:requests", fmt.Sprintf("%d.000", now+600e6)).Error(); err != nil {
		t.Fatal(err)
	}
	if r, ok := l.Admit(&g, l.Account("key:old", Limits{Requests: 60}, 0), nil, &Ask{}); ok || r.Retry < 8*time.Minute {
		t.Errorf("%v %+v", ok, r)
	}
}

func TestWhatARelayDoesNotNeedComesBackToAllOfThem(t *testing.T) {
	s := redistest.Start(t)
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	list := relays(t, s, 2, Options{Now: now.Load})
	limits := Limits{Tokens: 1000}
	var g Grant
	if r, ok := list[0].Admit(&g, list[0].Account("key:k", limits, 0), nil, &Ask{MaxTokens: 1000}); !ok {
		t.Fatalf("%+v", r)
	}
	// For all that it knows, all came back by itself; Redis, whose clock is
	// another one, knows better.
	now.Add(int64(2 * time.Minute))
	g.Settle(&Outcome{Sent: true, Known: true, Output: 1})
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		now.Add(int64(time.Millisecond))
		r, ok := list[1].Admit(&g, list[1].Account("key:k", limits, 0), nil, &Ask{MaxTokens: 990})
		if ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", r)
		}
		list[1].Account("key:k", limits, 0).tokens.blocked.Store(0)
	}
	g.Settle(&Outcome{})
}
