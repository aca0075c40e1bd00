package limits

import (
	"math"
	"sync/atomic"
)

// Account is what one key or tenant used of its limits. Requests share it by
// atomic operations; a budget alone takes a lock, for some nanoseconds.
type Account struct {
	l     *Limiter
	scope string
	set   atomic.Pointer[Limits]
	order int64 // of the limits; protected by the Limiter's mu

	downUntil atomic.Int64 // until then Redis is not asked for this account

	requests, tokens meter
	slots            slots
	day, month       purse

	active    atomic.Bool // the next tick looks at it
	returning atomic.Bool // slots are being given back

	// What requests of this account turn out to need, as moving averages; 0:
	// not known yet. Lost updates do no harm.
	perByte atomic.Uint64 // tokens per byte of a body, float64 bits
	answer  atomic.Int64  // tokens of an answer
}

func newAccount(l *Limiter, scope string) *Account {
	key := scopeKey(l.o.Prefix, scope)
	a := &Account{l: l, scope: scope}
	a.requests.l, a.requests.down, a.requests.key = l, &a.downUntil, key+"requests"
	a.tokens.l, a.tokens.down, a.tokens.key = l, &a.downUntil, key+"tokens"
	a.slots.l, a.slots.down, a.slots.key = l, &a.downUntil, key+"slots"
	a.day.l, a.day.down, a.day.scope = l, &a.downUntil, scope
	a.month.l, a.month.down, a.month.scope, a.month.month = l, &a.downUntil, scope, true
	return a
}

func (a *Account) setLimits(limits Limits) {
	if now := a.set.Load(); now != nil && *now == limits {
		return
	}
	a.set.Store(&limits)
	a.requests.set(limits.Requests, limits.burst())
	a.tokens.set(limits.Tokens, limits.burst())
	a.slots.limit.Store(limits.Concurrent)
	for p, budget := range map[*purse]Money{&a.day: limits.BudgetDay, &a.month: limits.BudgetMonth} {
		p.mu.Lock()
		p.budget = budget
		p.mu.Unlock()
	}
}

// Before anything is known of an account, a token is four bytes of a body and
// an answer has 256: near the mean of chats in English.
const (
	firstPerByte = 0.25
	firstAnswer  = 256
)

// estimate is how many tokens a request may use.
func (a *Account) estimate(ask *Ask) (in, out int64) {
	ratio := math.Float64frombits(a.perByte.Load())
	if ratio == 0 {
		ratio = firstPerByte
	}
	in = int64(math.Ceil(float64(ask.BodyBytes) * ratio))
	switch out = ask.MaxTokens; {
	case out < 0:
		if out = a.answer.Load(); out == 0 {
			out = firstAnswer
		}
	case out > MaxRate:
		out = MaxRate
	}
	return in, out
}

// learn moves the averages by a sixteenth towards what a request used.
func (a *Account) learn(bytes, in, out int64) {
	if bytes > 0 && in > 0 {
		seen := min(float64(in)/float64(bytes), 1)
		if was := math.Float64frombits(a.perByte.Load()); was != 0 {
			seen = was + (seen-was)/16
		}
		a.perByte.Store(math.Float64bits(seen))
	}
	if out > 0 {
		if was := a.answer.Load(); was != 0 {
			out = max(1, was+(out-was)/16)
		}
		a.answer.Store(out)
	}
}

// releaseSlot gives the slot of a request back.
func (a *Account) releaseSlot(now int64) {
	if a.slots.release(now) && a.returning.CompareAndSwap(false, true) {
		go func() {
			a.returning.Store(false) // before: what comes later starts another
			a.slots.upkeep(a.l.now(), false)
		}()
	}
}

// upkeep is what a tick does; it reports whether the next one has to come, too.
func (a *Account) upkeep(now int64, last bool) bool {
	busy := a.requests.giveBack(now, last)
	busy = a.tokens.giveBack(now, last) || busy
	busy = a.slots.upkeep(now, last) || busy
	if a.l.shared() {
		for _, p := range []*purse{&a.day, &a.month} {
			p.asking.Lock()
			p.sync(now)
			p.asking.Unlock()
			busy = p.busy() || busy
		}
	}
	return busy
}
