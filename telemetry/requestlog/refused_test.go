package requestlog

import (
	"testing"
	"time"

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
