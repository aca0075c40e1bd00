package requestlog

import (
	"fmt"
	"testing"
	"time"
)

// TestAPartitionThatIsDroppedHidesNoInserts: those that push a token out of the
// server's window.
func TestAPartitionThatIsDroppedHidesNoInserts(t *testing.T) {
	s, o := store(t)
	for _, table := range []string{"request_log", "usage_1h"} {
		s.Query("ALTER TABLE relay." + table + " MODIFY SETTING non_replicated_deduplication_window = 100, old_parts_lifetime = 0")
	}
	others := func(day, tag string, n int) {
		s.Query(fmt.Sprintf("INSERT INTO relay.request_log (id, ts, tenant, model, end_reason) SETTINGS insert_deduplication_token = 'other-%s', insert_deduplicate = 1, async_insert = 0,"+
			" max_block_size = 1, max_insert_block_size = 1, min_insert_block_size_rows = 1, min_insert_block_size_bytes = 1"+
			" SELECT generateUUIDv4(), toDateTime64('%s 12:00:00', 3, 'UTC'), 'other', 'm1', 'completed' FROM numbers(%d)", tag, day, n))
	}
	others("2026-11-20", "old", 110)
	others("2026-11-24", "today", 1)
	o.BlockRows, o.Interval, o.Backoff = 100, 20*time.Millisecond, 50*time.Millisecond
	s.Fault("drop-ack", "count", "1", "after", "1")
	r := New(o)
	defer r.Close(0)
	var want sums
	recordAll(r, &want, 0, 200)
	eventually(t, "an acknowledgement is lost", func() bool {
		return s.Hits() == 1 && s.Count("SELECT count() FROM relay.request_log WHERE tenant != 'other'") > r.Stats().Stored
	})
	s.Fault("refuse")
	others("2026-11-24", "new", 120)
	s.Query("ALTER TABLE relay.request_log DROP PARTITION '2026-11-20'") // as TTL does each day
	eventually(t, "its parts are gone", func() bool {
		return s.Count("SELECT count() FROM system.parts WHERE database = 'relay' AND table = 'request_log' AND partition = '2026-11-20'") == 0
	})
	s.Fault("none")
	eventually(t, "all is stored", func() bool { return r.Stats().Stored == 200 })
	rows, ids := s.Count("SELECT count() FROM relay.request_log WHERE tenant != 'other'"), s.Count("SELECT uniqExact(id) FROM relay.request_log WHERE tenant != 'other'")
	if rows != 200 || ids != 200 || r.Stats().Lookups == 0 {
		t.Errorf("%d rows, %d ids of 200; %d lookups", rows, ids, r.Stats().Lookups)
	}
}
