package requestlog

import (
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
}

// Stats returns them.
func (r *Recorder) Stats() Stats {
	s := &r.stats
	out := Stats{
		Appended: r.appended(), Sealed: s.sealed.Load(), Spooled: s.spooled.Load(), Stored: s.stored.Load(),
		Replayed: s.replayed.Load(), Quarantined: s.quarantined.Load(), Inserts: s.inserts.Load(), Lookups: s.lookups.Load(),
	}
	for i := range s.dropped {
		out.Dropped += s.dropped[i].Load()
	}
	if f := r.folder.Load(); f != nil {
		for _, why := range spool.DropReasons() {
			out.Dropped += f.Dropped(why)
		}
		out.Waiting = f.Waiting()
	}
	return out
}

// Publish puts the figures on /metrics.
func (r *Recorder) Publish(t *telemetry.Telemetry) {
	s := &r.stats
	counter := func(name, labels, help string, v *atomic.Uint64) {
		t.Describe(name, help)
		t.Gauge(name, labels, func() float64 { return float64(v.Load()) })
	}
	gauge := func(name, help string, f func(*spool.Folder) float64) {
		t.Describe(name, help)
		t.Gauge(name, "", func() float64 {
			if folder := r.folder.Load(); folder != nil {
				return f(folder)
			}
			return 0
		})
	}
	t.Describe("relay_log_rows_appended_total", "Rows that the request log took.")
	t.Gauge("relay_log_rows_appended_total", "", func() float64 { return float64(r.appended()) })
	counter("relay_log_rows_sealed_total", "", "Rows in blocks that are stored exactly once from here on, also after a kill.", &s.sealed)
	counter("relay_log_rows_stored_total", "", "Rows that ClickHouse acknowledged.", &s.stored)
	counter("relay_log_rows_replayed_total", "", "Rows among those stored that came from files.", &s.replayed)
	counter("relay_log_rows_quarantined_total", "", "Rows in blocks that ClickHouse will never take, moved to quarantine/.", &s.quarantined)
	counter("relay_log_inserts_total", "", "Blocks that ClickHouse acknowledged.", &s.inserts)
	counter("relay_log_lookups_total", "", "Blocks of unknown outcome whose ids were looked up before they were sent again.", &s.lookups)
	const dropped, droppedHelp = "relay_log_rows_dropped_total", "Rows that the request log does not have, by reason."
	for i := range s.dropped {
		counter(dropped, telemetry.Label("reason", dropReasons[i]), droppedHelp, &s.dropped[i])
	}
	for _, why := range spool.DropReasons() {
		t.Gauge(dropped, telemetry.Label("reason", why.String()), func() float64 {
			if folder := r.folder.Load(); folder != nil {
				return float64(folder.Dropped(why))
			}
			return 0
		})
	}
	gauge("relay_log_spool_bytes", "Bytes of the request log's files.", func(f *spool.Folder) float64 { return float64(f.Bytes()) })
	gauge("relay_log_spool_files", "Files of the request log.", func(f *spool.Folder) float64 { return float64(f.Files()) })
	gauge("relay_log_spool_rows", "Rows in files that ClickHouse has not acknowledged.", func(f *spool.Folder) float64 { return float64(f.Waiting()) })
	gauge("relay_log_spool_oldest_seconds", "Age of the oldest block that ClickHouse has not acknowledged.", func(f *spool.Folder) float64 {
		if oldest := f.Oldest(); !oldest.IsZero() {
			return max(0, time.Since(oldest).Seconds())
		}
		return 0
	})
	for c := clickhouse.ClassNetwork; c <= clickhouse.ClassPoison; c++ {
		counter("relay_log_insert_errors_total", telemetry.Label("class", c.String()), "Attempts to store a block that failed, by what is done about it.", &s.insertErrors[c])
	}
	t.Describe("relay_log_last_insert_timestamp_seconds", "When ClickHouse last acknowledged a block, in Unix seconds.")
	t.Gauge("relay_log_last_insert_timestamp_seconds", "", func() float64 { return float64(s.lastStored.Load()) / 1e3 })
	if len(r.senders) == 0 {
		return
	}
	t.Describe("relay_log_shard_up", "1 while blocks go to the shard as they are sealed, 0 while they wait in files.")
	for i, to := range r.senders {
		t.Gauge("relay_log_shard_up", telemetry.Label("shard", strconv.Itoa(i)), func() float64 {
			if to.healthy.Load() {
				return 1
			}
			return 0
		})
	}
}
