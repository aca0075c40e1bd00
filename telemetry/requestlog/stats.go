package requestlog

import (
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"streamrelay/telemetry"
	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/spool"
)

// dropReason says why rows were dropped before they were in a file.
type dropReason int

const (
	dropQueue dropReason = iota // no batch was free: the disk or ClickHouse is slower than the requests
	dropSpool                   // no folder, or it cannot be written, and memory is full
	numDropReasons
)

var dropReasons = [numDropReasons]string{"queue_full", "no_spool"}

// stats count rows, from the start of the process.
type stats struct {
	sealed, spooled, stored, replayed, quarantined atomic.Uint64
	dropped                                        [numDropReasons]atomic.Uint64
	lostAtClose                                    atomic.Uint64
	insertErrors                                   [clickhouse.ClassPoison + 1]atomic.Uint64
	inserts                                        atomic.Uint64
	lookups                                        atomic.Uint64 // blocks looked up by their ids
	lastStored                                     atomic.Int64  // Unix milliseconds
}

// Stats are the figures of a recorder, in rows unless named otherwise.
type Stats struct {
	Appended, Sealed, Spooled, Stored, Replayed, Quarantined, Dropped uint64
	Inserts, Lookups                                                  uint64 // blocks
	Waiting                                                           int64  // in the spool, not acknowledged
	LastStored                                                        time.Time
	Shards                                                            []ShardState // of ClickHouse; nil: none is configured
}

// ShardState says whether blocks go to a shard as they are sealed, or wait in
// files.
type ShardState struct {
	Name string // its addresses
	Up   bool
}

// Stats returns those of the log's rows.
func (r *Recorder) Stats() Stats { return r.log.figures() }

func (p *pipe) figures() Stats {
	s := &p.stats
	out := Stats{
		Appended: p.in.appended(), Sealed: s.sealed.Load(), Spooled: s.spooled.Load(), Stored: s.stored.Load(),
		Replayed: s.replayed.Load(), Quarantined: s.quarantined.Load(), Inserts: s.inserts.Load(), Lookups: s.lookups.Load(),
	}
	for i := range s.dropped {
		out.Dropped += s.dropped[i].Load()
	}
	if f := p.folder.Load(); f != nil {
		for _, why := range spool.DropReasons() {
			out.Dropped += f.Dropped(why)
		}
		out.Waiting = f.Waiting()
	}
	if ms := s.lastStored.Load(); ms != 0 {
		out.LastStored = time.UnixMilli(ms)
	}
	for _, to := range p.shards() {
		out.Shards = append(out.Shards, ShardState{to.name, to.healthy.Load()})
	}
	return out
}

// Publish puts the figures on /metrics: of rows under relay_log_rows_*,
// relay_log_spool_* and so on, of bodies under relay_log_bodies_*.
func (r *Recorder) Publish(t *telemetry.Telemetry) {
	r.changing.Lock()
	defer r.changing.Unlock()
	r.published = t
	r.publishNew()
}

// publishNew publishes what there is since the last time.
func (r *Recorder) publishNew() {
	if r.published == nil {
		return
	}
	for _, p := range r.pipes() {
		p.publish(r.published)
	}
}

// publish makes the series of p where there are none yet, and those of shards
// that are new.
func (p *pipe) publish(t *telemetry.Telemetry) {
	of, others := "rows", "relay_log_"
	if p.kind != &requestLog {
		of, others = "bodies", p.kind.counts+"_"
	}
	if !p.published {
		p.published = true
		p.publishCounts(t, of, others)
	}
	t.Describe(others+"shard_up", "1 while blocks of "+of+" go to the shard as they are sealed, 0 while they wait in files, NaN once it is not configured any more.")
	for ; p.shown < len(p.shards()); p.shown++ {
		i := p.shown
		t.Gauge(others+"shard_up", telemetry.Label("shard", strconv.Itoa(i)), func() float64 {
			switch all := p.shards(); {
			case i >= len(all):
				return math.NaN()
			case all[i].healthy.Load():
				return 1
			}
			return 0
		})
	}
}

func (p *pipe) publishCounts(t *telemetry.Telemetry, of, others string) {
	s := &p.stats
	counter := func(name, labels, help string, v *atomic.Uint64) {
		t.Describe(name, help)
		t.Gauge(name, labels, func() float64 { return float64(v.Load()) })
	}
	gauge := func(name, help string, f func(*spool.Folder) float64) {
		t.Describe(name, help)
		t.Gauge(name, "", func() float64 {
			if folder := p.folder.Load(); folder != nil {
				return f(folder)
			}
			return 0
		})
	}
	counts := p.kind.counts
	t.Describe(counts+"_appended_total", "What the request log took, in "+of+".")
	t.Gauge(counts+"_appended_total", "", func() float64 { return float64(p.in.appended()) })
	counter(counts+"_sealed_total", "", "Those in blocks that are stored exactly once from here on, also after a kill, in "+of+".", &s.sealed)
	counter(counts+"_stored_total", "", "Those that ClickHouse acknowledged, in "+of+".", &s.stored)
	counter(counts+"_replayed_total", "", "Those among the stored that came from files, in "+of+".", &s.replayed)
	counter(counts+"_quarantined_total", "", "Those in blocks that ClickHouse will never take, moved to quarantine/, in "+of+".", &s.quarantined)
	counter(others+"inserts_total", "", "Blocks of "+of+" that ClickHouse acknowledged.", &s.inserts)
	counter(others+"lookups_total", "", "Blocks of "+of+" of unknown outcome whose ids were looked up before they were sent again.", &s.lookups)
	dropped, droppedHelp := counts+"_dropped_total", "Those that the request log does not have, by reason, in "+of+"."
	for i := range s.dropped {
		counter(dropped, telemetry.Label("reason", dropReasons[i]), droppedHelp, &s.dropped[i])
	}
	for _, why := range spool.DropReasons() {
		t.Gauge(dropped, telemetry.Label("reason", why.String()), func() float64 {
			if folder := p.folder.Load(); folder != nil {
				return float64(folder.Dropped(why))
			}
			return 0
		})
	}
	gauge(others+"spool_bytes", "Bytes of the files of "+of+".", func(f *spool.Folder) float64 { return float64(f.Bytes()) })
	gauge(others+"spool_files", "Files of "+of+".", func(f *spool.Folder) float64 { return float64(f.Files()) })
	gauge(others+"spool_"+of, "Those in files that ClickHouse has not acknowledged, in "+of+".", func(f *spool.Folder) float64 { return float64(f.Waiting()) })
	gauge(others+"spool_oldest_seconds", "Age of the oldest block of "+of+" that ClickHouse has not acknowledged.", func(f *spool.Folder) float64 {
		if oldest := f.Oldest(); !oldest.IsZero() {
			return max(0, time.Since(oldest).Seconds())
		}
		return 0
	})
	for c := clickhouse.ClassNetwork; c <= clickhouse.ClassPoison; c++ {
		counter(others+"insert_errors_total", telemetry.Label("class", c.String()), "Attempts to store a block of "+of+" that failed, by what is done about it.", &s.insertErrors[c])
	}
	t.Describe(others+"last_insert_timestamp_seconds", "When ClickHouse last acknowledged a block of "+of+", in Unix seconds.")
	t.Gauge(others+"last_insert_timestamp_seconds", "", func() float64 { return float64(s.lastStored.Load()) / 1e3 })
}
