package requestlog

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"streamrelay/telemetry"
	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/spool"
)

// TestTheRestOfABlockIsNotDoubled: a part of a block of an earlier process is
// stored, the rest is sent, and the acknowledgement of that is lost.
func TestTheRestOfABlockIsNotDoubled(t *testing.T) {
	s, o := store(t)
	o.BlockRows, o.Interval, o.Backoff = 100, 20*time.Millisecond, 50*time.Millisecond
	s.Fault("refuse")
	r := New(o)
	var want sums
	recordAll(r, &want, 0, 100)
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
	files, _ := spool.Files(o.Files.Dir)
	for _, f := range files {
		if _, err := spool.Blocks(f.Path, nil, func(h *spool.Header, frame []byte) error {
			var b Block
			if err := b.Unpack(frame); err != nil {
				return err
			}
			n := 0
			half := requestLog.pick(&b, func(uuid.UUID) bool { n++; return n%2 == 0 })
			return conn.Insert(t.Context(), table, half.Input(), "forgotten") // as a part of the block, such as one partition's
		}); err != nil {
			t.Fatal(err)
		}
	}
	s.Fault("drop-ack", "count", "1", "inserts", "1")
	r = New(o)
	eventually(t, "nothing waits", func() bool { return r.Stats().Waiting == 0 })
	if err := r.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	wantStored(t, s, want)
}

// TestTheRestOfABlockOverMidnightIsNotDoubled: its rows fall in two partitions, of which the server has stored one
// when it is killed.
func TestTheRestOfABlockOverMidnightIsNotDoubled(t *testing.T) {
	s, o := store(t)
	o.BlockRows, o.Interval, o.Backoff = 100, 20*time.Millisecond, 50*time.Millisecond
	s.Fault("refuse")
	r := New(o)
	var want sums
	for i := range 100 {
		q := request(i)
		if i%2 == 1 {
			q.Start += 24 * 3600 * 1e9
			q.ID = telemetry.NewID(q.Start)
		}
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
	files, _ := spool.Files(o.Files.Dir)
	for _, f := range files {
		if _, err := spool.Blocks(f.Path, nil, func(h *spool.Header, frame []byte) error {
			var b Block
			if err := b.Unpack(frame); err != nil {
				return err
			}
			part := NewBatch()
			var row Row
			for i := range b.Rows() {
				b.Row(i, &row)
				if time.UnixMilli(row.Start).UTC().Day() == 24 {
					part.Append(&row)
				}
			}
			return conn.Insert(t.Context(), table, part.Input(), h.Token)
		}); err != nil {
			t.Fatal(err)
		}
	}
	s.Fault("drop-ack", "count", "1", "inserts", "1")
	r = New(o)
	eventually(t, "nothing waits", func() bool { return r.Stats().Waiting == 0 })
	if err := r.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	wantStored(t, s, want)
}
