package requestlog

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"streamrelay/configs"
	"streamrelay/telemetry"
	"streamrelay/telemetry/spool"
)

// Options say what a Recorder records and where it puts it.
type Options struct {
	Instance  string // of the rows; "": the host's name
	Endpoints []string
	Upstreams []Upstream
	Models    []string // as the configuration names them
	Prices    map[string]configs.Price

	Files      configs.RequestLog
	ClickHouse configs.ClickHouse
	Log        zerolog.Logger

	BlockRows int           // rows of a full block; 0: 10,000
	Interval  time.Duration // a block is sealed at the latest; 0: 1 s, 50 ms with durability wal
	Backoff   time.Duration // after a failed attempt, doubled up to 40 times of it; 0: 250 ms
	Timeout   time.Duration // of one INSERT; 0: 30 s
}

// FromConfig fills what the configuration says, for a relay.
func FromConfig(c *configs.Config) Options {
	o := Options{Files: c.RequestLog, ClickHouse: c.ClickHouse, Prices: c.Prices}
	for i := range c.Upstreams {
		o.Upstreams = append(o.Upstreams, upstreamOf(&c.Upstreams[i]))
	}
	for _, r := range c.Routes {
		o.Models = append(o.Models, r.Models...)
		for alias := range r.RewriteModel {
			o.Models = append(o.Models, alias)
		}
	}
	return o
}

func upstreamOf(c *configs.Upstream) Upstream {
	u := Upstream{Name: c.Name, InputExcludesCache: c.Dialect == configs.Anthropic}
	for i, credential := range c.Credentials {
		name := credential.Name
		if name == "" {
			name = strconv.Itoa(i)
		}
		u.Credentials = append(u.Credentials, name)
	}
	return u
}

// SetUpstreams says what Request.Upstream means from now on, as after a reload:
// index[i] stands for upstreams[i]. What other numbers mean stays. One goroutine
// at a time calls it, before the first request that needs it.
func (r *Recorder) SetUpstreams(index []int, upstreams []configs.Upstream) {
	list := slices.Clone(*r.names.upstreams.Load())
	for i, at := range index {
		for at >= len(list) {
			list = append(list, Upstream{})
		}
		list[at] = upstreamOf(&upstreams[i])
	}
	r.names.upstreams.Store(&list)
}

// Recorder is the request log of one relay. Append may be called from any
// number of goroutines, until Close.
type Recorder struct {
	o      Options
	names  *names
	shards []shard
	free   freeBatches
	full   chan *Batch // has room for every batch there is
	stop   chan struct{}
	done   sync.WaitGroup
	once   sync.Once
	stats  stats

	seal    sealer
	senders []*sender
	folder  atomic.Pointer[spool.Folder] // nil: none, or it cannot be opened now
}

// shard is where some of the rows are put together.
type shard struct {
	// mu guards what follows, for as long as it takes to copy a row or to
	// change two pointers.
	mu    sync.Mutex
	batch *Batch  // nil: none was free
	first int64   // Unix milliseconds: when the batch's first row came
	rows  uint64  // that were appended, ever
	row   scratch // scratch; its text is gone with the request that it was made of
	_     [64]byte
}

const (
	defaultBlockRows = 10_000
	defaultInterval  = time.Second
	walInterval      = 50 * time.Millisecond
	maxShards        = 8
)

// Enabled reports whether a configuration asks for a request log.
func Enabled(c *configs.Config) bool { return c.RequestLog.Dir != "" || c.ClickHouse.Enabled() }

// New starts a recorder. It needs neither the folder nor ClickHouse to be
// there: what cannot be kept is dropped, counted, and said once.
func New(o Options) *Recorder {
	if o.Instance == "" {
		o.Instance, _ = os.Hostname()
	}
	if o.BlockRows == 0 {
		o.BlockRows = defaultBlockRows
	}
	if o.Interval == 0 {
		o.Interval = defaultInterval
		if o.Files.Durability == "wal" {
			o.Interval = walInterval
		}
	}
	if o.Backoff == 0 {
		o.Backoff = 250 * time.Millisecond
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	n := min(runtime.GOMAXPROCS(0), maxShards)
	batches := 3*n + 3 // being filled, being sealed, waiting to be sent
	r := &Recorder{
		o: o, names: newNames(&o), shards: make([]shard, n),
		full: make(chan *Batch, batches), stop: make(chan struct{}),
	}
	for range batches {
		r.free.put(NewBatch(o.BlockRows))
	}
	for i := range r.shards {
		r.shards[i].batch = r.free.get()
	}
	r.seal.init(r)
	if o.ClickHouse.Enabled() {
		for _, addresses := range o.ClickHouse.Servers() {
			r.senders = append(r.senders, newSender(r, addresses))
		}
	}
	r.seal.openFolder()
	r.done.Go(r.seal.run)
	for _, s := range r.senders {
		r.done.Go(s.run)
	}
	return r
}

// Append records one finished exchange. It copies what it keeps, allocates
// nothing and waits for no I/O; a row that finds no room is counted as dropped.
// It is telemetry's Options.Sink.
func (r *Recorder) Append(q *telemetry.Request) {
	s := r.lock(q)
	if s.batch == nil {
		if s.batch = r.free.get(); s.batch == nil {
			s.mu.Unlock()
			r.stats.dropped[dropQueue].Add(1)
			return
		}
	}
	b, n := s.batch, r.names
	n.fill(&s.row, q)
	if b.Rows() == 0 {
		s.first = (q.Start + q.Duration) / 1e6
	}
	if !b.Append(&s.row.Row) {
		r.full <- b // has room for every batch
		s.batch = r.free.get()
	}
	s.rows++
	s.mu.Unlock()
}

// appended is how many rows were taken.
func (r *Recorder) appended() (n uint64) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		n += s.rows
		s.mu.Unlock()
	}
	return n
}

// lock returns a locked shard: the one that the id's random bits pick, or
// another one that nobody holds.
func (r *Recorder) lock(q *telemetry.Request) *shard {
	first := int(q.ID[15]) % len(r.shards)
	for i := range r.shards {
		s := &r.shards[(first+i)%len(r.shards)]
		if s.mu.TryLock() {
			return s
		}
	}
	s := &r.shards[first]
	s.mu.Lock()
	return s
}

// takeOld takes the batches whose first row is older than the interval, or all
// that have rows.
func (r *Recorder) takeOld(now time.Time, all bool) {
	old := now.Add(-r.o.Interval).UnixMilli()
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		b := s.batch
		if b == nil || b.Rows() == 0 || !all && s.first > old {
			s.mu.Unlock()
			continue
		}
		s.batch = r.free.get()
		s.mu.Unlock()
		r.full <- b
	}
}

// recycle gives a batch back.
func (r *Recorder) recycle(b *Batch) {
	b.Reset()
	r.free.put(b)
}

// freeBatches are those that nobody fills or sends. The one that came last goes
// first: its memory is most likely still in a cache, and in use at all.
type freeBatches struct {
	mu   sync.Mutex // for one push or pop; a request takes it once in a batch
	list []*Batch
}

func (f *freeBatches) put(b *Batch) {
	f.mu.Lock()
	f.list = append(f.list, b)
	f.mu.Unlock()
}

// get returns nil where there is none.
func (f *freeBatches) get() *Batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.list)
	if n == 0 {
		return nil
	}
	b := f.list[n-1]
	f.list = f.list[:n-1]
	return b
}

// Close seals what has come, gives the senders wait to store what is sealed,
// and ends. What is not stored by then stays in the spool; the error says how
// many rows there was no place for. Append must not be called any more.
func (r *Recorder) Close(wait time.Duration) error {
	r.once.Do(func() {
		close(r.stop)
		r.seal.wait(wait)
	})
	r.done.Wait()
	if lost := r.stats.lostAtClose.Load(); lost > 0 {
		return fmt.Errorf("request log: %d rows could not be kept at the end", lost)
	}
	return nil
}
