package requestlog

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"streamrelay/telemetry/clickhouse/chtest"
)

func TestATableThatLacksColumnsGetsTheRest(t *testing.T) {
	s, o := store(t)
	var log journal
	o.Log, o.Interval = zerolog.New(&log), 20*time.Millisecond
	s.Query("ALTER TABLE relay.request_log DROP COLUMN gap_max_us, DROP COLUMN user_agent, DROP COLUMN `tries.status`, DROP INDEX ix_trace_id, DROP COLUMN trace_id")
	r := New(o)
	var want sums
	recordAll(r, &want, 0, 100)
	eventually(t, "the rows are stored", func() bool { return r.Stats().Stored == 100 })
	if err := r.Close(time.Second); err != nil {
		t.Error(err)
	}
	wantStored(t, s, want)
	if log.count(`"columns":"gap_max_us, user_agent, tries.status, trace_id"`) != 1 {
		t.Errorf("not said once:\n%s", log.String())
	}
}

func TestRowsWaitForAMissingTableAndAreSentOnceItIsThere(t *testing.T) {
	s := chtest.Start(t)
	o := options()
	o.Files.Dir, o.ClickHouse.Database, o.ClickHouse.Username, o.ClickHouse.Address = t.TempDir(), "relay", "default", s.Native
	o.Interval = 20 * time.Millisecond
	o.ClickHouse.Compression = "zstd"
	var log journal
	o.Log = zerolog.New(&log)
	r := New(o)
	var want sums
	recordAll(r, &want, 0, 100)
	eventually(t, "it is said", func() bool { return log.count(`"state":"no_database"`) == 1 })
	migrate(t, s, &o.ClickHouse)
	eventually(t, "the rows are stored", func() bool { return r.Stats().Stored == 100 })
	if err := r.Close(time.Second); err != nil {
		t.Error(err)
	}
	wantStored(t, s, want)
}

// TestSmallBlocksGoTogetherWhereThereAreTooManyParts: after code 252 blocks wait
// in the spool, and several of them are one INSERT; each row is there once, also
// where an acknowledgement of such an INSERT is lost.
func TestSmallBlocksGoTogetherWhereThereAreTooManyParts(t *testing.T) {
	s, o := store(t)
	o.BlockRows, o.Interval = 50, 10*time.Millisecond
	s.Fault("exception", "code", "252", "inserts", "1", "count", "5")
	r := New(o)
	var want sums
	recordAll(r, &want, 0, 50)
	eventually(t, "the server has too many parts", func() bool { return s.Hits() > 0 })
	recordAll(r, &want, 50, 2000)
	eventually(t, "the rows are sealed", func() bool { return r.Stats().Sealed == 2000 })
	s.Fault("drop-ack", "count", "1", "inserts", "1")
	eventually(t, "the rows are stored", func() bool { return r.Stats().Stored == 2000 })
	if got := r.Stats(); got.Inserts > 20 { // of 40 blocks and more
		t.Errorf("%+v", got)
	}
	wantStored(t, s, want)
	eventually(t, "blocks go as they are sealed again", func() bool {
		recordAll(r, &want, int(want.rows), int(want.rows)+10)
		return r.log.shards()[0].healthy.Load()
	})
	eventually(t, "the rows are stored", func() bool { return r.Stats().Stored == want.rows })
	if err := r.Close(time.Second); err != nil {
		t.Error(err)
	}
	if got := r.Stats(); got.Waiting != 0 || got.Dropped != 0 {
		t.Errorf("%+v", got)
	}
	wantStored(t, s, want)
}

func TestABlockThatIsNeverTakenIsPutAsideAndTheQueueGoesOn(t *testing.T) {
	s, o := store(t)
	var log journal
	o.Log, o.BlockRows, o.Interval = zerolog.New(&log), 100, 20*time.Millisecond
	s.Fault("exception", "code", "117", "inserts", "1")
	r := New(o)
	var want sums
	recordAll(r, &want, 0, 500)
	// Not by a count of faults: one can be lost to a reset that overtakes it.
	eventually(t, "a block is put aside", func() bool { return r.Stats().Quarantined > 0 })
	s.Fault("none")
	recordAll(r, &want, 500, 1000)
	eventually(t, "the others are stored", func() bool { return r.Stats().Stored+r.Stats().Quarantined == 1000 })
	if err := r.Close(time.Second); err != nil {
		t.Error(err)
	}
	aside, _ := filepath.Glob(filepath.Join(o.Files.Dir, "quarantine", "*.native.zst"))
	kept := uint64(0)
	for _, path := range aside {
		kept += s.Count("SELECT count() FROM file('" + path + "', 'Native')")
	}
	if kept == 0 || kept > 500 || kept != r.Stats().Quarantined || s.Count("SELECT uniqExact(id) FROM relay.request_log") != 1000-kept {
		t.Errorf("%d rows put aside, %+v\n%s", kept, r.Stats(), log.String())
	}
}

// TestEveryDurabilityKeepsAllRowsAcrossAnOutageAndARestart: with memory, what
// does not fit there goes to files.
func TestEveryDurabilityKeepsAllRowsAcrossAnOutageAndARestart(t *testing.T) {
	for _, durability := range []string{"memory", "spool", "wal"} {
		t.Run(durability, func(t *testing.T) {
			s, o := store(t)
			o.Files.Durability, o.BlockRows = durability, 200
			s.Fault("refuse")
			r := New(o)
			var want sums
			recordAll(r, &want, 0, 5000)
			if err := r.Close(50 * time.Millisecond); err != nil {
				t.Error(err)
			}
			s.Fault("none")
			r = New(o)
			recordAll(r, &want, 5000, 6000)
			eventually(t, "all is stored", func() bool { return r.Stats().Stored == 6000 })
			if err := r.Close(time.Second); err != nil {
				t.Error(err)
			}
			wantStored(t, s, want)
		})
	}
}

// TestBlocksGoRoundTheShardsAndADoubtfulOneStaysAtItsOwn: two servers are two
// shards; an acknowledgement that one of them owes is not sought at the other.
func TestBlocksGoRoundTheShardsAndADoubtfulOneStaysAtItsOwn(t *testing.T) {
	a, o := store(t)
	b := chtest.Start(t)
	o.ClickHouse.Shards, o.ClickHouse.Address = [][]string{{a.Native}, {"127.0.0.1:1", b.Native}}, "" // b's first replica is down
	migrate(t, b, &o.ClickHouse)
	o.BlockRows, o.Interval = 100, 20*time.Millisecond
	a.Fault("drop-ack", "count", "1")
	r := New(o)
	var want sums
	recordAll(r, &want, 0, 4000)
	eventually(t, "all is stored", func() bool { return r.Stats().Stored == 4000 })
	if err := r.Close(time.Second); err != nil {
		t.Error(err)
	}
	atA, atB := a.Count("SELECT uniqExact(id) FROM relay.request_log"), b.Count("SELECT uniqExact(id) FROM relay.request_log")
	if rows := a.Count("SELECT count() FROM relay.request_log") + b.Count("SELECT count() FROM relay.request_log"); rows != 4000 || atA+atB != 4000 || atA == 0 || atB == 0 {
		t.Errorf("%d rows, %d ids at one shard and %d at the other", rows, atA, atB)
	}
	if hits := a.Hits(); hits != 1 {
		t.Errorf("%d acknowledgements were lost, want 1", hits)
	}
}

// TestAFolderThatCannotBeWrittenIsSaidAndSoIsItsEnd: the rows of meanwhile wait
// in memory, and those that found no room there are counted. A limit of file
// sizes stands for a full disk.
func TestAFolderThatCannotBeWrittenIsSaidAndSoIsItsEnd(t *testing.T) {
	for _, test := range []struct {
		name      string
		meanwhile int
		drops     bool
	}{{"a few rows", 7, false}, {"more than memory holds", 5000, true}} {
		t.Run(test.name, func(t *testing.T) {
			var log journal
			o := options()
			o.Files.Dir, o.Interval, o.Log, o.BlockRows = t.TempDir(), 5*time.Millisecond, zerolog.New(&log), 100
			r := New(o)
			record := func(n int) {
				for i := range n {
					r.Append(request(i))
				}
			}
			record(10)
			eventually(t, "ten rows are in files", func() bool { return r.Stats().Spooled == 10 })
			var before syscall.Rlimit
			if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1, Max: before.Max}); err != nil {
				t.Fatal(err)
			}
			record(test.meanwhile)
			said := func() bool {
				return log.count("cannot be written to the folder") > 0 && (!test.drops || r.Stats().Dropped > 0)
			}
			for end := time.Now().Add(time.Minute); !said() && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the rows of then are dropped or kept", func() bool { s := r.Stats(); return s.Dropped+s.Spooled == uint64(10+test.meanwhile) })
			record(3)
			eventually(t, "rows are kept again", func() bool { return log.count("takes blocks again") == 1 })
			if err := r.Close(time.Second); err != nil {
				t.Error(err)
			}
			s := r.Stats()
			if (s.Dropped > 0) != test.drops || s.Dropped+s.Spooled != uint64(13+test.meanwhile) || log.count(fmt.Sprintf(`"rows_dropped":%d,`, r.log.stats.dropped[dropSpool].Load())) != 1 {
				t.Errorf("%+v\n%s", s, log.String())
			}
		})
	}
}
