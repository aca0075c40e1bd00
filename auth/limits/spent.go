package limits

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Spent is what was used of one account's limits, as a state file keeps it.
type Spent struct {
	Scope      string `json:"scope"`
	Instance   string `json:"instance,omitempty"` // the relay that used it; "": those that have ended, and those known by Redis
	Day        int64  `json:"day"`                // 20261124
	DaySpent   Money  `json:"day_spent"`
	Month      int64  `json:"month"` // 202611
	MonthSpent Money  `json:"month_spent"`

	// When the buckets are full again, Unix ns, and the requests under way, with
	// when the relay said so: a relay that was killed says no more.
	RequestsFull int64 `json:"requests_full,omitempty"`
	TokensFull   int64 `json:"tokens_full,omitempty"`
	Concurrent   int64 `json:"concurrent,omitempty"`
	Said         int64 `json:"said,omitempty"`
}

// current takes out what is of periods that are over or of relays that are not
// heard of, and reports whether anything is left.
func (s *Spent) current(now, day, month int64) bool {
	if s.Day != day {
		s.Day, s.DaySpent = day, 0
	}
	if s.Month != month {
		s.Month, s.MonthSpent = month, 0
	}
	if now-s.Said > int64(3*ShareEvery) {
		s.Concurrent, s.Said = 0, 0
	}
	return s.DaySpent > 0 || s.MonthSpent > 0 || s.RequestsFull > now || s.TokensFull > now || s.Concurrent > 0
}

// add adds what another relay spent of the same account in the same periods.
func (s *Spent) add(o Spent) {
	s.DaySpent += o.DaySpent
	s.MonthSpent += o.MonthSpent
	s.RequestsFull = max(s.RequestsFull, o.RequestsFull)
	s.TokensFull = max(s.TokensFull, o.TokensFull)
}

// Used reports whether anything was used of limits since it was asked last.
func (l *Limiter) Used() bool { return l.used.Swap(false) }

// Unsaved takes back that Used was asked: what was used is not written down.
func (l *Limiter) Unsaved() { l.used.Store(true) }

// Share is how relays that share a state file, such as two of which one takes
// over, know what all of them spent: each has an entry of its own for an account
// and adds up those of the others. It takes over what the file has, and returns
// what it is to have; the caller keeps others from writing in between. read is
// false where there is no file or it cannot be read: then what others spent stays
// as it was known. last says that this relay has ended: its entries become part
// of the one of all that have.
//
// With Redis, which adds up by itself, there is one entry for an account: the
// most that is known to be spent.
func (l *Limiter) Share(file []Spent, read, last bool) []Spent {
	now := l.now()
	day, _ := periodOf(now, false)
	month, _ := periodOf(now, true)
	if !read {
		l.mu.Lock()
		file = l.entries
		l.mu.Unlock()
	}
	var list []Spent
	ended := map[string]int{} // where in list an account's entry without a relay is
	for _, s := range file {
		if s.Instance != l.o.Instance && s.current(now, day, month) {
			if s.Instance == "" {
				ended[s.Scope] = len(list)
			}
			list = append(list, s)
		}
	}
	if read && !l.shared() {
		l.take(list)
	}
	for _, a := range l.all() {
		scope, s := a.scope, a.spent(now)
		switch {
		case last:
			s.Concurrent, s.Said = 0, 0
		case !l.shared():
			s.Instance = l.o.Instance
		}
		if !s.current(now, day, month) {
			continue
		}
		i, there := ended[scope]
		switch {
		case s.Instance != "" || !there:
			list = append(list, s)
		case l.shared():
			list[i].DaySpent, list[i].MonthSpent = max(list[i].DaySpent, s.DaySpent), max(list[i].MonthSpent, s.MonthSpent)
		default:
			list[i].add(s)
		}
	}
	return list
}

// spent is what this relay spent, or with Redis what is known of all.
func (a *Account) spent(now int64) Spent {
	s := Spent{Scope: a.scope}
	for _, x := range []struct {
		p      *purse
		period *int64
		spent  *Money
	}{{&a.day, &s.Day, &s.DaySpent}, {&a.month, &s.Month, &s.MonthSpent}} {
		x.p.mu.Lock()
		*x.period, *x.spent = x.p.period, x.p.mine
		if a.l.shared() {
			*x.spent += x.p.others
		}
		x.p.mu.Unlock()
	}
	if !a.l.shared() {
		full := func(m *meter) int64 {
			if limit, _, reset := m.level(now); limit > 0 && reset > 0 {
				return now + int64(reset)
			}
			return 0
		}
		s.RequestsFull, s.TokensFull = full(&a.requests), full(&a.tokens)
		if s.Concurrent = a.slots.used.Load(); s.Concurrent > 0 {
			s.Said = now
		}
	}
	return s
}

// Restore takes over what a file, written at a time, has before the first
// request. With Redis, which knows better, it is used until Redis answers.
func (l *Limiter) Restore(file []Spent, written time.Time) {
	now := l.now()
	day, _ := periodOf(now, false)
	month, _ := periodOf(now, true)
	file = slices.Clone(file)
	if back := written.UnixNano() - now; back > 0 { // the clock went back since
		for i := range file {
			file[i].RequestsFull -= back
			file[i].TokensFull -= back
		}
	}
	file = slices.DeleteFunc(file, func(s Spent) bool { return !s.current(now, day, month) })
	l.mu.Lock()
	l.owed = make(map[string]Spent, len(file))
	for _, s := range file {
		if was, there := l.owed[s.Scope]; there {
			s.add(was)
		}
		l.owed[s.Scope] = s
	}
	l.mu.Unlock()
	l.take(file)
}

// all returns the accounts there are. Whoever looks into each of many does so
// without the lock that requests take.
func (l *Limiter) all() []*Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.accounts))
}

// take makes the sums of list, of current periods, what others spent.
func (l *Limiter) take(list []Spent) {
	others := make(map[string]Spent, len(list))
	now := l.now()
	day, _ := periodOf(now, false)
	month, _ := periodOf(now, true)
	for _, s := range list {
		s.current(now, day, month)
		sum := s
		if was, there := others[s.Scope]; there {
			sum.add(was)
		}
		others[s.Scope] = sum
	}
	entries := slices.Clone(list)
	l.mu.Lock()
	l.entries, l.others = entries, others // accounts that are made from here on begin with it
	l.mu.Unlock()
	for _, a := range l.all() {
		a.restore(others[a.scope])
	}
}

// restore makes s what others spent.
func (a *Account) restore(s Spent) {
	now := a.l.now()
	for _, x := range []struct {
		p      *purse
		period int64
		spent  Money
	}{{&a.day, s.Day, s.DaySpent}, {&a.month, s.Month, s.MonthSpent}} {
		x.p.mu.Lock()
		x.p.rollLocked(now)
		x.p.others = 0
		if x.p.period == x.period {
			x.p.others = x.spent
		}
		x.p.mu.Unlock()
	}
}

// UsageOf adds up what a state file says of an account.
func UsageOf(file []Spent, scope string, limits Limits, now time.Time) Usage {
	day, _ := periodOf(now.UnixNano(), false)
	month, _ := periodOf(now.UnixNano(), true)
	var u Usage
	level := func(full, perMinute int64) int64 {
		if perMinute == 0 || full <= now.UnixNano() {
			return 0
		}
		return int64(math.Ceil(float64(full-now.UnixNano()) / 1000 / emission(perMinute)))
	}
	for _, s := range file {
		if s.Scope != scope {
			continue
		}
		u.Requests += level(s.RequestsFull, limits.Requests)
		u.Tokens += level(s.TokensFull, limits.Tokens)
		if s.current(now.UnixNano(), day, month) {
			u.Day += s.DaySpent
			u.Month += s.MonthSpent
			u.Concurrent += s.Concurrent
		}
	}
	u.Requests = min(u.Requests, bucket(limits.Requests, limits.burst()))
	u.Tokens = min(u.Tokens, bucket(limits.Tokens, limits.burst()))
	return u
}
