package requestlog

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"streamrelay/telemetry"
	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/spool"
)

// TestTheRestOfABlockIsNotDoubled: a part of a block of an earlier process is
// stored, the rest is sent, and the acknowledgement of that is lost.
func TestTheRestOfABlockIsNotDoubled(t *testing.T) {
	for name, c := range map[string]struct {
		at   func(q *telemetry.Request, i int)
		part func(h *spool.Header, b *Block) (part batch, token string)
	}{
		"its token is forgotten": {func(*telemetry.Request, int) {}, func(_ *spool.Header, b *Block) (batch, string) {
			n := 0
			return requestLog.pick(b, func(uuid.UUID) bool { n++; return n%2 == 0 }), "forgotten"
		}},
		// Its rows fall in two partitions, of which the server stored one when it
		// was killed.
		"over midnight": {func(q *telemetry.Request, i int) {
			if i%2 == 1 {
				q.Start += 24 * 3600 * 1e9
				q.ID = telemetry.NewID(q.Start)
			}
		}, func(h *spool.Header, b *Block) (batch, string) {
			part := NewBatch()
			var row Row
			for i := range b.Rows() {
				if b.Row(i, &row); time.UnixMilli(row.Start).UTC().Day() == 24 {
					part.Append(&row)
				}
			}
			return part, h.Token
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s, o := store(t)
			o.BlockRows, o.Interval, o.Backoff = 100, 20*time.Millisecond, 50*time.Millisecond
			s.Fault("refuse")
			r := New(o)
			var want sums
			for i := range 100 {
				q := request(i)
				c.at(q, i)
				r.Append(q)
				want.add(q)
			}
			if err := r.Close(0); err != nil {
				t.Fatal(err)
			}
			s.Fault("none")
			conn, err := clickhouse.Dial(t.Context(), s.Native, clickhouse.FromConfig(&o.ClickHouse))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			table, err := conn.Describe(t.Context(), "request_log")
			if err != nil {
				t.Fatal(err)
			}
			files, err := spool.Files(o.Files.Dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if _, err := spool.Blocks(f.Path, nil, func(h *spool.Header, frame []byte) error {
					var b Block
					if err := b.Unpack(frame); err != nil {
						return err
					}
					part, token := c.part(h, &b)
					return conn.Insert(t.Context(), table, part.Input(), token)
				}); err != nil {
					t.Fatal(err)
				}
			}
			if n := s.Count("SELECT count() FROM relay.request_log"); n != 50 {
				t.Fatalf("%d rows are stored beforehand", n)
			}
			s.Fault("drop-ack", "count", "1", "inserts", "1")
			r = New(o)
			eventually(t, "nothing waits", func() bool { return r.Stats().Waiting == 0 })
			if err := r.Close(10 * time.Second); err != nil {
				t.Error(err)
			}
			if s.Hits() != 1 {
				t.Errorf("%d acknowledgements were lost", s.Hits())
			}
			wantStored(t, s, want)
		})
	}
}

// TestRowsThatWereThereAlreadyAreSaidForTheRollup: a view fails, the relay starts
// again, and nobody can tell any more under which token the rows are there.
func TestRowsThatWereThereAlreadyAreSaidForTheRollup(t *testing.T) {
	s, o := store(t)
	var log journal
	o.Log, o.Interval, o.Backoff = zerolog.New(&log), 20*time.Millisecond, 50*time.Millisecond
	s.Query("ALTER TABLE relay.usage_1h ADD CONSTRAINT broken CHECK tenant = 'nobody'")
	r := New(o)
	var want sums
	recordAll(r, &want, 0, 100)
	eventually(t, "refused", func() bool { return r.log.stats.insertErrors[clickhouse.ClassWait].Load() > 0 })
	if err := r.Close(0); err != nil {
		t.Fatal(err)
	}
	s.Query("ALTER TABLE relay.usage_1h DROP CONSTRAINT broken")
	r = New(o)
	eventually(t, "nothing waits", func() bool { return r.Stats().Waiting == 0 })
	if err := r.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	if n := s.Count("SELECT count() FROM relay.request_log"); n != want.rows {
		t.Errorf("%d rows", n)
	}
	lacks := want.rows - s.Count("SELECT sum(requests) FROM relay.usage_1h")
	if lacks == 0 || log.count(fmt.Sprintf(`"rows":%d,"from":"2026-11-24T12:00:00Z","to":"2026-11-24T12:00:00Z","table":"request_log"`, lacks)) != 1 || log.count("usage_1h lacks them") != 1 {
		t.Errorf("%d rows are not in the rollup, and it is said:\n%s", lacks, log.String())
	}
}
