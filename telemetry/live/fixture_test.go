package live

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"streamrelay/telemetry"
)

// start is when the relay of these tests started.
var start = time.Date(2026, 11, 24, 23, 30, 0, 500e6, time.UTC)

// clock is a Live whose seconds the test ends.
type clock struct {
	*Live
	now time.Time
}

func newClock(from Sources) *clock {
	l := newLive(Options{Version: "1.2.3", Endpoints: []string{"chat_completions", "embeddings"}}, start)
	l.from = from
	l.SetUpstreams([]int{0, 1}, []string{"alpha", "beta"})
	return &clock{l, start}
}

func (c *clock) tick() *Snapshot {
	c.now = c.now.Add(time.Second)
	c.second(c.now)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.snapshotLocked(false)
}

func (c *clock) all(tb testing.TB) (s Snapshot) {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := json.Unmarshal(c.stateLocked(), &s); err != nil {
		tb.Fatal(err)
	}
	return s
}

// exchange is one that went well; change makes it another.
func exchange(n int, change func(*telemetry.Request)) *telemetry.Request {
	r := &telemetry.Request{
		RequestID: fmt.Appendf(nil, "req-%d", n), Start: start.Add(time.Duration(n) * time.Millisecond).UnixNano(),
		Tenant: []byte("acme"), Model: []byte("m1"), Status: 200, UpstreamStatus: 200, Stream: true, Attempts: 1,
		Duration: 900e6, TTFT: 100e6, Overhead: 30e3, BytesIn: 120, BytesOut: 4000, Events: 12, Gaps: new(telemetry.Gaps), Delays: new(telemetry.Delays),
		Usage: telemetry.Usage{Input: 10, Output: 20, Cached: -1, CacheWrite: -1, Reasoning: -1}, UsageSource: telemetry.UsageProvider,
	}
	binary.BigEndian.PutUint64(r.ID[8:], uint64(n))
	for range 11 {
		r.Gaps.Add(18e6)
		r.Delays.Add(20e3)
	}
	if change != nil {
		change(r)
	}
	return r
}
