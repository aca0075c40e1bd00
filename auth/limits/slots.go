package limits

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// deniedFor is how long nobody asks Redis again for slots that it did not have:
// else each of the many requests at a limit would, one by one.
const deniedFor = 2 * time.Millisecond

// slots is the limit on concurrency of one account: how many requests run
// here, and how many slots of the shared limit this relay has for them.
type slots struct {
	l     *Limiter
	down  *atomic.Int64 // its account's
	key   string
	limit atomic.Int64 // 0: none

	used atomic.Int64 // running here, or about to
	held atomic.Int64 // slots that are ours
	// denied is until when Redis is not asked for more: it had none a moment ago.
	denied atomic.Int64

	mu        sync.Mutex // held over a call
	refreshed int64      // when Redis was told last; protected by mu
}

// acquire takes a slot. Every acquire that succeeds has one release.
func (s *slots) acquire(now int64) bool {
	limit := s.limit.Load()
	used := s.used.Add(1) // counted without a limit, too: one may be set meanwhile
	if limit == 0 {
		return true
	}
	if used <= s.held.Load() && used <= limit {
		return true
	}
	if now < s.denied.Load() {
		s.used.Add(-1)
		return false
	}
	return s.more(limit)
}

// more gets a slot for a request that was counted, or counts it no more.
// Requests come here one by one, so that of several the last sees how many run.
func (s *slots) more(limit int64) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if !ok {
			s.used.Add(-1)
		}
	}()
	used := s.used.Load()
	if used <= s.held.Load() && used <= limit {
		return true // somebody gave one back
	}
	now := s.l.now()
	if now < s.denied.Load() {
		return false // so was who waited before us
	}
	for {
		want := used + s.slack(limit)
		held, ok := s.askLocked(want, limit, now)
		if !ok {
			break
		}
		used = s.used.Load()
		switch {
		case used <= held:
			return true
		case held < want || held >= limit: // there are no more
			s.denied.Store(s.l.now() + int64(deniedFor))
			return false
		}
		// More came during the call than it asked for.
		now = s.l.now()
	}
	switch {
	case !s.l.shared():
		s.held.Store(limit)
		return used <= limit
	case s.l.refuse.Load():
		return false
	}
	return used <= max(s.held.Load(), int64(math.Max(1, math.Floor(s.l.share(float64(limit))))))
}

// askLocked tells Redis how many slots are wanted, and keeps what it grants.
func (s *slots) askLocked(want, limit, now int64) (held int64, ok bool) {
	c := s.l.client(now, s.down)
	if c == nil {
		return 0, false
	}
	a, ok := s.l.call(c, s.down, &slotScript, []string{s.key}, 2, s.l.o.Instance, intArg(s.held.Load()), intArg(want), intArg(limit))
	if !ok {
		return 0, false
	}
	s.held.Store(a[0])
	s.refreshed = now
	return a[0], true
}

// slack is how many slots are kept without a request: none of a small limit,
// which others could need.
func (s *slots) slack(limit int64) int64 { return limit / (32 * s.l.instances.Load()) }

// release gives a slot back. The account is looked at soon, or at once where
// the limit is so small that others wait for it.
func (s *slots) release(now int64) (returnNow bool) {
	used := s.used.Add(-1)
	limit := s.limit.Load()
	return limit != 0 && s.l.shared() && s.held.Load()-used > s.slack(limit)
}

// upkeep gives slots back that nobody uses, and keeps the others ours.
func (s *slots) upkeep(now int64, last bool) (busy bool) {
	limit := s.limit.Load()
	if !s.l.shared() || limit == 0 && s.held.Load() == 0 {
		return s.used.Load() > 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.held.Load()
	keep := s.used.Load()
	if !last && keep > 0 {
		keep += s.slack(limit)
	}
	switch {
	case held > keep:
		// First here, then there; a request that came in between is looked for
		// before anybody else can get its slot.
		s.held.Store(keep)
		if s.used.Load() > keep {
			s.held.Store(held)
			return true
		}
		if _, ok := s.askLocked(keep, max(limit, keep), now); !ok {
			s.held.Store(keep) // Redis gives the others to everybody when it has not heard of us
		}
	case held > 0 && now-s.refreshed > int64(slotRefresh):
		s.askLocked(held, max(limit, held), now)
	}
	return s.held.Load() > 0 || s.used.Load() > 0
}
