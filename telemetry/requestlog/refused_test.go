package requestlog

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"streamrelay/telemetry/clickhouse"
)

// TestOnlyAnswersThatNobodyKnowsAreGuesses: a block that was refused often for
// known reasons, which pass, is not put aside at the first unknown one.
func TestOnlyAnswersThatNobodyKnowsAreGuesses(t *testing.T) {
	s, o := store(t)
	o.Interval = 20 * time.Millisecond
	s.Fault("exception", "code", "241", "inserts", "1")
	r := New(o)
	var want sums
	recordAll(r, &want, 0, 100)
	eventually(t, "refused often", func() bool { return s.Hits() > guesses })
	s.Fault("exception", "code", "12345", "inserts", "1", "count", "2")
	eventually(t, "the rows are stored or put aside", func() bool { return r.Stats().Quarantined+r.Stats().Stored == 100 })
	if err := r.Close(time.Second); err != nil {
		t.Error(err)
	}
	if r.Stats().Quarantined > 0 {
		t.Errorf("%+v", r.Stats())
	}
	wantStored(t, s, want)
}

// TestRowsWaitWhileTheRollupRefusesThem: resent under the block's token they are
// in both tables once.
func TestRowsWaitWhileTheRollupRefusesThem(t *testing.T) {
	s, o := store(t)
	o.Interval = 20 * time.Millisecond
	s.Query("ALTER TABLE relay.usage_1h ADD CONSTRAINT broken CHECK tenant = 'nobody'")
	r := New(o)
	var want sums
	recordAll(r, &want, 0, 100)
	eventually(t, "refused or put aside", func() bool {
		return r.log.stats.insertErrors[clickhouse.ClassWait].Load() > 2 || r.Stats().Quarantined > 0
	})
	s.Query("ALTER TABLE relay.usage_1h DROP CONSTRAINT broken")
	eventually(t, "the rows are stored or put aside", func() bool { return r.Stats().Quarantined+r.Stats().Stored == 100 })
	if err := r.Close(time.Second); err != nil {
		t.Error(err)
	}
	wantStored(t, s, want)
}

// TestABlockThatCannotBePutAsideStaysInTheSpool: others are stored meanwhile, and
// it is put aside once that can be written.
func TestABlockThatCannotBePutAsideStaysInTheSpool(t *testing.T) {
	s, o := store(t)
	var log journal
	o.Log, o.Interval = zerolog.New(&log), 10*time.Millisecond
	s.Query("ALTER TABLE relay.request_log ADD CONSTRAINT broken CHECK tenant != 'initech'")
	quarantine := filepath.Join(o.Files.Dir, "quarantine")
	if err := os.WriteFile(quarantine, nil, 0o600); err != nil { // stands for a full disk
		t.Fatal(err)
	}
	r := New(o)
	r.Append(request(2)) // of initech
	eventually(t, "one is refused", func() bool { return log.count("cannot be put aside") > 0 })
	r.Append(request(0))
	eventually(t, "another is stored", func() bool { return r.Stats().Stored == 1 })
	if got := r.Stats(); got.Waiting != 1 || got.Dropped != 0 || got.Quarantined != 0 {
		t.Errorf("%+v", got)
	}
	if err := os.Remove(quarantine); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is put aside", func() bool { return r.Stats().Quarantined == 1 && r.Stats().Waiting == 0 })
	if err := r.Close(time.Second); err != nil {
		t.Error(err)
	}
	if b := aside(t, o.Files.Dir); len(b) != 1 || r.Stats().Dropped != 0 || log.count("cannot be put aside") > 3 {
		t.Errorf("%d files, %+v\n%s", len(b), r.Stats(), log.String())
	}
}

// aside lists the files of a log's quarantine.
func aside(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "quarantine", "*.native.zst"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
