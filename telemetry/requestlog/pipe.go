package requestlog

import (
	"fmt"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"streamrelay/configs"
	"streamrelay/telemetry/spool"
)

// source is what a pipe's rows come from: the rows of the log, or bodies. Only
// recycle, spare and room may be called by others than the sealer.
type source interface {
	// take returns a batch that is full, or whose first row came at since (Unix
	// milliseconds) or before; nil: there is none.
	take(since int64) batch
	// ready says that a batch may be full.
	ready() <-chan struct{}
	// spare reports whether there is a batch for what comes next.
	spare() bool
	// room reports whether rows find memory for a while though none is taken.
	room() bool
	recycle(batch)
	appended() uint64
}

// kind is what the pipes differ in.
type kind struct {
	table   string // in ClickHouse
	prefix  string // of the names of files
	folder  string // within request_log.dir; "": that itself
	counts  string // begins the names of metrics
	rollup  string // what a view of the table writes to; "": there is none
	columns []string
	packed  int // rows from which on a block is packed and no longer compressed; 0: none
	merge   int // rows of small blocks that may go in one INSERT where there are too many parts; 0: none
	// pick copies the rows of a block that are wanted; nil wants all.
	pick func(b *Block, want func(id uuid.UUID) bool) batch
}

func filePrefix(table string) string { return fmt.Sprintf("%s.v%d", table, SchemaVersion) }

// pipe brings the rows of one table from where they are appended to ClickHouse,
// or into files that are the log.
type pipe struct {
	kind  *kind
	in    source
	log   zerolog.Logger
	stats stats

	interval, backoff, timeout time.Duration
	inserted                   func(time.Duration) // Options.Inserted

	seal      sealer
	published bool // the recorder's: publish has been called, and shown shards have a series
	shown     int

	stop    chan struct{}
	asked   chan func() // what the sealer is to do between two blocks
	done    sync.WaitGroup
	once    sync.Once
	senders atomic.Pointer[[]*sender]
	folder  atomic.Pointer[spool.Folder] // nil: none, or it cannot be opened now
}

// start makes a pipe of kind k for what comes from in.
func (p *pipe) start(k *kind, in source, o *Options) {
	p.kind, p.in, p.log = k, in, o.Log
	p.interval, p.backoff, p.timeout, p.inserted = o.Interval, o.Backoff, o.Timeout, o.Inserted
	p.stop, p.asked = make(chan struct{}), make(chan func())
	p.seal.init(p, o.Files, o.ClickHouse)
	p.setSenders(nil)
	p.seal.openFolder()
	for _, s := range p.shards() {
		s.begun = true
		p.done.Go(s.run)
	}
	p.done.Go(p.seal.run)
}

// setSenders makes the senders that the configuration asks for, who begin with
// what of left is theirs, and returns the rest. They do not run yet.
func (p *pipe) setSenders(left []*block) []*block {
	var list []*sender
	if c := &p.seal.clickhouse; c.Enabled() {
		for _, addresses := range c.Servers() {
			list = append(list, newSender(p, addresses, c))
		}
	}
	for _, s := range list {
		s.peers = list
		var others []*block
		for _, x := range left {
			if x.target != "" && shares(x.target, s.name) {
				s.first = append(s.first, x)
			} else {
				others = append(others, x)
			}
		}
		left = others
	}
	p.senders.Store(&list)
	return left
}

// shards are the senders there are.
func (p *pipe) shards() []*sender { return *p.senders.Load() }

// ask has the sealer do something between two blocks, and waits for it.
func (p *pipe) ask(do func()) {
	done := make(chan struct{})
	select {
	case p.asked <- func() { do(); close(done) }:
		<-done
	case <-p.stop:
	}
}

// close ends the pipe as Recorder.Close says.
func (p *pipe) close(wait time.Duration) {
	p.once.Do(func() {
		p.seal.deadline <- wait
		close(p.stop)
	})
	p.done.Wait()
}

// folderOptions are the folder's, as the configuration has them.
func (p *pipe) folderOptions(boot string, c *configs.RequestLog, store bool) spool.Options {
	return spool.Options{
		Prefix: p.kind.prefix, Boot: boot, Store: store,
		MaxBytes: int64(c.MaxBytes), MaxAge: p.kind.retention(c), Fsync: c.Fsync,
		Warn: func(text string) { p.log.Warn().Msg("request log: " + text) },
	}
}

// retention is how long the kind's files are kept.
func (k *kind) retention(c *configs.RequestLog) time.Duration {
	if k == &requestBodies {
		return c.BodyRetention
	}
	return c.Retention
}

// dir is the kind's folder.
func (k *kind) dir(c *configs.RequestLog) string {
	if c.Dir == "" {
		return ""
	}
	return filepath.Join(c.Dir, k.folder)
}

// ids returns the ids of a block's rows, and the earliest and the latest time
// of them in Unix milliseconds.
func (b *Block) ids() (ids []uuid.UUID, from, to int64, err error) {
	from, to = math.MaxInt64, 0
	var times *proto.ColDateTime64
	for _, c := range b.columns {
		switch col := data(c).(type) {
		case *proto.ColUUID:
			if c.Name == "id" {
				ids = *col
			}
		case *proto.ColDateTime64:
			if c.Name == "ts" {
				times = col
			}
		}
	}
	if len(ids) != b.rows || times == nil || len(times.Data) != b.rows {
		return nil, 0, 0, fmt.Errorf("%w: without ids or times", errBlock)
	}
	for _, t := range times.Data {
		from, to = min(from, int64(t)), max(to, int64(t))
	}
	return ids, from, to, nil
}
