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

// cost is what the tokens of row cost. Cached tokens, and those written to the
// cache, are part of the input except where the provider counts them apart.
func (p *price) cost(row *Row, apart bool) int64 {
	input := float64(row.Input)
	if !apart {
		input = max(0, input-float64(row.Cached)-float64(row.CacheWrite))
	}
	nano := input*p.input + float64(row.Cached)*p.cached + float64(row.CacheWrite)*p.cacheWrite + float64(row.Output)*p.output
	return int64(min(math.Round(nano), math.MaxInt64/2))
}
