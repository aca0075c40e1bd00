package limits

import (
	"strconv"
	"time"
)

// Kind is a kind of limit.
type Kind uint8

// The kinds. The words are the labels of metrics.
const (
	None Kind = iota
	Requests
	Tokens
	Concurrency
	BudgetDay
	BudgetMonth
)

var kinds = [...]string{"none", "rpm", "tpm", "concurrency", "budget_day", "budget_month"}

// String gives rpm, tpm, concurrency, budget_day or budget_month.
func (k Kind) String() string { return kinds[k] }

// Ask is what a request may cost, as far as its head and body tell.
type Ask struct {
	BodyBytes int64  // of the request's body; 0: not known
	MaxTokens int64  // of the answer, as the client limits it; -1: it does not
	Model     []byte // as the upstream names it, for the price; not kept
}

// Outcome is what became of a request, for Settle.
type Outcome struct {
	// Sent says that a provider had the request. What never reached one costs
	// nothing.
	Sent bool
	// Known says that the provider counted. Else the estimate of the prompt is
	// charged, and a token for each event of content that was relayed.
	Known                             bool
	Partial                           bool  // the answer broke off: no measure of others
	Input, Output, Cached, CacheWrite int64 // tokens, -1: not named
	// InputExcludesCached: Cached and CacheWrite come on top of Input, as
	// Anthropic counts.
	InputExcludesCached bool
	Events              int64  // of content
	Model               []byte // of the price; not kept
}

// Refusal says which limit a request met. It is a value; the zero Refusal is
// none.
type Refusal struct {
	Kind      Kind
	Tenant    bool          // the tenant's limit; else the key's
	Limit     int64         // requests or tokens per minute, slots, or billionths of a dollar
	Remaining int64         // as Limit counts
	Retry     time.Duration // until the same request may pass, at least 1 ms; for a budget until its period ends
	Reset     time.Duration // until nothing of the limit is used
	Quota     bool          // the money is spent: trying again is in vain (insufficient_quota)
}

// Code is OpenAI's error.code.
func (r *Refusal) Code() string {
	if r.Quota {
		return "insufficient_quota"
	}
	return "rate_limit_exceeded"
}

// Type is OpenAI's error.type: which kind of limit, as its own API says it.
func (r *Refusal) Type() string {
	switch {
	case r.Quota:
		return "insufficient_quota"
	case r.Kind == Tokens:
		return "tokens"
	}
	return "requests"
}

// Message is for the client. It allocates.
func (r *Refusal) Message() string {
	whose := "this key"
	if r.Tenant {
		whose = "this tenant"
	}
	after := " Try again in " + string(AppendReset(nil, r.Retry)) + "."
	switch r.Kind {
	case Requests:
		return "Rate limit reached for " + whose + " on requests per minute: limit " + strconv.FormatInt(r.Limit, 10) + "." + after
	case Tokens:
		return "Rate limit reached for " + whose + " on tokens per minute: limit " + strconv.FormatInt(r.Limit, 10) + "." + after
	case Concurrency:
		return "Rate limit reached for " + whose + " on requests at the same time: limit " + strconv.FormatInt(r.Limit, 10) + "." + after
	}
	period := "day"
	if r.Kind == BudgetMonth {
		period = "month"
	}
	if r.Quota {
		return "The budget of " + whose + " for this " + period + " is used up: " + Money(r.Limit).String() + " USD. It begins anew in " + string(AppendReset(nil, r.Retry)) + "."
	}
	return "What is left of the budget of " + whose + " for this " + period + " is set aside for requests under way and other relays." + after
}

// Grant is an admitted request, from Admit to Settle. It is a value to be kept
// in what stands for the request; one goroutine at a time owns it. The zero
// Grant is settled.
type Grant struct {
	accounts [2]*Account // the key's, the tenant's; nil: nothing is limited
	taken    [2]taken
	ask      Ask // without the model
	open     bool
}

// taken is what was reserved of one account.
type taken struct {
	in, out int64 // tokens
	tokens  int64 // what the meter was asked for
	money   Money
	step    uint8 // how far Admit came
}

const (
	stepSlot uint8 = 1 + iota
	stepDay
	stepMonth
	stepRequests
	stepTokens
)

// Admit decides on a request before it is forwarded, and reserves what it may
// use in g, which must be settled. Key and tenant may be nil: no limits. It is
// called once per request; while units are in hand it waits for nothing and
// allocates nothing, else for Redis, for 200 ms at most.
func (l *Limiter) Admit(g *Grant, key, tenant *Account, ask *Ask) (refusal Refusal, ok bool) {
	*g = Grant{accounts: [2]*Account{key, tenant}, ask: Ask{BodyBytes: ask.BodyBytes, MaxTokens: ask.MaxTokens}, open: true}
	if key == nil && tenant == nil {
		return Refusal{}, true
	}
	now := l.now()
	for i, a := range g.accounts {
		if a == nil {
			continue
		}
		if r := g.admit(a, &g.taken[i], ask, now); r.Kind != None {
			r.Tenant = i == 1
			r.Retry = max(r.Retry, time.Millisecond)
			g.undo(now)
			return r, false
		}
	}
	return Refusal{}, true
}

// admit takes what the request needs of one account, in an order in which the
// dearest to give back comes last.
func (g *Grant) admit(a *Account, t *taken, ask *Ask, now int64) (r Refusal) {
	a.l.activate(a)
	if !a.slots.acquire(now) {
		limit := a.slots.limit.Load()
		return Refusal{Kind: Concurrency, Limit: limit, Retry: time.Second, Reset: time.Second}
	}
	t.step = stepSlot
	t.in, t.out = a.estimate(ask)
	if limits := a.set.Load(); limits.BudgetDay > 0 || limits.BudgetMonth > 0 {
		prices := a.l.prices.Load()
		if t.money, _ = prices.estimate(ask.Model, t.in, t.out); t.in+t.out > 0 && len(ask.Model) > 0 && t.money == 0 && !prices.has(ask.Model) {
			a.l.unpriced.Add(1)
		}
		if r := a.day.admit(t.money, now, BudgetDay); r.Kind != None {
			return r
		}
		t.step = stepDay
		if r := a.month.admit(t.money, now, BudgetMonth); r.Kind != None {
			return r
		}
		t.step = stepMonth
	} else {
		t.step = stepMonth
	}
	if wait, ok := a.requests.take(1, now); !ok {
		limit, left, reset := a.requests.level(now)
		return Refusal{Kind: Requests, Limit: limit, Remaining: left, Retry: wait, Reset: reset}
	}
	t.step = stepRequests
	if a.tokens.perMinute.Load() > 0 {
		t.tokens = min(max(t.in+t.out, 1), a.tokens.bucket.Load())
		if wait, ok := a.tokens.take(t.tokens, now); !ok {
			limit, left, reset := a.tokens.level(now)
			t.tokens = 0
			return Refusal{Kind: Tokens, Limit: limit, Remaining: left, Retry: wait, Reset: reset}
		}
	}
	t.step = stepTokens
	return Refusal{}
}

// admit is reserve with the refusal.
func (p *purse) admit(est Money, now int64, kind Kind) Refusal {
	v := p.reserve(est, now)
	if v == fits {
		return Refusal{}
	}
	_, spent, budget, ends := p.state(now)
	reset := time.Duration(ends.UnixNano() - now)
	r := Refusal{Kind: kind, Limit: int64(budget), Remaining: int64(max(0, budget-spent)), Retry: reset, Reset: reset, Quota: v == depleted}
	if v == crowded {
		r.Retry = time.Second
	}
	return r
}

// undo gives back all that was taken for a request that was not forwarded.
func (g *Grant) undo(now int64) {
	g.open = false
	for i, a := range g.accounts {
		t := &g.taken[i]
		if a == nil || t.step == 0 {
			continue
		}
		if t.step >= stepTokens {
			a.tokens.settle(t.tokens, now)
		}
		if t.step >= stepRequests {
			a.requests.settle(1, now)
		}
		if t.step >= stepMonth {
			a.month.settle(t.money, 0, now)
		}
		if t.step >= stepDay {
			a.day.settle(t.money, 0, now)
		}
		a.releaseSlot(now)
		*t = taken{}
	}
}

// Estimate is what the prompt was taken for, in tokens, until Settle.
func (g *Grant) Estimate() int64 { return max(g.taken[0].in, g.taken[1].in) }

// Settle ends a request that was admitted: slots go back, tokens and money are
// corrected by what it used. It is called in every way of ending; a second call
// does nothing. It waits for nothing.
func (g *Grant) Settle(o *Outcome) {
	if !g.open {
		return
	}
	l := g.limiter()
	if l == nil {
		g.open = false
		return
	}
	now := l.now()
	if !o.Sent {
		g.undo(now)
		return
	}
	g.open = false
	for i, a := range g.accounts {
		if a == nil {
			continue
		}
		t := &g.taken[i]
		used := *o
		if !o.Known {
			used = Outcome{Input: t.in, Output: max(o.Events, 0), Cached: -1, CacheWrite: -1}
		}
		total := used.total()
		if o.Known && !o.Partial {
			a.learn(g.ask.BodyBytes, total-max(used.Output, 0), max(used.Output, 0))
		}
		if a.tokens.perMinute.Load() > 0 {
			a.tokens.settle(t.tokens-total, now)
		}
		cost, priced := l.prices.Load().Cost(o.Model, &used)
		if limits := a.set.Load(); !priced && o.Known && len(o.Model) > 0 && (limits.BudgetDay > 0 || limits.BudgetMonth > 0) {
			l.tellUnpriced(o.Model)
		}
		a.month.settle(t.money, cost, now)
		a.day.settle(t.money, cost, now)
		a.releaseSlot(now)
		a.l.activate(a)
		*t = taken{}
	}
}

func (g *Grant) limiter() *Limiter {
	for _, a := range g.accounts {
		if a != nil {
			return a.l
		}
	}
	return nil
}

// total is all tokens of a request.
func (o *Outcome) total() int64 {
	n := max(o.Input, 0) + max(o.Output, 0)
	if o.InputExcludesCached {
		n += max(o.Cached, 0) + max(o.CacheWrite, 0)
	}
	return n
}

// Headroom is what is left of the limits per minute, for x-ratelimit-*. A limit
// of 0 is none.
type Headroom struct {
	LimitRequests, RemainingRequests int64
	ResetRequests                    time.Duration
	LimitTokens, RemainingTokens     int64
	ResetTokens                      time.Duration
}

// Headroom returns the tighter of key and tenant. It may be asked for until
// Settle; between two answers of Redis it is an estimate. It allocates nothing.
func (g *Grant) Headroom() (h Headroom) {
	l := g.limiter()
	if l == nil {
		return h
	}
	now := l.now()
	for _, a := range g.accounts {
		if a == nil {
			continue
		}
		if limit, left, reset := a.requests.level(now); limit > 0 && (h.LimitRequests == 0 || left < h.RemainingRequests) {
			h.LimitRequests, h.RemainingRequests, h.ResetRequests = limit, left, reset
		}
		if limit, left, reset := a.tokens.level(now); limit > 0 && (h.LimitTokens == 0 || left < h.RemainingTokens) {
			h.LimitTokens, h.RemainingTokens, h.ResetTokens = limit, left, reset
		}
	}
	return h
}

// AppendReset appends a duration as OpenAI's x-ratelimit-reset-* has it: 12ms,
// 1.5s, 6m0s; milliseconds, rounded up.
func AppendReset(dst []byte, d time.Duration) []byte {
	d = max(0, (d+time.Millisecond-1)/time.Millisecond*time.Millisecond)
	if d < time.Second {
		return append(strconv.AppendInt(dst, int64(d/time.Millisecond), 10), "ms"...)
	}
	if h := d / time.Hour; h > 0 {
		dst = append(strconv.AppendInt(dst, int64(h), 10), 'h')
		d -= h * time.Hour
		dst = append(strconv.AppendInt(dst, int64(d/time.Minute), 10), 'm')
		d %= time.Minute
	} else if m := d / time.Minute; m > 0 {
		dst = append(strconv.AppendInt(dst, int64(m), 10), 'm')
		d %= time.Minute
	}
	return append(strconv.AppendFloat(dst, float64(d/time.Millisecond)/1000, 'f', -1, 64), 's')
}
