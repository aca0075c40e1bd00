package requestlog

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"streamrelay/configs"
	"streamrelay/telemetry/clickhouse/chtest"
	"streamrelay/telemetry/spool"
)

// TestABlockOfNoShardIsLookedForAtAll: rows of files that were the log, of which
// one server has a block whose acknowledgement was lost.
func TestABlockOfNoShardIsLookedForAtAll(t *testing.T) {
	const rows = "SELECT count() FROM relay.request_log"
	a, o := store(t)
	b := chtest.Start(t)
	migrate(t, b, &o.ClickHouse)
	ch := o.ClickHouse
	var want sums
	for i := range 8 {
		// A relay without ClickHouse is killed.
		dir := t.TempDir()
		o.Files = configs.RequestLog{Dir: dir, MaxBytes: configs.GiB, Durability: "spool", Fsync: "never"}
		o.ClickHouse = configs.ClickHouse{}
		o.BlockRows, o.Interval, o.Backoff = 100, 20*time.Millisecond, 50*time.Millisecond
		r := New(o)
		recordAll(r, &want, i*100, i*100+100)
		eventually(t, "sealed", func() bool { return r.Stats().Sealed == 100 })
		files, err := spool.Files(dir)
		if err != nil || len(files) != 1 || !files[0].Open {
			t.Fatalf("%+v, %v", files, err)
		}
		data, err := os.ReadFile(files[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close(0)
		dir = t.TempDir()
		place := filepath.Join(dir, "spool", "0")
		if err := errors.Join(os.MkdirAll(place, 0o700), os.WriteFile(filepath.Join(place, filepath.Base(files[0].Path)), data, 0o600)); err != nil {
			t.Fatal(err)
		}
		o.Files.Dir = dir
		// It starts again with a server whose acknowledgement is lost, then with two.
		o.ClickHouse = ch
		o.ClickHouse.Address, o.ClickHouse.Shards = "", [][]string{{a.Native}}
		a.Fault("drop-ack", "count", "1", "inserts", "1")
		before := a.Count(rows)
		r = New(o)
		eventually(t, "an acknowledgement is lost", func() bool { return a.Hits() == 1 && a.Count(rows) > before })
		a.Fault("refuse")
		_ = r.Close(0)
		a.Fault("none")
		o.ClickHouse.Shards = [][]string{{b.Native}, {a.Native}}
		r = New(o)
		eventually(t, "nothing waits", func() bool { return r.Stats().Waiting == 0 })
		if err := r.Close(time.Second); err != nil {
			t.Error(err)
		}
	}
	if n := a.Count(rows) + b.Count(rows); n != want.rows {
		t.Errorf("%d rows at both, want %d", n, want.rows)
	}
}
