package requestlog

import (
	"math"

	"streamrelay/configs"
)

// price is in nano US dollars per token: 1 USD per million tokens is 1,000 of
// them, so that a cost is exact for every price of at most three decimals.
type price struct{ input, output, cached, cacheWrite float64 }

func newPrice(p configs.Price) *price {
	return &price{p.Input * 1000, p.Output * 1000, p.Cached * 1000, p.CacheWrite * 1000}
}

// cost is what tokens cost, in their order in a record. Cached tokens, and those
// written to the cache, are part of the input except where the provider counts
// them apart.
func (p *price) cost(tokens *[numTokens]int64, apart bool) int64 {
	of := func(i int) float64 { return float64(count(tokens[i])) }
	input, output, cached, cacheWrite := of(0), of(1), of(2), of(3)
	if !apart {
		input = max(0, input-cached-cacheWrite)
	}
	nano := input*p.input + cached*p.cached + cacheWrite*p.cacheWrite + output*p.output
	return int64(min(math.Round(nano), math.MaxInt64/2))
}
