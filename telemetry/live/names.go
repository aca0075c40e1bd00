package live

import (
	"cmp"
	"hash/maphash"
	"math"
	"slices"
)

// tally is what is counted of one tenant, model or upstream.
type tally struct {
	requests, failed    uint64
	tokensIn, tokensOut uint64
	ttft                uint64 // sum, ns
	ttfts               uint64
}

func (t *tally) add(o *tally) {
	t.requests += o.requests
	t.failed += o.failed
	t.tokensIn += o.tokensIn
	t.tokensOut += o.tokensOut
	t.ttft += o.ttft
	t.ttfts += o.ttfts
}

const (
	nameSets = 16
	nameWays = 8
)

// table counts by name for one second, in a place of fixed size: a name has
// nameWays places to stand, and where others hold them all, the one of fewest
// requests goes to other. So what a client may invent takes no room from names
// that are often used, and every sum stays exact.
type table struct {
	hash  [nameSets * nameWays]uint64 // 0: free
	entry [nameSets * nameWays]entry
	other tally
}

type entry struct {
	name text
	tally
}

// of returns the tally of a name, which is not empty.
func (t *table) of(seed maphash.Seed, name []byte) *tally {
	h := maphash.Bytes(seed, name) | 1
	first := int(h>>32) % nameSets * nameWays
	least := first
	for i := first; i < first+nameWays; i++ {
		switch {
		case t.hash[i] == h:
			return &t.entry[i].tally
		case t.hash[i] == 0:
			return t.put(i, h, name)
		case t.entry[i].requests < t.entry[least].requests:
			least = i
		}
	}
	t.other.add(&t.entry[least].tally)
	return t.put(least, h, name)
}

func (t *table) put(i int, h uint64, name []byte) *tally {
	t.hash[i] = h
	t.entry[i].name.set(name)
	t.entry[i].tally = tally{}
	return &t.entry[i].tally
}

func (t *table) reset() {
	clear(t.hash[:])
	t.other = tally{}
}

const (
	// maxRanked names are known at a time.
	maxRanked = 256
	// rateSeconds is the time constant of rates, scoreSeconds of what decides
	// who stays known.
	rateSeconds  = 10
	scoreSeconds = 900
)

// ranking keeps the names that are used most, from second to second.
type ranking struct {
	names map[string]*ranked
	other ranked // what has no entry, or has lost it
	list  []*ranked
}

type ranked struct {
	key   string // what the table kept of the name
	name  string // the same, marked where it was cut
	total tally
	now   tally // of this second
	score float64
	rates
}

// rates are per second, averaged over about rateSeconds.
type rates struct{ requests, failed, tokensIn, tokensOut, ttft, ttfts float64 }

func (r *rates) add(o *rates) {
	r.requests += o.requests
	r.failed += o.failed
	r.tokensIn += o.tokensIn
	r.tokensOut += o.tokensOut
	r.ttft += o.ttft
	r.ttfts += o.ttfts
}

// step takes the counts of elapsed seconds.
func (r *rates) step(t *tally, elapsed float64) {
	keep := math.Exp(-elapsed / rateSeconds)
	per := (1 - keep) / elapsed
	r.requests = r.requests*keep + float64(t.requests)*per
	r.failed = r.failed*keep + float64(t.failed)*per
	r.tokensIn = r.tokensIn*keep + float64(t.tokensIn)*per
	r.tokensOut = r.tokensOut*keep + float64(t.tokensOut)*per
	r.ttft = r.ttft*keep + float64(t.ttft)*per
	r.ttfts = r.ttfts*keep + float64(t.ttfts)*per
}

// meanTTFT is in seconds, NaN where there was none of late.
func (r *rates) meanTTFT() float64 {
	if r.ttfts < 1e-3 {
		return none
	}
	return r.ttft / r.ttfts / 1e9
}

func newRanking() *ranking { return &ranking{names: make(map[string]*ranked, maxRanked)} }

// add takes one shard's second.
func (k *ranking) add(t *table) {
	for i, h := range t.hash {
		if h == 0 {
			continue
		}
		e := &t.entry[i]
		r := k.names[string(e.name.bytes())] // no allocation
		if r == nil {
			r = &ranked{key: string(e.name.bytes()), name: e.name.String()}
			k.names[r.key] = r
			k.list = append(k.list, r)
		}
		r.now.add(&e.tally)
	}
	k.other.now.add(&t.other)
}

// step ends a second of elapsed seconds.
func (k *ranking) step(elapsed float64) {
	keep := math.Exp(-elapsed / scoreSeconds)
	for _, r := range k.list {
		r.score = r.score*keep + float64(r.now.requests)
		r.end(elapsed)
	}
	k.other.end(elapsed)
	if len(k.list) <= maxRanked {
		return
	}
	slices.SortFunc(k.list, func(a, b *ranked) int { return cmp.Compare(b.score, a.score) })
	for _, r := range k.list[maxRanked:] {
		k.other.total.add(&r.total)
		delete(k.names, r.key)
	}
	clear(k.list[maxRanked:])
	k.list = k.list[:maxRanked]
}

func (r *ranked) end(elapsed float64) {
	r.total.add(&r.now)
	r.rates.step(&r.now, elapsed)
	r.now = tally{}
}

// top returns the n names of most requests of late, and of all time where there
// are none of late; rest is everybody else together.
func (k *ranking) top(n int) (top []*ranked, rest ranked) {
	top = slices.Clone(k.list)
	slices.SortFunc(top, func(a, b *ranked) int {
		return cmp.Or(cmp.Compare(math.Round(b.requests*10), math.Round(a.requests*10)),
			cmp.Compare(b.total.requests, a.total.requests), cmp.Compare(a.name, b.name))
	})
	rest = k.other
	if len(top) > n {
		for _, r := range top[n:] {
			rest.total.add(&r.total)
			rest.rates.add(&r.rates)
		}
		top = top[:n]
	}
	return top, rest
}
