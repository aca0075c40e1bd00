package limits

import (
	"math"
	"math/bits"

	"streamrelay/configs"
)

// Prices are what models cost. The zero Prices has none.
type Prices struct{ of map[string]price }

// price is in billionths of a dollar per million tokens.
type price struct{ in, out, cached, cacheWrite int64 }

// NewPrices takes the prices of a configuration.
func NewPrices(of map[string]configs.Price) Prices {
	p := Prices{make(map[string]price, len(of))}
	for model, c := range of {
		nano := func(usd float64) int64 { return int64(math.Round(min(usd, 1e6) * 1e9)) }
		p.of[model] = price{nano(c.Input), nano(c.Output), nano(c.Cached), nano(c.CacheWrite)}
	}
	return p
}

func (p Prices) has(model []byte) bool { _, ok := p.of[string(model)]; return ok }

// mostCost is so much that the four parts of a request's cost can be added.
const mostCost = math.MaxInt64 / 8

// cost is what n tokens cost at a price per million.
func cost(n, perMillion int64) Money {
	high, low := bits.Mul64(uint64(max(n, 0)), uint64(max(perMillion, 0)))
	if high >= 1e6 {
		return mostCost
	}
	c, _ := bits.Div64(high, low, 1e6)
	return Money(min(c, mostCost))
}

func (p Prices) estimate(model []byte, in, out int64) (Money, bool) {
	c, ok := p.of[string(model)]
	return cost(in, c.in) + cost(out, c.out), ok
}

// Cost returns what a request cost; ok is false where the model has no price.
// Cached tokens, and those written to the cache, are part of the input except
// where the provider counts them apart. It allocates nothing.
func (p Prices) Cost(model []byte, o *Outcome) (m Money, ok bool) {
	c, ok := p.of[string(model)]
	if !ok {
		return 0, false
	}
	in, cached, written := max(o.Input, 0), max(o.Cached, 0), max(o.CacheWrite, 0)
	if !o.InputExcludesCached {
		in = max(0, in-cached-written)
	}
	return cost(in, c.in) + cost(cached, c.cached) + cost(written, c.cacheWrite) + cost(o.Output, c.out), true
}
