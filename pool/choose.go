package pool

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"time"
)

// Candidates are the accounts that may serve a request, by the priority of
// their upstreams. Immutable; safe for concurrent use.
type Candidates struct {
	tiers    []tier
	accounts int // different ones
}

// tier is the accounts of one priority.
type tier struct {
	members []*Credential
	sums    []float64 // of the weights up to and with each member
}

// NewCandidates sorts the accounts of ups.
func NewCandidates(ups []*Upstream) *Candidates {
	c := &Candidates{}
	ups = slices.Clone(ups)
	slices.SortStableFunc(ups, func(a, b *Upstream) int { return a.Priority - b.Priority })
	different := make(map[*Account]bool)
	for i, u := range ups {
		if i == 0 || u.Priority != ups[i-1].Priority {
			c.tiers = append(c.tiers, tier{})
		}
		t := &c.tiers[len(c.tiers)-1]
		for _, cred := range u.Credentials {
			t.members = append(t.members, cred)
			sum := cred.weight
			if n := len(t.sums); n > 0 {
				sum += t.sums[n-1]
			}
			t.sums = append(t.sums, sum)
			different[cred.account] = true
		}
	}
	c.accounts = len(different)
	return c
}

// Accounts returns how many different accounts there are.
func (c *Candidates) Accounts() int { return c.accounts }

// Of returns the candidate that is an account's, nil where none is.
func (c *Candidates) Of(account *Account) *Credential {
	for i := range c.tiers {
		for _, m := range c.tiers[i].members {
			if m.account == account {
				return m
			}
		}
	}
	return nil
}

// First returns the account that what belongs to no model goes to: the first
// credential of the first upstream of the lowest priority number.
func (c *Candidates) First() *Credential { return c.tiers[0].members[0] }

// Choose begins an attempt at one of the candidates: of the lowest priority
// number that has one which is ready, weighted, and of two drawn the one with
// less under way. Accounts that the exchange has been to are left out. An
// account whose credential was refused is chosen where nothing else is left.
// Where there is one account in all, its state does not matter: nobody is
// better.
//
// It allocates nothing and takes no lock while no state changes. False: there
// is nobody to ask now.
func (c *Candidates) Choose(a *Attempt, tried *Tried, model uint64, now int64) bool {
	q := query{tried: tried, model: model, now: now, always: c.accounts == 1}
	for _, q.refused = range [...]bool{false, true} {
		for i := range c.tiers {
			for c.tiers[i].choose(&q) {
				if a.begin(q.found, now, q.always) {
					return true
				}
			}
		}
	}
	return false
}

// ReadyIn returns how long it takes, as far as is known, until one of the
// candidates may be asked for model; 0: now.
func (c *Candidates) ReadyIn(model uint64, now int64) time.Duration {
	soonest := int64(math.MaxInt64)
	for i := range c.tiers {
		for _, m := range c.tiers[i].members {
			soonest = min(soonest, max(m.account.restsUntil(model), m.Upstream.circuit.until.Load()))
		}
	}
	return time.Duration(max(soonest-now, 0))
}

// query is what one Choose looks for.
type query struct {
	tried   *Tried
	model   uint64
	now     int64
	always  bool
	refused bool // these, too
	found   *Credential
}

// fits reports whether m is what the query looks for.
func (q *query) fits(m *Credential) bool {
	if q.tried.n > 0 && q.tried.Has(m) {
		return false
	}
	if q.always {
		return true
	}
	if !m.Upstream.allows(q.now) {
		return false
	}
	s := m.account.standing(q.model, q.now)
	return s == ready || s == refused && q.refused
}

// choose finds a member that fits, by two draws, and by looking at all where
// the draws find none.
func (t *tier) choose(q *query) bool {
	first, second := t.draw(), t.draw()
	if !q.fits(first) {
		first = nil
	}
	if second == first || !q.fits(second) {
		second = nil
	}
	if first == nil && second == nil {
		first, second = t.scan(q)
	}
	q.found = lighter(first, second)
	return q.found != nil
}

// draw returns a member by weight.
func (t *tier) draw() *Credential {
	if len(t.members) == 1 {
		return t.members[0]
	}
	at := rand.Float64() * t.sums[len(t.sums)-1]
	return t.members[min(sort.SearchFloat64s(t.sums, at), len(t.members)-1)]
}

// scan draws twice by weight among the members that fit.
func (t *tier) scan(q *query) (first, second *Credential) {
	sum := 0.0
	for _, m := range t.members {
		if !q.fits(m) {
			continue
		}
		sum += m.weight
		if rand.Float64()*sum < m.weight {
			first = m
		}
		if rand.Float64()*sum < m.weight {
			second = m
		}
	}
	return first, second
}

// lighter returns the one with less under way for its weight; nil is nobody.
func lighter(a, b *Credential) *Credential {
	switch {
	case a == nil:
		return b
	case b == nil || a == b:
		return a
	case float64(b.inFlight.Load()+1)*a.weight < float64(a.inFlight.Load()+1)*b.weight:
		return b
	}
	return a
}
