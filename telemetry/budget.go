package telemetry

const (
	// budgetBytes is what the series of this package may add to a scrape. With
	// lineBytes as the least that a line is charged it also bounds their
	// number. A scrape shall stay below 1 MB and 10,000 series; the rest is for
	// the runtime's own metrics and what others publish.
	budgetBytes = 850_000
	// budgetReserve is kept for series of "other", so that they keep their
	// codes apart when models have used up the rest.
	budgetReserve = 50_000
	lineBytes     = 100
	// nameBytes is charged for the metric's name, le and the value.
	nameBytes = 65
)

// budget is what is left for further series. Guarded by Telemetry.mu.
type budget struct{ left int }

// cost is the price of n series with such labels.
func cost(n int, labels string) int { return n * max(lineBytes, len(labels)+nameBytes) }

// take pays for n series and reports true, or reports that less than reserve
// would be left.
func (b *budget) take(n int, labels string, reserve int) bool {
	c := cost(n, labels)
	if b.left-c < reserve {
		return false
	}
	b.left -= c
	return true
}

// charge pays for series that must be there.
func (b *budget) charge(n int, labels string) { b.left -= cost(n, labels) }
