package requestlog

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"streamrelay/telemetry"
)

const (
	defaultBlockRows = 10_000
	// recordRows are what one shard collects before the sealer takes them.
	recordRows = 4096
	maxShards  = 8
	// spareColumns are the batches beside the one that is being made: a sender
	// holds at most liveBlocks+1 of them.
	spareColumns = 2*liveBlocks + 3
)

// rows is the source of the log's rows. Requests append records to shards; the
// sealer makes columns of them, of all shards together, so that a relay makes
// one block in an interval and not one for each shard.
type rows struct {
	names     atomic.Pointer[names]
	blockRows int
	shards    []shard
	free      pool[records]
	full      chan *records // has room for all there are
	came      chan struct{} // has room for one: full has something
	dropped   *atomic.Uint64

	columns pool[Batch]

	// What follows is the sealer's own.
	filler filler
	held   []*records // taken, and not yet in columns
	cur    *Batch
	first  int64 // Unix milliseconds: when the first row in cur came
}

// shard is where some of the records are put together.
type shard struct {
	// mu guards what follows, for as long as it takes to copy a record or to
	// change two pointers.
	mu       sync.Mutex
	records  *records // nil: none were free
	appended uint64   // ever
	_        [64]byte
}

func newRows(o *Options, dropped *atomic.Uint64) *rows {
	return newRowsOf(o, min(runtime.GOMAXPROCS(0), maxShards), dropped)
}

func newRowsOf(o *Options, shards int, dropped *atomic.Uint64) *rows {
	n := 2*shards + 8
	s := &rows{
		blockRows: min(o.BlockRows, maxDict), shards: make([]shard, shards), full: make(chan *records, n), came: make(chan struct{}, 1),
		filler: filler{learned: make(map[string]*model)}, dropped: dropped,
	}
	s.names.Store(newNames(o))
	for range n {
		s.free.put(newRecords(min(recordRows, s.blockRows)))
	}
	for range 1 + spareColumns {
		s.columns.put(NewBatch())
	}
	return s
}

// add is Recorder.Append.
func (s *rows) add(q *telemetry.Request) {
	n := s.names.Load()
	sh := s.lock(q)
	b := sh.records
	if b == nil || b.names != n {
		if b = s.renamed(b, n); b == nil {
			sh.records = nil
			sh.mu.Unlock()
			s.dropped.Add(1)
			return
		}
		sh.records = b
	}
	if !b.add(q) {
		s.hand(b)
		sh.records = nil
	}
	sh.appended++
	sh.mu.Unlock()
}

// renamed returns records under n: b where it is empty, else others, nil where
// there are none.
func (s *rows) renamed(b *records, n *names) *records {
	if b != nil && len(b.list) > 0 {
		s.hand(b)
		b = nil
	}
	if b == nil {
		b = s.free.get()
	}
	if b != nil {
		b.names = n
	}
	return b
}

func (s *rows) hand(b *records) {
	s.full <- b
	select {
	case s.came <- struct{}{}:
	default:
	}
}

// lock returns a locked shard: the one that the id's random bits pick, or
// another one that nobody holds.
func (s *rows) lock(q *telemetry.Request) *shard {
	first := int(q.ID[15]) % len(s.shards)
	for i := range s.shards {
		sh := &s.shards[(first+i)%len(s.shards)]
		if sh.mu.TryLock() {
			return sh
		}
	}
	sh := &s.shards[first]
	sh.mu.Lock()
	return sh
}

// appended is how many rows were taken.
func (s *rows) appended() (n uint64) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += sh.appended
		sh.mu.Unlock()
	}
	return n
}

func (s *rows) ready() <-chan struct{} { return s.came }

func (s *rows) spare() bool { return s.columns.len() > 0 }

func (s *rows) room() bool { return s.free.len() > len(s.shards) }

func (s *rows) recycle(b batch) {
	b.Reset()
	s.columns.put(b.(*Batch))
}

// take returns the next block that is due: a full one, or what has come in all
// where the first of it came at since or before; nil: none is, or no columns
// are free.
func (s *rows) take(since int64) batch {
	s.collect(since)
	for len(s.held) > 0 {
		b := s.held[0]
		if s.cur == nil {
			if s.cur = s.columns.get(); s.cur == nil {
				return nil
			}
			s.first = b.first
		}
		if n := s.cur.Rows(); n > 0 && n+len(b.list) > s.blockRows {
			return s.sealed()
		}
		s.cur.fill(&s.filler, b)
		s.first = min(s.first, b.first)
		b.reset()
		s.free.put(b)
		s.held = s.held[1:]
	}
	s.held = nil
	if s.cur != nil && s.cur.Rows() > 0 && (s.first <= since || s.cur.Rows() >= s.blockRows) {
		return s.sealed()
	}
	return nil
}

func (s *rows) sealed() batch {
	b := s.cur
	s.cur = nil
	return b
}

// collect moves what is full to held, and what the shards have where any of it
// is due.
func (s *rows) collect(since int64) {
	for {
		select {
		case b := <-s.full:
			s.held = append(s.held, b)
			continue
		default:
		}
		break
	}
	due := s.cur != nil && s.cur.Rows() > 0 && s.first <= since || len(s.held) > 0 && s.held[0].first <= since
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		due = due || sh.records != nil && len(sh.records.list) > 0 && sh.records.first <= since
		sh.mu.Unlock()
	}
	if !due {
		return
	}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		if b := sh.records; b != nil && len(b.list) > 0 {
			s.held = append(s.held, b)
			sh.records = nil // the next request takes a free one
		}
		sh.mu.Unlock()
	}
}

// requestLog is the kind of the log's rows.
var requestLog = kind{
	table: "request_log", rollup: "usage_1h", prefix: filePrefix("request_log"), counts: "relay_log_rows", columns: Columns(), merge: 50_000,
	packed: 500, // zstd takes 1 µs a row, ten times as much, for 61 bytes in place of 95
	pick: func(b *Block, want func(id uuid.UUID) bool) batch {
		out := NewBatch()
		out.pick(b, want)
		return out
	},
}

// pick appends the rows of b that are wanted; nil wants all.
func (b *Batch) pick(from *Block, want func(id uuid.UUID) bool) {
	var row Row
	for i := range from.Rows() {
		from.Row(i, &row)
		if want == nil || want(row.ID) {
			b.Append(&row)
		}
	}
}
