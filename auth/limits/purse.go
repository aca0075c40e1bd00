package limits

import (
	"sync"
	"time"
)

// purse is the budget of one account for one kind of period.
type purse struct {
	l     *Limiter
	scope string
	month bool

	mu      sync.Mutex
	budget  Money // 0: none
	period  int64 // 20261124 or 202611; 0: not used yet
	mine    Money // spent through this process
	others  Money // the most that is known to be spent through all others
	pending Money // what requests under way may cost
	asked   int64 // when others was asked for last, and answered; 0: not in this period
	base    Money // mine at that time
	dirty   bool  // mine was not written down

	asking sync.Mutex // held over the call of a request that waits for it
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
		p.period, p.mine, p.others, p.asked, p.base, p.dirty = period, 0, 0, 0, 0, false
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
// one at a time, so that it is overdrawn by one request of a relay at most, and
// by what relays spend at the same time within fresh.
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
	spent := p.mine + p.others
	left := p.budget - spent
	if alone && left > 0 {
		// A share of what was left when it was known last.
		left = p.base + Money(p.l.share(float64(p.budget-p.base-p.others))) - p.mine
	}
	switch {
	case spent >= p.budget:
		return depleted
	case alone && (p.l.refuse.Load() || left <= 0), p.pending > 0 && p.pending+est > left:
		return crowded
	}
	p.pending += est
	return fits
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

// sync writes down what was spent here and reads what was spent elsewhere.
func (p *purse) sync(now int64) {
	p.mu.Lock()
	if p.period == 0 || p.budget == 0 && !p.dirty {
		p.mu.Unlock()
		return
	}
	period, mine := p.period, p.mine
	p.mu.Unlock()
	c := p.l.client(now)
	if c == nil {
		return
	}
	keep := int64(3 * 24 * 3600)
	if p.month {
		keep = 40 * 24 * 3600
	}
	a, ok := p.l.call(c, &spendScript, spendKey(p.l.o.Prefix, p.scope, period), 1, p.l.o.Instance, intArg(int64(mine)), intArg(keep))
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.period == period {
		// What was spent stays so: a Redis that knows less of it has lost it.
		p.others, p.asked, p.base = max(Money(a[0]), p.others), now, mine
		p.dirty = p.mine != mine
	}
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
