package requestlog

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"streamrelay/telemetry/clickhouse/chtest"
)

// recordAll appends the exchanges from..to and waits for batches where there are
// none, since these tests are about what was taken.
func recordAll(r *Recorder, want *sums, from, to int) {
	for i := from; i < to; i++ {
		q := request(i)
		for before := r.Stats().Dropped; ; before = r.Stats().Dropped {
			r.Append(q)
			if r.Stats().Dropped == before {
				break
			}
			time.Sleep(time.Millisecond)
			r.log.stats.dropped[dropQueue].Add(^uint64(0))
		}
		want.add(q)
	}
}

func TestEveryRowIsStoredOnceWhateverHappensToAnInsert(t *testing.T) {
	s, o := store(t)
	var log journal
	o.Log, o.BlockRows, o.Interval, o.Timeout = zerolog.New(&log), 500, 50*time.Millisecond, 2*time.Second
	rows, outage := 2000, time.Duration(0)
	if long() {
		rows, outage, o.BlockRows, o.Timeout = 100_000, time.Minute, 5000, 10*time.Second
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.String())
		}
	})
	r := New(o)
	defer r.Close(0)
	var want sums
	n := 0
	for _, fault := range []struct {
		name     string
		settings []string
		lasts    time.Duration
	}{
		{"none", nil, 0},
		{"drop-ack", []string{"count", "3", "after", "1"}, 0},
		{"drop-insert", []string{"count", "3"}, 0},
		{"exception", []string{"code", "252", "count", "3", "inserts", "1"}, 0},
		{"exception", []string{"code", "241", "count", "2", "inserts", "1"}, 0},
		{"hang-query", []string{"count", "1", "inserts", "1"}, 0},
		{"refuse", nil, outage},
		{"http", nil, 0},
		{"slow", []string{"delay", "20ms", "inserts", "1"}, 0},
		{"drop-ack", []string{"count", "2"}, 0},
	} {
		s.Fault(fault.name, fault.settings...)
		recordAll(r, &want, n, n+rows)
		n += rows
		eventually(t, "the rows are sealed", func() bool { return r.Stats().Sealed == uint64(n) })
		if fault.name == "refuse" {
			eventually(t, "the outage is noticed", func() bool { return log.count(`"state":"nothing_listens"`) > 0 })
			time.Sleep(fault.lasts)
		}
		if len(fault.settings) == 0 { // the others end by themselves
			s.Fault("none")
		}
		eventually(t, fmt.Sprintf("the rows of %s are stored", fault.name), func() bool { return r.Stats().Stored == uint64(n) })
	}
	if err := r.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	if got := r.Stats(); got.Dropped != 0 || got.Waiting != 0 || got.Quarantined != 0 {
		t.Errorf("%+v", got)
	}
	t.Logf("%+v", r.Stats())
	wantStored(t, s, want)
	if states := log.count(`"state":"nothing_listens"`); states != 1 {
		t.Errorf("the outage was logged %d times, want once", states)
	}
}

// TestABlockWhoseAcknowledgementWasLostIsNotDoubledAfterItsTokenIsForgotten:
// others insert more blocks than the table remembers tokens before the retry,
// and after a restart nothing is known of the attempt.
func TestABlockWhoseAcknowledgementWasLostIsNotDoubledAfterItsTokenIsForgotten(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%t", restart), func(t *testing.T) {
			s, o := store(t)
			blocks, settings := 120, "non_replicated_deduplication_window = 100"
			// At full size once: 26 ms of the engine's CPU for each block. Beyond 1,000
			// parts each would be held up besides, by a second in the end.
			if long() && !restart {
				blocks, settings = 12_000, "parts_to_delay_insert = 100000, parts_to_throw_insert = 100000"
			}
			for _, table := range []string{"request_log", "usage_1h"} {
				s.Query("ALTER TABLE relay." + table + " MODIFY SETTING " + settings)
			}
			o.BlockRows, o.Interval, o.Backoff = 100, 20*time.Millisecond, 50*time.Millisecond
			s.Fault("drop-ack", "count", "1", "after", "1")
			r := New(o)
			var want sums
			recordAll(r, &want, 0, 200)
			eventually(t, "an acknowledgement is lost", func() bool { // and the block is stored all the same
				return s.Hits() == 1 && s.Count("SELECT count() FROM relay.request_log") > r.Stats().Stored
			})
			s.Fault("refuse") // the retry finds nobody
			if restart {
				if err := r.Close(0); err != nil {
					t.Fatal(err)
				}
			}
			// Others go on; over HTTP the fault does not hit them. Each row is a
			// block of its own under a token of its own.
			for done := 0; done < blocks; done += 120 {
				s.Query(fmt.Sprintf("INSERT INTO relay.request_log (id, ts, tenant, model, end_reason) SETTINGS insert_deduplication_token = 'other-%d', insert_deduplicate = 1, async_insert = 0,"+
					" max_block_size = 1, max_insert_block_size = 1, min_insert_block_size_rows = 1, min_insert_block_size_bytes = 1"+
					" SELECT generateUUIDv4(), toDateTime64('2026-11-24 12:00:00', 3, 'UTC'), 'other', 'm1', 'completed' FROM numbers(120)", done))
			}
			if n := s.Count("SELECT sum(newest) FROM (SELECT max(max_block_number) AS newest FROM system.parts WHERE database = 'relay' AND table = 'request_log' GROUP BY partition_id)"); n < uint64(blocks) {
				t.Fatalf("others made %d blocks, want %d", n, blocks)
			}
			want.rows += uint64(blocks)
			s.Fault("none")
			if restart {
				r = New(o)
			}
			eventually(t, "all is stored", func() bool { return r.Stats().Waiting == 0 && (restart || r.Stats().Stored == 200) })
			if err := r.Close(10 * time.Second); err != nil {
				t.Error(err)
			}
			if r.Stats().Lookups == 0 {
				t.Error("the ids were not looked up")
			}
			wantStored(t, s, want)
		})
	}
}

// TestABlockOfAShardThatIsGoneIsLookedForAtAllOthers: the configuration calls a
// server by another name than when the block was sent to it.
func TestABlockOfAShardThatIsGoneIsLookedForAtAllOthers(t *testing.T) {
	const rows, ids = "SELECT count() FROM relay.request_log", "SELECT uniqExact(id) FROM relay.request_log"
	a, o := store(t)
	b := chtest.Start(t)
	migrate(t, b, &o.ClickHouse)
	name, _ := counting(t, b.Native)
	o.ClickHouse.Address, o.Interval, o.Backoff = name, 10*time.Millisecond, 50*time.Millisecond
	b.Fault("drop-ack", "count", "1", "inserts", "1")
	r := New(o)
	var want sums
	recordAll(r, &want, 0, 100)
	eventually(t, "an acknowledgement is lost", func() bool { return b.Hits() == 1 && b.Count(rows) > 0 })
	b.Fault("refuse")
	if err := r.Close(0); err != nil {
		t.Fatal(err)
	}
	o.ClickHouse.Address, o.ClickHouse.Shards = "", [][]string{{a.Native}, {b.Native}}
	var log journal
	o.Log = zerolog.New(&log)
	r = New(o) // only a can take the block, and b cannot be asked yet
	eventually(t, "b is asked for", func() bool { return log.count(`"state":"`) > 0 })
	b.Fault("none")
	eventually(t, "nothing waits", func() bool { return r.Stats().Waiting == 0 })
	if err := r.Close(time.Second); err != nil {
		t.Error(err)
	}
	if a.Count(rows)+b.Count(rows) != 100 || a.Count(ids)+b.Count(ids) != 100 || b.Count(rows) == 0 {
		t.Errorf("%d rows at a, %d at b", a.Count(rows), b.Count(rows))
	}
}

func long() bool { return os.Getenv("RELAY_TEST_LONG") != "" }
