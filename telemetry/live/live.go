package live

import (
	"encoding/json"
	"hash/maphash"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"streamrelay/telemetry"
)

// Options say which relay it is.
type Options struct {
	Version, Revision string
	Endpoints         []string // Request.Endpoint is an index into them
}

// Sources tell of this moment. They are called once a second, by one goroutine
// at a time, must not block, and all but Levels only while somebody looks. A nil
// one tells nothing.
type Sources struct {
	Levels    func() Levels
	Ready     func() (ok bool, state string)
	Upstreams func() []Upstream
	Log       func() RequestLog
	Keys      func() Keys
}

// Live keeps the figures of one relay. Use New.
type Live struct {
	o         Options
	from      Sources // set by Start
	seed      maphash.Seed
	shards    []shard
	spare     []*cell // the ticker's: one for each shard, empty
	started   time.Time
	upstreams atomic.Pointer[[]string] // by Request.Upstream
	reload    atomic.Pointer[Reload]

	stop    chan struct{}  // closed by Close
	running sync.WaitGroup // the seconds, and each viewer

	// mu guards what follows. Observe does not take it.
	mu      sync.Mutex
	closed  bool
	viewers int
	seq     uint64
	ticked  time.Time
	ended   chan struct{} // closed with the next second
	tick    []byte        // the event of second seq; nil: nobody looked when it ended
	state   []byte        // the JSON of everything at second seq; nil: nobody has asked
	sum     sums
}

// sums is all that is known, up to the last second.
type sums struct {
	ends                [numEnds]uint64
	tokensIn, tokensOut uint64
	bytesIn, bytesOut   uint64
	events              uint64
	ttft, added, whole  *window
	gaps, delays        *window
	upstreams           [maxUpstreams]struct {
		now, total tally
		rates
	}
	tenants, models    *ranking
	requests, failures last
	point              point
	covers             int64 // how many seconds of the history it stands for
	history            history
}

// New returns a Live that takes what Observe gives it.
func New(o Options) *Live { return newLive(o, time.Now()) }

// Start lets the seconds pass, until Close. It is called once, before the
// first viewer.
func (l *Live) Start(from Sources) {
	l.from = from
	l.running.Go(l.run)
}

func newLive(o Options, now time.Time) *Live {
	l := &Live{o: o, seed: maphash.MakeSeed(), shards: newShards(), started: now, ticked: now, stop: make(chan struct{}), ended: make(chan struct{})}
	for range l.shards {
		l.spare = append(l.spare, newCell(len(l.shards)))
	}
	fine := fineBounds()
	l.sum.ttft, l.sum.added, l.sum.whole = newWindow(fine), newWindow(fine), newWindow(fine)
	l.sum.gaps, l.sum.delays = newWindow(floats(telemetry.GapBuckets[:])), newWindow(floats(telemetry.DelayBuckets[:]))
	l.sum.tenants, l.sum.models = newRanking(), newRanking()
	l.sum.requests, l.sum.failures = newLast(maxRequests), newLast(maxFailures)
	l.upstreams.Store(new([]string))
	l.reload.Store(&Reload{OK: true, At: now})
	return l
}

// SetUpstreams says what Request.Upstream means from now on, as after a reload:
// index[i] stands for names[i]. What other numbers mean stays. One goroutine
// at a time calls it, before the first request that needs it.
func (l *Live) SetUpstreams(index []int, names []string) {
	list := slices.Clone(*l.upstreams.Load())
	for i, at := range index {
		for at >= len(list) {
			list = append(list, "")
		}
		list[at] = names[i]
	}
	l.upstreams.Store(&list)
}

// Reloaded says that the configuration was read again, and why the one of
// before stays; nil: it does not.
func (l *Live) Reloaded(err error) {
	r := &Reload{OK: err == nil, At: time.Now()}
	if err != nil {
		r.Error = err.Error()
	}
	l.reload.Store(r)
}

// Close ends the seconds and every viewer, and waits for both. A viewer whose
// connection does not take what is written is waited for as long as writePatience:
// close the listener's connections first.
func (l *Live) Close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.stop)
	}
	l.mu.Unlock()
	l.running.Wait()
}

// run ends a second in the middle of each second of the clock, so that a timer
// that is late does not leave one out.
func (l *Live) run() {
	for {
		now := time.Now()
		next := now.Truncate(time.Second).Add(1500 * time.Millisecond)
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-l.stop:
			timer.Stop()
			return
		case <-timer.C:
			l.second(time.Now())
		}
	}
}

// second ends one second: what the shards have seen becomes a point of the
// history, and where somebody looks, an event.
func (l *Live) second(now time.Time) {
	var levels Levels
	if l.from.Levels != nil {
		levels = l.from.Levels()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	elapsed := max(now.Sub(l.ticked).Seconds(), 1e-3)
	l.ticked = now
	s := &l.sum
	s.begin()
	for i := range l.shards {
		shard := &l.shards[i]
		shard.mu.Lock()
		c := shard.cell
		shard.cell = l.spare[i]
		shard.mu.Unlock()
		s.add(c)
		c.reset()
		l.spare[i] = c
	}
	s.end(now, elapsed, levels)
	l.seq++
	l.tick, l.state = nil, nil
	if l.viewers > 0 {
		l.tick = appendEvent("tick", l.seq, l.encodeLocked(false))
	}
	close(l.ended)
	l.ended = make(chan struct{})
}

// begin makes room for a second.
func (s *sums) begin() {
	for _, w := range [...]*window{s.ttft, s.added, s.whole, s.gaps, s.delays} {
		w.next()
	}
	s.point = point{}
}

// add takes what one shard has seen.
func (s *sums) add(c *cell) {
	p := &s.point
	for i, n := range c.ends {
		s.ends[i] += n
		p[colEnds+i] += float32(n)
		p[colRequests] += float32(n)
		if failed(telemetry.EndReason(i)) {
			p[colFailed] += float32(n)
		}
	}
	s.tokensIn += c.tokensIn
	s.tokensOut += c.tokensOut
	s.bytesIn += c.bytesIn
	s.bytesOut += c.bytesOut
	s.events += c.events
	p[colTokensIn] += float32(c.tokensIn)
	p[colTokensOut] += float32(c.tokensOut)
	p[colBytesIn] += float32(c.bytesIn)
	p[colBytesOut] += float32(c.bytesOut)
	p[colEvents] += float32(c.events)
	s.ttft.add(c.ttft[:])
	s.added.add(c.added[:])
	s.whole.add(c.whole[:])
	s.gaps.add(c.gaps[:])
	s.delays.add(c.delays[:])
	for i := range c.upstreams {
		s.upstreams[i].now.add(&c.upstreams[i])
	}
	s.tenants.add(&c.tenants)
	s.models.add(&c.models)
	s.requests.add(&c.requests)
	s.failures.add(&c.failures)
}

// end makes the point of a second that took elapsed seconds.
func (s *sums) end(now time.Time, elapsed float64, levels Levels) {
	p := &s.point
	for i := range p {
		p[i] /= float32(elapsed)
	}
	p[colStreams], p[colInFlight], p[colConnections] = float32(levels.Streams), float32(levels.InFlight), float32(levels.Connections)
	for _, q := range [...]struct {
		column int
		of     *window
		q      float64
	}{
		{colTTFTp50, s.ttft, .5}, {colTTFTp90, s.ttft, .9}, {colTTFTp99, s.ttft, .99},
		{colGapP50, s.gaps, .5}, {colGapP99, s.gaps, .99},
		{colAddedP50, s.added, .5}, {colAddedP99, s.added, .99},
		{colDelayP50, s.delays, .5}, {colDelayP99, s.delays, .99},
		{colDurationP50, s.whole, .5}, {colDurationP99, s.whole, .99},
	} {
		p[q.column] = float32(q.of.quantile(q.q))
	}
	for i := range s.upstreams {
		u := &s.upstreams[i]
		u.total.add(&u.now)
		u.rates.step(&u.now, elapsed)
		u.now = tally{}
	}
	s.tenants.step(elapsed)
	s.models.step(elapsed)
	s.requests.step()
	s.failures.step()
	s.covers = s.history.put(now.Unix(), int64(elapsed+.5), p)
}

// encodeLocked returns the JSON of everything, or of the last second.
func (l *Live) encodeLocked(all bool) []byte {
	b, err := json.Marshal(l.snapshotLocked(all))
	if err != nil {
		panic("BUG: a snapshot that is not JSON: " + err.Error())
	}
	return b
}

func (l *Live) snapshotLocked(all bool) *Snapshot {
	s := &l.sum
	out := &Snapshot{
		Seq: l.seq, Time: l.ticked.Unix(), Seconds: s.covers, Point: s.point.values(), Totals: s.totals(),
		Relay: Relay{Version: l.o.Version, Revision: l.o.Revision, PID: os.Getpid(), Started: l.started, Ready: true, State: "ready", Reload: *l.reload.Load()},
		Log:   RequestLog{Kind: "off"}, Keys: Keys{Store: "static", Ready: true, Phase: "ready"},
	}
	if l.from.Ready != nil {
		out.Relay.Ready, out.Relay.State = l.from.Ready()
	}
	if l.from.Log != nil {
		out.Log = l.from.Log()
	}
	if l.from.Keys != nil {
		out.Keys = l.from.Keys()
	}
	if l.from.Upstreams != nil {
		out.Upstreams = l.from.Upstreams()
		names := *l.upstreams.Load()
		for i := range out.Upstreams {
			u := &out.Upstreams[i]
			u.Use = s.upstreamUse(names, u.Name)
		}
	}
	out.Tenants, out.Models = s.tenants.export(), s.models.export()
	out.Requests = l.requestsLocked(all)
	if all {
		out.History = s.history.export()
	}
	return out
}

func (s *sums) totals() Totals {
	t := Totals{Ends: make(map[string]uint64, numEnds), TokensIn: s.tokensIn, TokensOut: s.tokensOut, BytesIn: s.bytesIn, BytesOut: s.bytesOut, Events: s.events}
	for i, n := range s.ends {
		if n == 0 {
			continue
		}
		end := telemetry.EndReason(i)
		t.Ends[end.String()] = n
		t.Requests += n
		if failed(end) {
			t.Failed += n
		}
	}
	return t
}

// upstreamUse sums what every number of an upstream's name did: a reload may
// have given it a new one.
func (s *sums) upstreamUse(names []string, name string) Use {
	var total tally
	var r rates
	for i, other := range names[:min(len(names), maxUpstreams)] {
		if other == name {
			total.add(&s.upstreams[i].total)
			r.add(&s.upstreams[i].rates)
		}
	}
	return use(&total, &r)
}

func use(t *tally, r *rates) Use {
	return Use{
		Requests: Number(r.requests), Failed: Number(r.failed), TokensIn: Number(r.tokensIn), TokensOut: Number(r.tokensOut), TTFT: Number(r.meanTTFT()),
		TotalRequests: t.requests, TotalFailed: t.failed, TotalTokensIn: t.tokensIn, TotalTokensOut: t.tokensOut,
	}
}

// Shown is how many tenants and models a viewer gets by name.
const Shown = 10

func (k *ranking) export() []Ranked {
	top, rest := k.top(Shown)
	out := make([]Ranked, 0, len(top)+1)
	for _, r := range top {
		out = append(out, Ranked{Name: r.name, Use: use(&r.total, &r.rates)})
	}
	if rest.total.requests > 0 {
		out = append(out, Ranked{Use: use(&rest.total, &rest.rates)})
	}
	return out
}

// tickRequests and tickFailures bound what a tick holds: more of them within
// one second is more than anybody reads.
const (
	tickRequests = 120
	tickFailures = 60
)

// requestsLocked returns the rows that are kept, or those of the last second.
func (l *Live) requestsLocked(all bool) []Request {
	names := *l.upstreams.Load()
	list := []Request{}
	for _, g := range [...]struct {
		*last
		most int
	}{{&l.sum.requests, tickRequests}, {&l.sum.failures, tickFailures}} {
		n := len(g.rows)
		if !all {
			n = min(g.added, g.most)
		}
		g.newest(n, func(w *row) { list = append(list, l.export(w, names)) })
	}
	slices.SortStableFunc(list, func(a, b Request) int { return int(a.Time - b.Time) })
	return list
}

func (l *Live) export(w *row, names []string) Request {
	r := Request{
		Time: w.end / 1e6, ID: string(w.id[:w.idLen]), Tenant: w.tenant.String(), Model: w.model.String(), Endpoint: "other",
		Status: int(w.status), End: w.reason.String(), Failed: failed(w.reason), Code: w.code.String(), Stream: w.stream,
		TTFT: Number(none), Duration: float64(w.duration) / 1e9, TokensIn: tokens(w.tokensIn), TokensOut: tokens(w.tokensOut), Attempts: int(w.attempts),
	}
	if i := int(w.endpoint); i >= 0 && i < len(l.o.Endpoints) {
		r.Endpoint = l.o.Endpoints[i]
	}
	if i := int(w.upstream); i >= 0 && i < len(names) {
		r.Upstream = names[i]
	}
	if w.ttft > 0 {
		r.TTFT = Number(float64(w.ttft) / 1e9)
	}
	return r
}

func tokens(n int64) Number {
	if n < 0 {
		return Number(none)
	}
	return Number(n)
}
