package requestlog

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"streamrelay/configs"
	"streamrelay/telemetry"
	"streamrelay/telemetry/clickhouse/chtest"
)

// config is a configuration with the settings of o.
func config(o Options) *configs.Config {
	return &configs.Config{RequestLog: o.Files, ClickHouse: o.ClickHouse, Prices: o.Prices}
}

// TestSettingsChangeUnderLoadWithoutARowLostOrDoubled changes whatever a reload
// may, while rows come and while acknowledgements are lost.
func TestSettingsChangeUnderLoadWithoutARowLostOrDoubled(t *testing.T) {
	s, o := store(t)
	o.BlockRows, o.Interval, o.Timeout = 100, 10*time.Millisecond, 2*time.Second
	var log journal
	o.Log = zerolog.New(&log)
	r := New(o)
	var want sums
	n := 0
	more := func() {
		recordAll(r, &want, n, n+300)
		n += 300
	}
	change := func(what string, f func(*configs.Config)) {
		t.Helper()
		more()
		c := config(o)
		f(c)
		if err := r.Reconfigure(c); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		o.Files, o.ClickHouse, o.Prices = c.RequestLog, c.ClickHouse, c.Prices
		more()
	}
	change("compression", func(c *configs.Config) { c.ClickHouse.Compression = "zstd" })
	s.Fault("drop-ack", "count", "2")
	change("no password", func(c *configs.Config) { c.ClickHouse.Username = "default"; c.ClickHouse.Compression = "none" })
	change("durability", func(c *configs.Config) { c.RequestLog.Durability = "wal" })
	s.Fault("hang-query", "inserts", "1", "count", "1")
	more()
	eventually(t, "an insert hangs", func() bool { return s.Hits() == 1 })
	change("shards", func(c *configs.Config) { // the same one, and a replica that is down
		c.ClickHouse.Address, c.ClickHouse.Shards = "", [][]string{{"127.0.0.1:1", s.Native}}
	})
	change("memory", func(c *configs.Config) { c.RequestLog.Durability, c.RequestLog.Fsync = "memory", "block" })
	s.Fault("refuse")
	more()
	change("during an outage", func(c *configs.Config) {
		c.ClickHouse.Shards, c.ClickHouse.Address = nil, s.Native
		c.RequestLog.MaxBytes = 2 * configs.GiB
	})
	s.Fault("none")
	eventually(t, "all is stored", func() bool { return r.Stats().Stored == uint64(n) })
	wantStored(t, s, want)

	// Off: what comes now is in files, and stays there.
	before := want
	change("off", func(c *configs.Config) { c.ClickHouse.Address, c.RequestLog.Durability = "", "spool" })
	eventually(t, "the rows are sealed", func() bool { return r.Stats().Sealed == uint64(n) })
	atOff := s.Count("SELECT count() FROM relay.request_log")
	change("on again", func(c *configs.Config) { c.ClickHouse.Address = s.Native })
	eventually(t, "all but the files is stored", func() bool { return r.Stats().Waiting == 0 && r.Stats().Sealed == uint64(n) })
	if err := r.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	if got := r.Stats(); got.Dropped != 0 || got.Quarantined != 0 {
		t.Errorf("%+v", got)
	}
	inFiles := s.Count("SELECT count() FROM file('" + o.Files.Dir + "/dt=*/*.native.zst', 'Native')")
	stored := s.Count("SELECT count() FROM relay.request_log")
	if inFiles == 0 || atOff < before.rows || stored <= atOff || inFiles+stored != want.rows {
		t.Errorf("%d rows in files, %d in the table (%d while it was off), want %d in all and %d in the table at least\n%s", inFiles, stored, atOff, want.rows, before.rows, log.String())
	}
	both := "(SELECT id, input_tokens FROM file('" + o.Files.Dir + "/dt=*/*.native.zst', 'Native') UNION ALL SELECT id, input_tokens FROM relay.request_log)"
	if ids := s.Count("SELECT uniqExact(id) FROM " + both); ids != want.rows {
		t.Errorf("%d ids, want %d", ids, want.rows)
	}
	if sum := s.Count("SELECT sum(input_tokens) FROM " + both); sum != want.input {
		t.Errorf("%d tokens, want %d", sum, want.input)
	}
}

// TestAReloadLeavesADoubtfulBlockToItsShard: an INSERT that is broken off by
// the reload had reached its server.
func TestAReloadLeavesADoubtfulBlockToItsShard(t *testing.T) {
	a, o := store(t)
	b := chtest.Start(t)
	migrate(t, b, &o.ClickHouse)
	o.ClickHouse.Shards, o.ClickHouse.Address = [][]string{{a.Native}}, ""
	o.BlockRows, o.Interval, o.Backoff = 100, 10*time.Millisecond, 20*time.Millisecond
	a.Fault("drop-ack", "count", "1")
	r := New(o)
	var want sums
	recordAll(r, &want, 0, 500)
	eventually(t, "an acknowledgement is lost", func() bool { return a.Hits() == 1 && a.Count("SELECT count() FROM relay.request_log") > 0 })
	a.Fault("refuse")
	o.ClickHouse.Shards = [][]string{{b.Native}, {"127.0.0.1:1", a.Native}} // a has got a replica, and is the second
	if err := r.Reconfigure(config(o)); err != nil {
		t.Fatal(err)
	}
	recordAll(r, &want, 500, 1000)
	eventually(t, "b has some", func() bool { return r.Stats().Stored > 0 })
	a.Fault("none")
	eventually(t, "all is stored", func() bool { return r.Stats().Stored == 1000 })
	if err := r.Close(time.Second); err != nil {
		t.Error(err)
	}
	rows := func(s *chtest.Server) uint64 { return s.Count("SELECT count() FROM relay.request_log") }
	ids := func(s *chtest.Server) uint64 { return s.Count("SELECT uniqExact(id) FROM relay.request_log") }
	if rows(a)+rows(b) != 1000 || ids(a)+ids(b) != 1000 || rows(a) == 0 || rows(b) == 0 {
		t.Errorf("%d rows (%d ids) at a, %d (%d) at b", rows(a), ids(a), rows(b), ids(b))
	}
}

func TestPricesOfAReloadCountForWhatEndsAfterIt(t *testing.T) {
	o := options()
	o.Files.Dir = t.TempDir()
	r := New(o)
	q := request(0) // m1 at alpha
	q.Model = []byte("m1")
	q.Usage = telemetry.Usage{Input: 10, Output: 1, Cached: -1, CacheWrite: -1, Reasoning: -1}
	r.Append(q)
	o.Prices = map[string]configs.Price{"m1": {Input: 1, Output: 3}, "m9": {Input: 2, Output: 2}}
	if err := r.Reconfigure(config(o)); err != nil {
		t.Fatal(err)
	}
	r.Append(q)
	q.Model = []byte("m9")
	r.Append(q)
	if err := r.Close(0); err != nil {
		t.Fatal(err)
	}
	b := onlyBlock(t, o.Files.Dir)
	var row Row
	var costs []int64
	for i := range b.Rows() {
		b.Row(i, &row)
		costs = append(costs, row.Cost)
	}
	if len(costs) != 3 || costs[0] != 10*500+1500 || costs[1] != 10*1000+3000 || costs[2] != 11*2000 {
		t.Errorf("costs %v", costs)
	}
}

func TestBodiesCanBeSwitchedByAReload(t *testing.T) {
	o := options()
	o.Files.Dir = t.TempDir()
	r := New(o)
	for _, mode := range []string{"off", "all", "errors", "off", "all"} {
		o.Files.Bodies = mode
		if err := r.Reconfigure(config(o)); err != nil {
			t.Fatal(err)
		}
		r.Append(said(1)) // went well
	}
	if err := r.Close(0); err != nil {
		t.Fatal(err)
	}
	if b := onlyBlock(t, filepath.Join(o.Files.Dir, BodyFolder)); b.Rows() != 2 || r.bodyStats().Sealed != 2 || r.Stats().Sealed != 5 {
		t.Errorf("%d bodies, %+v, %+v", b.Rows(), r.bodyStats(), r.Stats())
	}
}

func TestWhatAReloadCannotChangeIsNamed(t *testing.T) {
	o := options()
	o.Files.Dir = t.TempDir()
	r := New(o)
	defer r.Close(0)
	other := config(o)
	other.RequestLog.Dir = t.TempDir()
	if err := r.Reconfigure(other); err == nil || !strings.Contains(err.Error(), "request_log.dir") {
		t.Errorf("another folder: %v", err)
	}
	none, memory := configs.Default(), configs.Default()
	none.RequestLog.Dir, memory.RequestLog.Dir = "", ""
	memory.ClickHouse.Address, memory.RequestLog.Durability = "127.0.0.1:9000", "memory"
	for _, c := range []struct {
		a, b *configs.Config
		want string
	}{{none, memory, "clickhouse"}, {memory, none, "clickhouse"}, {none, configs.Default(), "request_log.dir"}, {configs.Default(), configs.Default(), ""}} {
		if got := strings.Join(NeedRestart(c.a, c.b), " "); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestShardsOfAReloadHaveSeries, and those that are gone do not look down.
func TestShardsOfAReloadHaveSeries(t *testing.T) {
	o := options()
	o.Files.Dir = t.TempDir()
	r := New(o)
	defer r.Close(0)
	tel := telemetry.New(telemetry.Options{})
	r.Publish(tel)
	scrape := func() string {
		var b bytes.Buffer
		tel.WriteMetrics(&b)
		return b.String()
	}
	if text := scrape(); strings.Contains(text, "relay_log_shard_up") || strings.Contains(text, "relay_log_bodies") {
		t.Errorf("without shards:\n%s", text)
	}
	o.ClickHouse = configs.Default().ClickHouse
	o.ClickHouse.Shards, o.Files.Bodies = [][]string{{"127.0.0.1:1"}, {"127.0.0.1:2"}}, "all"
	var others sync.WaitGroup
	others.Go(func() { scrape() }) // a scrape may come at any time
	if err := r.Reconfigure(config(o)); err != nil {
		t.Fatal(err)
	}
	others.Wait()
	if text := scrape(); !strings.Contains(text, `relay_log_shard_up{shard="1"}`) || !strings.Contains(text, `relay_log_bodies_shard_up{shard="1"}`) || !strings.Contains(text, "relay_log_bodies_dropped_total{reason=\"queue_full\"} 0") {
		t.Errorf("with two:\n%s", text)
	}
	o.ClickHouse.Shards = o.ClickHouse.Shards[:1]
	if err := r.Reconfigure(config(o)); err != nil {
		t.Fatal(err)
	}
	if text := scrape(); !strings.Contains(text, `relay_log_shard_up{shard="1"} NaN`) {
		t.Errorf("with one:\n%s", text)
	}
}

// TestAFolderThatCannotTakeTheSettingsOfAReloadTakesThemLater: its place is
// away while ClickHouse is switched off.
func TestAFolderThatCannotTakeTheSettingsOfAReloadTakesThemLater(t *testing.T) {
	var log journal
	o := options()
	o.Files.Dir, o.Log, o.Interval = t.TempDir(), zerolog.New(&log), 5*time.Millisecond
	o.ClickHouse = configs.Default().ClickHouse
	o.ClickHouse.Address = "127.0.0.1:1"
	r := New(o)
	r.Append(request(0))
	eventually(t, "a row waits in a file", func() bool { return r.Stats().Spooled == 1 })
	place := r.log.folder.Load().Dir()
	if err := os.Rename(place, place+".away"); err != nil {
		t.Fatal(err)
	}
	o.ClickHouse.Address = ""
	if err := r.Reconfigure(config(o)); err != nil {
		t.Fatal(err)
	}
	if log.count("settings are not changed") != 1 {
		t.Errorf("not said once:\n%s", log.String())
	}
	if err := os.Rename(place+".away", place); err != nil {
		t.Fatal(err)
	}
	r.log.ask(r.log.seal.keep)
	r.Append(request(1))
	if err := r.Close(0); err != nil {
		t.Fatal(err)
	}
	if kept, _ := filepath.Glob(filepath.Join(o.Files.Dir, "dt=*", "*.native.zst")); len(kept) != 1 {
		t.Errorf("the log has files %q", kept)
	}
}
