package live

import (
	"hash/maphash"
	"runtime"
	"sync"

	"streamrelay/telemetry"
)

const (
	numEnds = int(telemetry.UpstreamIncomplete) + 1
	// maxUpstreams have counts of their own; further ones share the last.
	maxUpstreams = 64
	maxShards    = 8
)

// cell is what one shard has seen since the last tick.
type cell struct {
	ends                [numEnds]uint64
	tokensIn, tokensOut uint64
	bytesIn, bytesOut   uint64
	events              uint64
	ttft, added, whole  histogram
	gaps                [len(telemetry.GapBuckets) + 1]uint32
	delays              [len(telemetry.DelayBuckets) + 1]uint32
	upstreams           [maxUpstreams]tally
	tenants, models     table
	requests, failures  ring
}

func newCell(shards int) *cell {
	c := new(cell)
	c.requests.rows = make([]row, maxRequests/shards+1)
	c.failures.rows = make([]row, maxFailures/shards+1)
	return c
}

// reset forgets what was counted. Rows and names are overwritten in their time.
func (c *cell) reset() {
	c.tenants.reset()
	c.models.reset()
	c.requests.n, c.failures.n = 0, 0
	clear(c.ends[:])
	clear(c.ttft[:])
	clear(c.added[:])
	clear(c.whole[:])
	clear(c.gaps[:])
	clear(c.delays[:])
	clear(c.upstreams[:])
	c.tokensIn, c.tokensOut, c.bytesIn, c.bytesOut, c.events = 0, 0, 0, 0, 0
}

// shard takes a part of the exchanges.
type shard struct {
	// mu guards cell, for as long as it takes to count and copy one exchange,
	// or to change the pointer.
	mu   sync.Mutex
	cell *cell
	_    [64]byte
}

func newShards() []shard {
	s := make([]shard, min(runtime.GOMAXPROCS(0), maxShards))
	for i := range s {
		s[i].cell = newCell(len(s))
	}
	return s
}

// Observe counts one finished exchange. It copies what it keeps, allocates
// nothing and waits for nothing but another Observe of the same shard, where
// every shard is taken. It may be called from many goroutines.
func (l *Live) Observe(r *telemetry.Request) {
	s := l.lock(r)
	s.cell.observe(l.seed, r)
	s.mu.Unlock()
}

// lock returns a locked shard: the one that the id's random bits pick, or
// another one that nobody holds.
func (l *Live) lock(r *telemetry.Request) *shard {
	n := uint8(len(l.shards))
	first := r.ID[15] % n
	for i := range n {
		if s := &l.shards[(first+i)%n]; s.mu.TryLock() {
			return s
		}
	}
	s := &l.shards[first]
	s.mu.Lock()
	return s
}

func (c *cell) observe(seed maphash.Seed, r *telemetry.Request) {
	end := r.End.Known()
	one := tally{requests: 1}
	rows := &c.requests
	if failed(end) {
		one.failed = 1
		rows = &c.failures
	}
	if r.UsageSource != telemetry.UsageUnknown {
		one.tokensIn, one.tokensOut = uint64(max(r.Usage.Input, 0)), uint64(max(r.Usage.Output, 0))
	}
	if r.TTFT > 0 {
		one.ttft, one.ttfts = uint64(r.TTFT), 1
		c.ttft.observe(r.TTFT)
	}
	if r.Overhead > 0 {
		c.added.observe(r.Overhead)
	}
	c.whole.observe(r.Duration)
	c.ends[end]++
	c.tokensIn += one.tokensIn
	c.tokensOut += one.tokensOut
	c.bytesIn += uint64(max(r.BytesIn, 0))
	c.bytesOut += uint64(max(r.BytesOut, 0))
	c.events += uint64(max(r.Events, 0))
	if r.Gaps != nil {
		for i, n := range r.Gaps.Counts {
			c.gaps[i] += n
		}
	}
	if r.Delays != nil {
		for i, n := range r.Delays.Counts {
			c.delays[i] += n
		}
	}
	if r.Upstream >= 0 {
		c.upstreams[min(r.Upstream, maxUpstreams-1)].add(&one)
	}
	if len(r.Tenant) > 0 {
		c.tenants.of(seed, r.Tenant).add(&one)
	}
	if len(r.Model) > 0 {
		c.models.of(seed, r.Model).add(&one)
	}
	rows.next().fill(r, end)
}
