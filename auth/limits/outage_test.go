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
