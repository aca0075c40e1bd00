package requestlog

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"streamrelay/configs"
	"streamrelay/telemetry"
	"streamrelay/telemetry/clickhouse/chtest"
	"streamrelay/telemetry/spool"
)

// bodyStats are those of bodies.
func (r *Recorder) bodyStats() Stats {
	if r.bodiesLog == nil {
		return Stats{}
	}
	return r.bodiesLog.figures()
}

func TestBodiesOfWhatWentWellAreKeptOnlyWhereAllAre(t *testing.T) {
	for _, c := range []struct {
		status      int
		end         telemetry.EndReason
		errors, all bool
	}{
		{200, telemetry.Completed, false, true},
		{499, telemetry.ClientGone, false, true},
		{200, telemetry.ClientGone, false, true},
		{200, telemetry.UpstreamCut, true, true},
		{400, telemetry.UpstreamStatus, true, true},
		{404, telemetry.Completed, true, true},
		{429, telemetry.Limited, true, true},
		{504, telemetry.TimeoutHead, true, true},
	} {
		r := &telemetry.Request{Status: c.status, End: c.end}
		for mode, want := range map[string]bool{"": false, "off": false, "errors": c.errors, "all": c.all} {
			if got := KeepsBodies(&configs.RequestLog{Bodies: mode}, r); got != want {
				t.Errorf("%d %v with %q: %t", c.status, c.end, mode, got)
			}
		}
	}
}

// said is the i-th exchange with bodies that are not all text.
func said(i int) *telemetry.Request {
	q := request(i)
	q.RequestBody = fmt.Appendf(nil, "{\"n\":%d,\"raw\":\"\x00\xff\xfe\xc3\x28\r\n\"}", i)
	q.AnswerBody = bytes.Repeat([]byte{byte(i), 0, 0x80, 0xf5, '\n'}, i%40)
	q.BytesIn, q.BytesOut = int64(len(q.RequestBody)), int64(len(q.AnswerBody))+int64(i%3)
	return q
}

// wantBodies compares the table with what said(i) says, for the i that keep picks.
func wantBodies(t *testing.T, s *chtest.Server, n int, keep func(i int) bool) {
	t.Helper()
	var want []string
	for i := range n {
		if q := said(i); keep(i) {
			want = append(want, fmt.Sprintf("%s\t%s\t%X\t%X\t%d\t%d\t%t", time.UnixMilli(q.Start/1e6).UTC().Format("2006-01-02 15:04:05.000"), q.Tenant,
				q.RequestBody, q.AnswerBody, q.BytesIn, q.BytesOut, i%3 != 0))
		}
	}
	got := s.Query("SELECT ts, tenant, hex(request), hex(answer), request_bytes, answer_bytes, answer_cut FROM relay.request_bodies WHERE NOT request_cut ORDER BY ts")
	if w := strings.Join(want, "\n"); got != w {
		t.Errorf("%d bodies, want %d, or they are others:\n%.300s\nwant\n%.300s", strings.Count(got, "\n")+1, len(want), got, w)
	}
	if n := s.Count("SELECT uniqExact(id) FROM relay.request_bodies AS b INNER JOIN relay.request_log AS l ON b.id = l.id AND b.ts = l.ts AND b.tenant = l.tenant"); n != uint64(len(want)) {
		t.Errorf("%d bodies belong to rows, want %d", n, len(want))
	}
}

// TestBodiesAreStoredOnceAndByteForByteWhateverHappensToAnInsert: over lost
// acknowledgements, an outage and a restart.
func TestBodiesAreStoredOnceAndByteForByteWhateverHappensToAnInsert(t *testing.T) {
	s, o := store(t)
	o.Files.Bodies, o.Interval, o.Timeout = "errors", 20*time.Millisecond, 2*time.Second
	r := New(o)
	n := 0
	more := func() {
		for range 300 {
			q := said(n)
			q.ID = telemetry.NewID(q.Start)
			r.Append(q)
			n++
		}
	}
	files := o.Files
	kept := func(i int) bool { return KeepsBodies(&files, said(i)) }
	count := func() (c uint64) {
		for i := range n {
			if kept(i) {
				c++
			}
		}
		return c
	}
	for _, fault := range [][]string{{"none"}, {"drop-ack", "count", "2"}, {"drop-insert", "count", "2"}, {"exception", "code", "241", "count", "2", "inserts", "1"}} {
		s.Fault(fault[0], fault[1:]...)
		more()
		eventually(t, "the bodies are stored", func() bool { return r.bodyStats().Stored == count() && r.Stats().Stored == uint64(n) })
	}
	s.Fault("refuse")
	more()
	eventually(t, "the bodies are sealed", func() bool { return r.bodyStats().Sealed == count() })
	if err := r.Close(0); err != nil {
		t.Fatal(err)
	}
	s.Fault("none")
	o.Files.Bodies = "off" // what waits is brought all the same
	r = New(o)
	eventually(t, "what waited is stored", func() bool { return r.bodyStats().Waiting == 0 && r.Stats().Waiting == 0 })
	r.Append(said(9)) // one that failed
	if err := r.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	if got := r.bodyStats(); got.Appended != 0 || got.Dropped != 0 || got.Quarantined != 0 {
		t.Errorf("%+v", got)
	}
	wantBodies(t, s, n, kept)
}

// TestWithoutTheirTableBodiesWaitAndRowsDoNot: a server that was never migrated
// for bodies.
func TestWithoutTheirTableBodiesWaitAndRowsDoNot(t *testing.T) {
	s, o := store(t)
	s.Query("DROP TABLE relay.request_bodies")
	s.Query("ALTER TABLE relay.schema_migrations DELETE WHERE version = 10 SETTINGS mutations_sync = 1")
	var log journal
	o.Log, o.Files.Bodies, o.Interval = zerolog.New(&log), "all", 20*time.Millisecond
	r := New(o)
	for i := range 50 {
		r.Append(said(i))
	}
	eventually(t, "the rows are stored", func() bool { return r.Stats().Stored == 50 })
	eventually(t, "it is said", func() bool { return log.count(`"state":"no_table"`) == 1 })
	if text := log.String(); !strings.Contains(text, `no table \"request_bodies\"`) || !strings.Contains(text, "relay migrate") || strings.Contains(text, `"table":"request_log"`) {
		t.Errorf("said: %s", text)
	}
	migrate(t, s, &o.ClickHouse)
	eventually(t, "the bodies are stored", func() bool { return r.bodyStats().Stored == 50 })
	if err := r.Close(time.Second); err != nil {
		t.Error(err)
	}
	wantBodies(t, s, 50, func(int) bool { return true })
}

// TestBodiesGoByAgeAlsoWhereNobodyKeepsThemAnyMore: after a restart, with files
// as the log and with ClickHouse.
func TestBodiesGoByAgeAlsoWhereNobodyKeepsThemAnyMore(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1:1"} {
		o := options()
		o.Files.Dir, o.Files.Bodies, o.Files.BodyRetention, o.Interval = t.TempDir(), "all", 24*time.Hour, 10*time.Millisecond
		r := New(o)
		r.Append(said(0))
		if err := r.Close(time.Second); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(o.Files.Dir, BodyFolder)
		files, err := spool.Files(dir)
		if err != nil || len(files) != 1 {
			t.Fatalf("%v %v", files, err)
		}
		if err := os.Rename(filepath.Dir(files[0].Path), filepath.Join(dir, "dt=2025-01-01")); err != nil {
			t.Fatal(err)
		}
		o.Files.Bodies, o.ClickHouse.Address = "off", address
		r = New(o)
		if p := r.bodiesLog; p != nil {
			p.ask(func() { p.seal.behind = true; p.seal.keep() }) // as after 30 seconds
		}
		if err := r.Close(time.Second); err != nil {
			t.Error(err)
		}
		if files, _ = spool.Files(dir); len(files) > 0 {
			t.Errorf("with ClickHouse at %q: %s is still there", address, files[0].Path)
		}
	}
}

func TestBodiesThatFindNoRoomAreCountedAndDoNotWait(t *testing.T) {
	s := newBodies(&configs.RequestLog{Bodies: "all"}, new(atomic.Uint64))
	q := request(0)
	q.RequestBody, q.AnswerBody = make([]byte, 2<<20), make([]byte, 32<<10) // nobody should send the first
	q.BytesIn, q.BytesOut = 5<<20, 32<<10
	if !raceEnabled {
		small := said(1)
		s.add(small) // brings the tenant's name
		if n := testing.AllocsPerRun(100, func() { s.add(small) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		s.recycle(s.take(math.MaxInt64))
		s.n = 0
	}
	for range 30 {
		s.add(q)
	}
	taken, dropped := s.appended(), s.dropped.Load()
	if taken != bodyBatches*bodyBytes/bodyMax || dropped != 30-taken { // all of each batch's memory is used
		t.Errorf("%d taken, %d dropped", taken, dropped)
	}
	rows := uint64(0)
	for b := s.take(math.MaxInt64); b != nil; b = s.take(math.MaxInt64) {
		block, err := copyOf(b)
		if err != nil {
			t.Fatal(err)
		}
		var x Body
		block.Body(0, &x)
		if len(x.Request) != bodyMax || x.RequestBytes != 5<<20 || !x.RequestCut() || len(x.Answer) != 32<<10 || x.AnswerCut() {
			t.Errorf("%d of %d bytes, %d of %d", len(x.Request), x.RequestBytes, len(x.Answer), x.AnswerBytes)
		}
		rows += uint64(b.Rows())
		s.recycle(b)
	}
	if rows != taken {
		t.Errorf("%d in blocks, %d taken", rows, taken)
	}
	if s.add(q); s.appended() != taken+1 {
		t.Error("there is no room again")
	}
}
