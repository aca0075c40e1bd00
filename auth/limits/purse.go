package limits

import (
	"sync"
	"sync/atomic"
	"time"
)

// purse is the budget of one account for one kind of period.
type purse struct {
	l     *Limiter
	down  *atomic.Int64 // its account's
	scope string
	month bool

	mu      sync.Mutex
	budget  Money // 0: none
	period  int64 // 20261124 or 202611; 0: not used yet
	mine    Money // spent through this process
	others  Money // the most that is known to be spent through all others
	pending Money // what requests under way may cost
	unsaid  Money // what was set aside since pending was told last
	lent    Money // what others have set aside for their requests under way
	asked   int64 // when others was asked for last, and answered; 0: not in this period
	base    Money // mine at that time
	told    Money // pending at that time
	dirty   bool  // mine was not written down

	asking sync.Mutex // held over a call: what is told last is what Redis has
}

// fresh is how old others may be when a request is admitted by it: while an
// account is in use, each tick asks.
const fresh = 2 * tick

// periodOf names the period of a time, and says when it ends.
func periodOf(unix int64, month bool) (period int64, ends time.Time) {
	t := time.Unix(0, unix).UTC()
	y, m, d := t.Date()
	if month {
		return int64(y)*100 + int64(m), time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC)
	}
	return int64(y)*10000 + int64(m)*100 + int64(d), time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC)
}

func (p *purse) rollLocked(now int64) {
	if period, _ := periodOf(now, p.month); period != p.period {
		// What was spent in the last moments of the old period and not written
		// down yet stays unwritten: at most what a tick holds.
		p.period, p.mine, p.others, p.lent, p.asked, p.base, p.told, p.dirty = period, 0, 0, 0, 0, 0, 0, false
	}
}

// verdict of a purse.
type verdict uint8

const (
	fits     verdict = iota
	crowded          // it may not suffice once what is under way is paid for
	depleted         // nothing is left
)

// reserve sets est aside for a request. At the end of a budget requests pass
// one at a time, so that it is overdrawn by one request of a relay at most.
func (p *purse) reserve(est Money, now int64) verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.budget == 0 {
		p.pending += est
		return fits
	}
	p.rollLocked(now)
	alone := false // nobody knows what others spend meanwhile
	if p.staleLocked(now) {
		p.mu.Unlock()
		p.refresh()
		p.mu.Lock()
		alone = p.staleLocked(now)
	}
	v := p.judgeLocked(est, alone)
	if v == fits && !alone && !p.inHandLocked(est) {
		p.mu.Unlock()
		v = p.claim(est)
		p.mu.Lock()
		return v
	}
	if v == fits {
		p.setAsideLocked(est)
	}
	return v
}

func (p *purse) setAsideLocked(est Money) {
	p.pending += est
	p.unsaid += est
}

func (p *purse) judgeLocked(est Money, alone bool) verdict {
	spent, busy := p.mine+p.others, p.pending
	left := p.budget - spent
	switch {
	case left <= 0:
		return depleted
	case alone:
		// A share of what was left when it was known last, and what was set aside then.
		free := max(0, p.budget-p.base-p.others-p.lent-p.told)
		if left = p.base + p.told + Money(p.l.share(float64(free))) - p.mine; left <= 0 || p.l.refuse.Load() {
			return crowded
		}
	default:
		// What others do not use comes back: it is not spent.
		left, busy = left-p.lent, busy+p.lent
	}
	if busy > 0 && p.pending+est > left {
		return crowded
	}
	return fits
}

// inHandLocked reports whether est may be set aside before others hear of it:
// what all relays set aside like that is a part of what is free.
func (p *purse) inHandLocked(est Money) bool {
	relays := p.l.instances.Load()
	if est == 0 || !p.l.shared() || relays == 1 {
		return true
	}
	free := p.budget - p.mine - p.others - p.lent - p.pending
	return p.unsaid+est <= free/Money(4*relays)
}

// claim sets est aside where others hear of it before it is judged: of relays
// that want the last of a budget at the same time, one has it.
func (p *purse) claim(est Money) verdict {
	p.asking.Lock()
	defer p.asking.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.l.now()
	p.rollLocked(now)
	v := p.judgeLocked(est, false) // whoever asked before us may have got it
	if v != fits {
		return v
	}
	inHand := p.inHandLocked(est)
	p.setAsideLocked(est)
	if inHand {
		return fits
	}
	p.mu.Unlock()
	heard := p.sync(now)
	p.mu.Lock()
	p.pending -= est
	if v = p.judgeLocked(est, !heard); v == fits {
		p.pending += est
	}
	return v
}

func (p *purse) staleLocked(now int64) bool {
	return p.l.shared() && (p.asked == 0 || now-p.asked > int64(fresh))
}

// refresh asks what others spent, once for all requests that wait for it.
func (p *purse) refresh() {
	p.asking.Lock()
	defer p.asking.Unlock()
	now := p.l.now()
	p.mu.Lock()
	stale := p.staleLocked(now)
	p.mu.Unlock()
	if stale {
		p.sync(now)
	}
}

// settle replaces what was set aside by what was spent.
func (p *purse) settle(est, cost Money, now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending -= est
	if cost == 0 {
		return
	}
	p.rollLocked(now)
	p.mine += cost
	p.dirty = true
}

// sync tells what was spent and what is set aside here, and reads the same of
// others. It reports whether Redis answered. The caller has asking.
func (p *purse) sync(now int64) bool {
	p.mu.Lock()
	if p.period == 0 || p.budget == 0 && !p.dirty {
		p.mu.Unlock()
		return false
	}
	period, mine, pending, unsaid := p.period, p.mine, p.pending, p.unsaid
	p.mu.Unlock()
	c := p.l.client(now, p.down)
	if c == nil {
		return false
	}
	keep := int64(3 * 24 * 3600)
	if p.month {
		keep = 40 * 24 * 3600
	}
	key := spendKey(p.l.o.Prefix, p.scope, period)
	a, ok := p.l.call(c, p.down, &spendScript, []string{key, key + ":pending"}, 2, p.l.o.Instance, intArg(int64(mine)), intArg(keep), intArg(int64(pending)))
	if !ok {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.period == period {
		// What was spent stays so: a Redis that knows less of it has lost it.
		p.others, p.lent, p.asked, p.base, p.told = max(Money(a[0]), p.others), Money(a[1]), now, mine, pending
		p.unsaid -= unsaid
		p.dirty = p.mine != mine
	}
	return true
}

// busy reports whether there is something to be told, or to be told again.
func (p *purse) busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dirty || p.budget > 0 && (p.pending != 0 || p.told != 0)
}

// state returns the period, what was spent of it, and the budget.
func (p *purse) state(now int64) (period int64, spent, budget Money, ends time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	period, ends = periodOf(now, p.month)
	if period != p.period {
		return period, 0, p.budget, ends
	}
	return period, p.mine + p.others, p.budget, ends
}

func spendKey(prefix, scope string, period int64) string {
	return scopeKey(prefix, scope) + "spent:" + intArg(period)
}

// scopeKey begins the keys of an account, which lie in one slot of a cluster.
func scopeKey(prefix, scope string) string { return prefix + "{" + scope + "}:" }
