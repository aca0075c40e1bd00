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
	others  Money // spent through all others, as of the last answer
	atLeast Money // others is no less, see Limiter.Moving
	pending Money // what requests under way may cost
	known   bool  // others was asked for
	dirty   bool  // mine was not written down
}

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
		p.period, p.mine, p.others, p.atLeast, p.known, p.dirty = period, 0, 0, 0, false, false
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
	if !p.known && p.l.shared() {
		p.mu.Unlock()
		p.sync(now)
		p.mu.Lock()
	}
	spent := p.mine + p.others
	switch {
	case p.l.shared() && p.l.refuse.Load() && p.l.client(now) == nil:
		return crowded // nobody knows what others spent
	case spent >= p.budget:
		return depleted
	case p.pending > 0 && spent+p.pending+est > p.budget:
		return crowded
	}
	p.pending += est
	return fits
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
		p.others, p.known = max(Money(a[0]), p.atLeast), true
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
