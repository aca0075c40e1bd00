package limits

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// meter is a limit per minute of one account: a lease of units, taken by
// atomic operations, and how to get more.
type meter struct {
	l         *Limiter
	down      *atomic.Int64 // its account's
	key       string
	perMinute atomic.Int64 // 0: no limit
	bucket    atomic.Int64

	hand    atomic.Int64 // units of the lease; below 0: used and not yet paid for
	over    atomic.Int64 // units that go back to Redis, and are not used here before
	used    atomic.Int64 // when it was asked last
	asking  atomic.Bool  // a refill is under way
	blocked atomic.Int64 // until when asking for blockedFor units or more is in vain
	// blockedFor belongs to blocked; a smaller request may still pass.
	blockedFor atomic.Int64
	full       atomic.Int64 // when the bucket is full, as of the last answer

	mu    sync.Mutex // held over a call; protects clock
	clock float64    // the same for grants of our own, microseconds since the epoch
}

func (m *meter) set(perMinute int64, burst time.Duration) {
	if m.perMinute.Load() == perMinute && m.bucket.Load() == bucket(perMinute, burst) {
		return
	}
	m.bucket.Store(bucket(perMinute, burst))
	m.perMinute.Store(perMinute)
	m.blocked.Store(0)
}

// restore has the bucket full at a time, Unix nanoseconds, and not before.
func (m *meter) restore(full int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clock = float64(full-epochSeconds*1e9) / 1000
	m.full.Store(full)
}

// take takes n units, or says how long until there may be as many.
func (m *meter) take(n, now int64) (wait time.Duration, ok bool) {
	limit := m.perMinute.Load()
	if limit == 0 {
		return 0, true
	}
	n = min(n, m.bucket.Load()) // else it would never pass
	m.used.Store(now)
	if m.takeHand(n) {
		if m.hand.Load() < m.l.chunk(limit, m.bucket.Load())/2 {
			m.refill(now)
		}
		return 0, true
	}
	if wait := m.blockedNow(n, now); wait > 0 {
		return wait, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now = m.l.now()
	for {
		if m.takeHand(n) { // whoever held the lock may have filled it
			return 0, true
		}
		if wait := m.blockedNow(n, now); wait > 0 {
			return wait, false
		}
		hand := m.hand.Load()
		if hand < 0 {
			m.payLocked(-hand, now)
			hand = 0
		}
		need := n - hand
		if need <= 0 {
			continue
		}
		granted, wait := m.reserveLocked(need, need+m.l.chunk(limit, m.bucket.Load()), false, now)
		if granted > 0 {
			m.hand.Add(granted)
			continue
		}
		// Sooner there is nothing to get; a little later there may be more than
		// one unit, which is a call for each.
		wait = max(wait, 10*time.Millisecond)
		m.blockedFor.Store(n)
		m.blocked.Store(now + int64(wait))
		return wait, false
	}
}

// takeHand takes n units of the lease.
func (m *meter) takeHand(n int64) bool {
	for {
		h := m.hand.Load()
		if h < n {
			return false
		}
		if m.hand.CompareAndSwap(h, h-n) {
			return true
		}
	}
}

func (m *meter) blockedNow(n, now int64) time.Duration {
	if until := m.blocked.Load(); now < until && n >= m.blockedFor.Load() {
		return time.Duration(until - now)
	}
	return 0
}

// settle gives back n units that were taken and not used, or with a negative
// number takes what was used beyond that, whatever is left.
func (m *meter) settle(n, now int64) {
	if m.perMinute.Load() == 0 || n == 0 {
		return
	}
	if n > 0 {
		m.putBack(n, now)
		m.blocked.Store(0)
	} else if m.hand.Add(n) < 0 {
		m.refill(now)
	}
}

// putBack puts units back into the lease, as many as the bucket lacks: the
// others came back by themselves while their request ran. That is as of the last
// answer; Redis, which knows what others took since, gets the rest.
func (m *meter) putBack(n, now int64) {
	lacks := int64(math.Ceil(float64(max(0, m.full.Load()-now)) / 1000 / emission(m.perMinute.Load())))
	for {
		h := m.hand.Load()
		fit := min(n, max(0, lacks-h))
		if m.hand.CompareAndSwap(h, h+fit) {
			if m.l.shared() {
				m.over.Add(n - fit)
			}
			return
		}
	}
}

// refill gets the next units, or pays a debt, without anyone waiting for it.
func (m *meter) refill(now int64) {
	if now < m.blocked.Load() && m.hand.Load() >= 0 || !m.asking.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer m.asking.Store(false)
		if !m.mu.TryLock() {
			return // somebody is at it
		}
		defer m.mu.Unlock()
		limit, now := m.perMinute.Load(), m.l.now()
		if limit == 0 {
			return
		}
		if debt := -m.hand.Load(); debt > 0 {
			m.payLocked(debt, now)
			return
		}
		chunk := m.l.chunk(limit, m.bucket.Load())
		if m.hand.Load() >= chunk {
			return
		}
		granted, wait := m.reserveLocked(1, chunk, false, now)
		m.hand.Add(granted)
		if granted == 0 {
			m.blockedFor.Store(m.hand.Load() + 1)
			m.blocked.Store(now + int64(max(wait, 10*time.Millisecond)))
		}
	}()
}

// payLocked takes units that were used already; they come into the hand.
func (m *meter) payLocked(n, now int64) {
	granted, _ := m.reserveLocked(n, n, true, now)
	m.hand.Add(granted)
}

// reserveLocked asks for units: of Redis, or where that is away or not used, of
// the clock of our own.
func (m *meter) reserveLocked(least, most int64, force bool, now int64) (granted int64, wait time.Duration) {
	limit, bucket := m.perMinute.Load(), m.bucket.Load()
	if limit == 0 {
		return most, 0
	}
	if c := m.l.client(now, m.down); c != nil {
		if granted, wait, ok := m.reserveShared(c, least, most, force, limit, bucket); ok {
			return granted, wait
		}
	}
	if m.l.shared() && m.l.refuse.Load() {
		if force {
			return most, 0
		}
		return 0, pause
	}
	return m.reserveOwnLocked(least, most, force, m.l.share(float64(limit)), math.Max(1, m.l.share(float64(bucket))))
}

func (m *meter) reserveShared(c rueidis.Client, least, most int64, force bool, limit, bucket int64) (granted int64, wait time.Duration, ok bool) {
	always := "0"
	if force {
		always = "1"
	}
	a, ok := m.l.call(c, m.down, &takeScript, []string{m.key}, 4, floatArg(emission(limit)), intArg(bucket), intArg(least), intArg(most), always)
	if !ok {
		return 0, 0, false
	}
	m.full.Store(m.l.now() + a[3]*1000)
	return a[0], time.Duration(a[1]) * time.Microsecond, true
}

// reserveOwnLocked is takeScript by the process's own clock.
func (m *meter) reserveOwnLocked(least, most int64, force bool, perMinute, bucket float64) (granted int64, wait time.Duration) {
	unix := m.l.now()
	now, emit := float64(unix-epochSeconds*1e9)/1000, 60e6/perMinute
	if m.l.shared() { // as much of the share is used as was used of the whole
		m.clock = math.Max(m.clock, float64(m.full.Load()-epochSeconds*1e9)/1000)
	}
	m.clock = math.Max(m.clock, now)
	room := bucket - (m.clock-now)/emit
	n := float64(most)
	if !force {
		n = math.Min(n, math.Floor(room+1e-6))
		if n < float64(least) {
			// Of a share that is smaller than the request, all must do.
			if float64(least) <= bucket || room < bucket {
				need := math.Min(float64(least), bucket)
				m.full.Store(unix + int64((m.clock-now)*1000))
				return 0, time.Duration(math.Max(0, need-room) * emit * 1000)
			}
			n = float64(least)
		}
	}
	m.clock = math.Max(now, m.clock+n*emit)
	m.full.Store(unix + int64((m.clock-now)*1000))
	return int64(n), 0
}

// giveBack returns what an idle account holds, and what is more than a lease
// of it. It reports whether there is anything left to come back for.
func (m *meter) giveBack(now int64, last bool) bool {
	limit := m.perMinute.Load()
	if limit == 0 {
		return false
	}
	idle := last || now-m.used.Load() > int64(idleReturn)
	back := m.over.Swap(0)
	keep := int64(0)
	if !idle && back == 0 { // else what is kept might come on top of a full bucket
		keep = 2 * m.l.chunk(limit, m.bucket.Load())
	}
	h := m.hand.Load()
	switch {
	case h < 0:
		m.mu.Lock()
		if debt := -m.hand.Load(); debt > 0 {
			m.payLocked(debt, now)
		}
		m.mu.Unlock()
	case h > keep && m.takeHand(h-keep):
		back += h - keep
	}
	if back > 0 {
		m.mu.Lock()
		m.reserveLocked(-back, -back, true, now)
		m.mu.Unlock()
	}
	return m.hand.Load() != 0 || m.over.Load() != 0 || !idle
}

// level is how full the bucket is, the lease included, and when it will be
// full. Between two answers of Redis it is an estimate.
func (m *meter) level(now int64) (limit, remaining int64, reset time.Duration) {
	limit = m.perMinute.Load()
	if limit == 0 {
		return 0, 0, 0
	}
	until := max(0, m.full.Load()-now)
	size := m.bucket.Load()
	left := min(size, size-int64(math.Ceil(float64(until)/1000/emission(limit)))+m.hand.Load()) // below 0: a debt
	return limit, max(0, left), time.Duration(float64(size-left) * emission(limit) * 1000)
}
