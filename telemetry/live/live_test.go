package live

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"streamrelay/telemetry"
)

func TestASecondHoldsWhatEndedInIt(t *testing.T) {
	c := newClock(Sources{
		Levels: func() Levels { return Levels{Streams: 7, InFlight: 9, Connections: 11} },
	})
	for i := range 8 {
		c.Observe(exchange(i, nil))
	}
	c.Observe(exchange(8, func(r *telemetry.Request) {
		r.End, r.Status, r.UpstreamStatus, r.Upstream, r.Error = telemetry.Limited, 429, 0, -1, "rate_limit"
		r.TTFT, r.Overhead, r.Gaps, r.Delays, r.UsageSource, r.Attempts = 0, 0, nil, nil, telemetry.UsageUnknown, 0
	}))
	c.Observe(exchange(9, func(r *telemetry.Request) { r.End, r.Status, r.Upstream = telemetry.ClientGone, 499, 1 }))
	s := c.tick()
	for name, want := range map[string]float64{
		"requests": 10, "failed": 1, "streams": 7, "in_flight": 9, "connections": 11, "tokens_in": 90, "tokens_out": 180, "bytes_out": 40000,
		"events": 120, "end_completed": 8, "end_limited": 1, "end_client_gone": 1,
	} {
		if got := float64(s.Point[name]); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]float64{"ttft_p50": .1, "ttft_p99": .1, "added_p50": 30e-6, "duration_p50": .9} {
		if got := float64(s.Point[name]); math.Abs(got-want) > want/16 {
			t.Errorf("%s = %v, want about %v", name, got, want)
		}
	}
	for name, within := range map[string][2]float64{"gap_p50": {.01, .02}, "gap_p99": {.01, .02}, "delay_p50": {10e-6, 25e-6}} {
		if got := float64(s.Point[name]); got < within[0] || got > within[1] {
			t.Errorf("%s = %v, want it within the bucket %v", name, got, within)
		}
	}
	if s.Totals.Requests != 10 || s.Totals.Failed != 1 || s.Totals.TokensOut != 180 || s.Totals.Ends["completed"] != 8 || len(s.Totals.Ends) != 3 {
		t.Errorf("totals: %+v", s.Totals)
	}
	if len(s.Requests) != 10 {
		t.Fatalf("%d requests, want 10", len(s.Requests))
	}
	r := s.Requests[8]
	if r.ID != "req-8" || r.Tenant != "acme" || r.Model != "m1" || r.Upstream != "" || r.Status != 429 || r.End != "limited" || !r.Failed ||
		r.Code != "rate_limit" || r.TTFT == r.TTFT || r.TokensIn == r.TokensIn || r.Endpoint != "chat_completions" {
		t.Errorf("the refused request: %+v", r)
	}
	if r = s.Requests[9]; r.Upstream != "beta" || r.Failed || r.End != "client_gone" || r.TTFT != .1 || r.TokensOut != 20 {
		t.Errorf("the one whose client left: %+v", r)
	}
	if s = c.tick(); s.Point["requests"] != 0 || len(s.Requests) != 0 || s.Totals.Requests != 10 {
		t.Errorf("a second later: %+v, %d requests, totals %+v", s.Point, len(s.Requests), s.Totals)
	}
	for range windowSeconds {
		s = c.tick()
	}
	if v, there := s.Point["ttft_p50"]; there {
		t.Errorf("a quantile of nothing: %v", v)
	}
}

func TestASecondThatTookLongerCountsPerSecond(t *testing.T) {
	c := newClock(Sources{})
	for i := range 10 {
		c.Observe(exchange(i, nil))
	}
	c.now = c.now.Add(time.Second)
	if s := c.tick(); s.Point["requests"] != 5 || s.Totals.Requests != 10 {
		t.Errorf("10 requests in 2 s: %v a second, %d in all", s.Point["requests"], s.Totals.Requests)
	}
	c.Observe(exchange(10, nil))
	c.tick()
	for range 8 {
		c.Observe(exchange(11, nil))
	}
	c.now = c.now.Add(3 * time.Second) // the relay did not get to it
	if s := c.tick(); s.Seconds != 4 || s.Point["requests"] != 2 {
		t.Errorf("a point for %d s, %v requests each", s.Seconds, s.Point["requests"])
	}
	if got := c.all(t).History.Columns["requests"]; !slices.Equal(got, Column{5, 1, 2, 2, 2, 2}) {
		t.Errorf("the history is %v", got)
	}
}

func TestQuantilesAreGoodToThreePercent(t *testing.T) {
	var h histogram
	w := newWindow(fineBounds())
	random := rand.New(rand.NewPCG(1, 2))
	var all []int64
	for range 20_000 {
		ns := int64(math.Exp(random.NormFloat64()*2) * 5e6)
		all = append(all, ns)
		h.observe(ns)
	}
	w.next()
	w.add(h[:])
	slices.Sort(all)
	for _, q := range []float64{.01, .5, .9, .99, .999} {
		want := float64(all[int(q*float64(len(all)))]) / 1e9
		if got := w.quantile(q); math.Abs(got-want) > .03*want+1.1e-6 {
			t.Errorf("q %v: %v, want %v", q, got, want)
		}
	}
	for _, ns := range []int64{-5, 0, 1, 1023, 1024, 16383, 16384, 16385, 1 << 30, 1<<40 - 1, 1 << 40, math.MaxInt64} {
		i := bucketOf(ns)
		if lower(i) > math.Max(float64(ns), 0) || i < numBuckets-1 && float64(ns) >= lower(i+1) {
			t.Errorf("%d ns is counted in bucket %d, from %v to %v", ns, i, lower(i), lower(i+1))
		}
	}
}

func TestTheHistoryHolds15Minutes(t *testing.T) {
	c := newClock(Sources{Levels: func() Levels { return Levels{Streams: 1} }})
	for range 1000 {
		c.Observe(exchange(0, nil))
		c.tick()
	}
	c.now = c.now.Add(3 * time.Second)
	c.ticked = c.now // of the monotonic clock, which stands while the machine sleeps
	if s := c.tick(); s.Seconds != 1 {
		t.Errorf("a second after a sleep stands for %d", s.Seconds)
	}
	h := c.all(t).History
	requests := h.Columns["requests"]
	if h.Seconds != historySeconds || len(requests) != historySeconds || h.From != c.now.Unix()-historySeconds+1 {
		t.Fatalf("%d seconds from %d, %d values", h.Seconds, h.From, len(requests))
	}
	for i, v := range requests {
		switch missing := i >= historySeconds-4 && i < historySeconds-1; {
		case missing && v == v, !missing && i < historySeconds-4 && v != 1, i == historySeconds-1 && v != 0:
			t.Errorf("value %d of %d is %v", i, historySeconds, v)
		}
	}
	if _, there := h.Columns["end_internal"]; there {
		t.Error("a column of zeroes is sent")
	}
	c.now = c.now.Add(-3 * time.Second) // a time server corrects the clock
	c.Observe(exchange(0, nil))
	c.tick()
	if again := c.all(t).History; again.Seconds != historySeconds || again.From != h.From || again.Columns["requests"][historySeconds-3] == 0 {
		t.Errorf("after a small step back: %d seconds from %d", again.Seconds, again.From)
	}
	c.now = c.now.Add(-time.Hour) // the clock is set back
	c.Observe(exchange(0, nil))
	c.tick()
	if h = c.all(t).History; h.Seconds != 1 || h.From != c.now.Unix() || h.Columns["requests"][0] == 0 {
		t.Errorf("after the clock was set back: %d seconds from %d", h.Seconds, h.From)
	}
}

func TestAFloodOfNamesLeavesTheBusyOnesAndExactSums(t *testing.T) {
	c := newClock(Sources{})
	const seconds, flood = 20, 4000
	n := 0
	for range seconds {
		for i := range flood {
			n++
			c.Observe(exchange(n, func(r *telemetry.Request) { r.Model, r.Tenant = fmt.Appendf(nil, "made-up-%d", n), []byte("busy") }))
			if i%20 == 0 {
				c.Observe(exchange(n, func(r *telemetry.Request) { r.Model = []byte("real") }))
			}
		}
		c.tick()
	}
	s := c.all(t)
	if got := s.Models[0]; got.Name != "real" || got.TotalRequests < seconds*flood/20*9/10 {
		t.Errorf("the busiest model: %+v, want real with nearly %d", got, seconds*flood/20)
	}
	if got := s.Tenants[0]; got.Name != "busy" || got.TotalRequests != seconds*flood {
		t.Errorf("the busiest tenant: %+v", got)
	}
	if len(c.sum.models.list) > maxRanked || len(c.sum.models.names) > maxRanked || len(s.Models) != Shown+1 || s.Models[Shown].Name != "" {
		t.Errorf("%d models are known, %d shown", len(c.sum.models.list), len(s.Models))
	}
	for what, list := range map[string][]Ranked{"models": s.Models, "tenants": s.Tenants} {
		var sum, out uint64
		for _, r := range list {
			sum += r.TotalRequests
			out += r.TotalTokensOut
		}
		if sum != s.Totals.Requests || out != s.Totals.TokensOut {
			t.Errorf("%s: %d requests and %d tokens by name, %d and %d in all", what, sum, out, s.Totals.Requests, s.Totals.TokensOut)
		}
	}
	for i := range c.sum.models.list[:10] {
		if name := c.sum.models.list[i].name; c.sum.models.names[name] == nil {
			t.Errorf("%q is listed and not found", name)
		}
	}
}

func TestFailuresAreNotPushedOutByWhatGoesWell(t *testing.T) {
	c := newClock(Sources{})
	for i := range 20 {
		c.Observe(exchange(i, func(r *telemetry.Request) { r.End = telemetry.UpstreamCut }))
	}
	c.tick()
	for i := 20; i < 10_000; i++ {
		c.Observe(exchange(i, nil))
		if i%1000 == 0 {
			c.tick()
		}
	}
	s := c.tick()
	if len(s.Requests) > tickRequests+tickFailures {
		t.Errorf("%d requests in a tick", len(s.Requests))
	}
	all := c.all(t).Requests
	failures := 0
	for i, r := range all {
		if r.Failed {
			failures++
		}
		if i > 0 && r.Time < all[i-1].Time {
			t.Fatal("not in the order of their ends")
		}
	}
	if len(all) != maxRequests+20 || failures != 20 || all[len(all)-1].ID != "req-9999" {
		t.Errorf("%d requests, %d of them failures, the last is %s", len(all), failures, all[len(all)-1].ID)
	}
}

func TestLongAndBrokenTextIsCutAtARune(t *testing.T) {
	c := newClock(Sources{})
	long := strings.Repeat("é", 40) // 80 bytes
	for i, model := range []string{long, "x" + long, "\xff\xfe<script>", strings.Repeat("\x80", 100), strings.Repeat("m", maxName)} {
		c.Observe(exchange(i, func(r *telemetry.Request) {
			r.Model, r.RequestID = []byte(model), []byte(strings.Repeat("r", 200))
		}))
	}
	c.tick()
	s := c.all(t)
	for i, want := range []string{strings.Repeat("é", 32) + "…", "x" + strings.Repeat("é", 31) + "…", "\ufffd\ufffd<script>", strings.Repeat("\ufffd", 64) + "…", strings.Repeat("m", maxName)} {
		got := s.Requests[i].Model
		if !utf8.ValidString(got) || got != want && i != 3 {
			t.Errorf("model %d: %q, want %q", i, got, want)
		}
	}
	if len(s.Requests[0].ID) != maxRequestID {
		t.Errorf("an id of %d bytes", len(s.Requests[0].ID))
	}
	c.Observe(exchange(9, func(r *telemetry.Request) { r.Model = []byte(long) }))
	c.tick()
	if n := c.all(t).Models[0].TotalRequests; n != 2 {
		t.Errorf("a cut name counts %d times, want 2", n)
	}
}

func TestAnUpstreamKeepsItsCountsOverAReload(t *testing.T) {
	c := newClock(Sources{Upstreams: func() []Upstream { return []Upstream{{Name: "alpha"}, {Name: "new"}} }})
	c.Observe(exchange(0, nil))
	c.SetUpstreams([]int{5, 200}, []string{"alpha", "new"})
	c.Observe(exchange(1, func(r *telemetry.Request) { r.Upstream = 5 }))
	c.Observe(exchange(2, func(r *telemetry.Request) { r.Upstream = 200 }))
	s := c.tick()
	if s.Upstreams[0].TotalRequests != 2 || s.Requests[1].Upstream != "alpha" || s.Requests[2].Upstream != "new" {
		t.Errorf("%+v %+v", s.Upstreams, s.Requests)
	}
}

func TestARefusedReloadIsToldUntilOneIsTaken(t *testing.T) {
	c := newClock(Sources{Ready: func() (bool, string) { return false, "draining" }})
	c.Reloaded(errors.New(`relay.yaml:1: unknown key "nonsense"`))
	c.tick()
	if r := c.all(t).Relay; r.Reload.OK || r.Reload.Error != `relay.yaml:1: unknown key "nonsense"` || r.Ready || r.State != "draining" {
		t.Errorf("%+v", r)
	}
	c.Reloaded(nil)
	c.tick()
	if r := c.all(t).Relay; !r.Reload.OK || r.Reload.Error != "" {
		t.Errorf("%+v", r)
	}
}

func TestMemoryDoesNotGrow(t *testing.T) {
	c := newClock(Sources{})
	n := 0
	work := func(seconds int) {
		for range seconds {
			for range 300 {
				n++
				c.Observe(exchange(n, func(r *telemetry.Request) {
					r.Model, r.Tenant, r.End = fmt.Appendf(nil, "m%d", n), fmt.Appendf(nil, "t%d", n), telemetry.EndReason(n%numEnds)
				}))
			}
			c.tick()
		}
	}
	used := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	work(50)
	before := used()
	work(200)
	if grown := used() - before; grown > 256<<10 {
		t.Errorf("%d bytes more after 60,000 further names", grown)
	}
	runtime.KeepAlive(c)
	// What doc.go and README state: the fixed part, for the most shards there are.
	rows := uintptr(2*(maxRequests+maxFailures+2*maxShards) + 2*(maxRequests+maxFailures) + 2*maxShards)
	fixed := 2*maxShards*unsafe.Sizeof(cell{}) + rows*unsafe.Sizeof(row{}) + unsafe.Sizeof(Live{}) +
		3*(numBuckets*4*(windowSeconds+2)) + 2*maxRanked*(unsafe.Sizeof(ranked{})+2*maxName)
	t.Logf("%d KiB for %d shards", fixed>>10, maxShards)
	if fixed > 2<<20 {
		t.Errorf("%d bytes, want at most 2 MiB", fixed)
	}
}

func TestNoExchangeIsLostBetweenSeconds(t *testing.T) {
	c := newClock(Sources{})
	const workers, each = 4, 5000
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			for i := range each {
				c.Observe(exchange(w*each+i, nil))
			}
		})
	}
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
			c.tick()
		}
	}
	if s := c.tick(); s.Totals.Requests != workers*each || s.Totals.TokensIn != 10*workers*each {
		t.Errorf("%d requests, %d tokens in; want %d", s.Totals.Requests, s.Totals.TokensIn, workers*each)
	}
}

func TestNumbersAreReadBackAsWritten(t *testing.T) {
	for _, v := range []float64{0, 1, -1, 1e6, 123456789, .1, 1234.56, 99.9951, 3.3e-5, math.NaN(), math.Inf(1)} {
		b, err := json.Marshal(Number(v))
		if err != nil {
			t.Fatal(err)
		}
		var back Number
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if math.IsInf(v, 0) {
			v = none
		}
		if got := float64(back); got != got && v == v || math.Abs(got-v) > math.Abs(v)/1000 || v == math.Trunc(v) && got != v {
			t.Errorf("%v is read back as %v from %s", v, got, b)
		}
	}
}
