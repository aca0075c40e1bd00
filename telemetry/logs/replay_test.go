package logs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"streamrelay/configs"
	"streamrelay/telemetry"
	"streamrelay/telemetry/clickhouse/chtest"
	"streamrelay/telemetry/requestlog"
)

// recorder is one of a relay, which writes small blocks.
func recorder(c *configs.Config) *requestlog.Recorder {
	return requestlog.New(requestlog.Options{
		Instance: "relay-1", Endpoints: []string{"chat_completions"}, Upstreams: []requestlog.Upstream{{Name: "alpha"}},
		Files: c.RequestLog, ClickHouse: c.ClickHouse, Log: zerolog.Nop(), BlockRows: 100, Interval: 20 * time.Millisecond, Backoff: 50 * time.Millisecond,
	})
}

// recordSome has n requests recorded, and waits until they are sealed. A day's
// requests begin within one hour, in the order in which they are recorded.
func recordSome(t *testing.T, r *requestlog.Recorder, n int) {
	t.Helper()
	was := r.Stats().Sealed
	for i := range n {
		now := time.Now().UTC()
		day := now.Truncate(24 * time.Hour)
		start := day.Add(-time.Hour + now.Sub(day)/24).UnixNano()
		r.Append(&telemetry.Request{
			ID: telemetry.NewID(start), Start: start, RequestID: fmt.Appendf(nil, "x-%d", i), Tenant: []byte("t"),
			Model: []byte("m"), Method: []byte("POST"), Status: 200, UpstreamStatus: 200, TTFT: 5e6,
		})
	}
	eventually(t, "sealed", func() bool { return r.Stats().Sealed >= was+uint64(n) })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to pass: %s", what)
		}
	}
}

// replayed runs `relay logs replay` with c and returns what it prints.
func replayed(t *testing.T, c *configs.Config, args ...string) string {
	t.Helper()
	text := fmt.Sprintf("listen: 127.0.0.1:0\nupstreams:\n  - name: a\n    base_url: https://api.example.com/v1\n    dialect: openai\n    credentials:\n      - value: abcdefghijklmnop\n"+
		"request_log:\n  dir: %s\nclickhouse:\n  cluster: %q\n  shards:\n", c.RequestLog.Dir, c.ClickHouse.Cluster)
	for _, replicas := range c.ClickHouse.Servers() {
		text += fmt.Sprintf("    - [%q]\n", replicas[0])
	}
	path := filepath.Join(t.TempDir(), "relay.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := Command()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(append([]string{"replay", "-c", path}, args...))
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err, out.String())
	}
	return out.String()
}

// stored returns how many rows servers have, and of how many requests.
func stored(servers ...*chtest.Server) (rows, requests int) {
	all := make(map[string]bool)
	for _, s := range servers {
		for _, id := range strings.Fields(s.Query("SELECT id FROM relay.request_log")) {
			rows++
			all[id] = true
		}
	}
	return rows, len(all)
}

// twoShards are two servers with the log's tables, and what a relay that writes
// to both has as its configuration.
func twoShards(t *testing.T) (c *configs.Config, a, b *chtest.Server) {
	t.Helper()
	a, b = chtest.Start(t), chtest.Start(t)
	c = configs.Default()
	c.RequestLog.Dir = t.TempDir()
	for _, s := range []*chtest.Server{a, b} {
		c.ClickHouse.Shards = append(c.ClickHouse.Shards, []string{s.Native})
		makeTables(t, s.Native, c)
	}
	return c, a, b
}

// TestReplayDoublesNothingThatAnotherShardHas: the second of two servers stored
// blocks whose acknowledgement was lost, and others of the same file whose
// acknowledgement came.
func TestReplayDoublesNothingThatAnotherShardHas(t *testing.T) {
	c, a, b := twoShards(t)
	r := recorder(c)
	recordSome(t, r, 200)
	b.Fault("drop-ack", "inserts", "1")
	for range 6 {
		recordSome(t, r, 50)
	}
	_ = r.Close(time.Second)
	b.Fault("none")
	if r.Stats().Waiting == 0 {
		t.Fatalf("nothing waits: %+v", r.Stats())
	}
	for range 2 {
		text := replayed(t, c)
		if rows, n := stored(a, b); rows != 500 || n != 500 {
			t.Errorf("%d rows of %d requests: %s", rows, n, text)
		}
	}
	r = recorder(c)
	eventually(t, "nothing waits", func() bool { return r.Stats().Waiting == 0 })
	if err := r.Close(5 * time.Second); err != nil {
		t.Error(err)
	}
	if rows, n := stored(a, b); rows != 500 || n != 500 {
		t.Errorf("%d rows of %d requests once a relay has sent the rest", rows, n)
	}
}

// TestReplaySendsWhatNoShardHas of blocks that may be anywhere: of files that were
// the log, and went to the second server before there was the first.
func TestReplaySendsWhatNoShardHas(t *testing.T) {
	c, a, b := twoShards(t)
	log := configs.Default()
	log.RequestLog.Dir = c.RequestLog.Dir
	fill(t, log)
	both := c.ClickHouse.Shards
	c.ClickHouse.Shards = both[1:]
	if text := replayed(t, c); !strings.Contains(text, "600 rows sent, 0 were there") {
		t.Error(text)
	}
	b.Query("ALTER TABLE relay.request_log DELETE WHERE tenant = 't0' SETTINGS mutations_sync = 2")
	c.ClickHouse.Shards = both
	if text := replayed(t, c); !strings.Contains(text, "300 rows sent, 300 were there") {
		t.Error(text)
	}
	if rows, n := stored(a, b); rows != requests || n != requests {
		t.Errorf("%d rows of %d requests", rows, n)
	}
	if text := replayed(t, c); !strings.Contains(text, "0 rows sent, 600 were there") {
		t.Error(text)
	}
}

// TestReplaySendsABlockToItsOwnShard: where the server that may have it knows
// its token.
func TestReplaySendsABlockToItsOwnShard(t *testing.T) {
	c, a, b := twoShards(t)
	a.Fault("refuse")
	b.Fault("refuse")
	r := recorder(c)
	for range 4 {
		recordSome(t, r, 50)
	}
	_ = r.Close(0)
	a.Fault("none")
	b.Fault("none")
	if text := replayed(t, c); !strings.Contains(text, "200 rows sent, 0 were there") {
		t.Error(text)
	}
	const count = "SELECT count() FROM relay.request_log"
	if n, m := a.Count(count), b.Count(count); n != 100 || m != 100 {
		t.Errorf("%d and %d rows of blocks that were for the servers in turn", n, m)
	}
}

// TestReplayPassesOverAcknowledgedBlocks, whose rows may be gone since.
func TestReplayPassesOverAcknowledgedBlocks(t *testing.T) {
	s := chtest.Start(t)
	c := configs.Default()
	c.RequestLog.Dir = t.TempDir()
	c.ClickHouse.Shards = [][]string{{s.Native}}
	makeTables(t, s.Native, c)
	r := recorder(c)
	recordSome(t, r, 50)
	eventually(t, "stored", func() bool { return r.Stats().Stored == 50 })
	s.Fault("refuse")
	recordSome(t, r, 30)
	_ = r.Close(0)
	s.Fault("none")
	s.Query("TRUNCATE TABLE relay.request_log")
	if text := replayed(t, c); !strings.Contains(text, "30 rows sent, 50 were there") {
		t.Error(text)
	}
	if rows, _ := stored(s); rows != 30 {
		t.Errorf("%d rows", rows)
	}
}

// TestReplaySendsAFileThatIsClosedMeanwhile by a relay that keeps files.
func TestReplaySendsAFileThatIsClosedMeanwhile(t *testing.T) {
	s := chtest.Start(t)
	c := configs.Default()
	c.RequestLog.Dir = t.TempDir()
	fill(t, c)
	r := recorder(c)
	recordSome(t, r, 50)
	c.ClickHouse.Shards = [][]string{{s.Native}}
	makeTables(t, s.Native, c)
	s.Fault("slow", "delay", "300ms", "count", "1", "inserts", "1")
	done := make(chan error, 1)
	go func() {
		for end := time.Now().Add(30 * time.Second); s.Hits() == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		done <- r.Close(time.Second)
	}()
	text := replayed(t, c)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !strings.Contains(text, "650 rows sent, 0 were there already, 2 files") {
		t.Error(text)
	}
}

// TestReplayDoublesNothingThatTheClusterHas: on a shard that the configuration
// does not name. A table of another server is stood for by one of this.
func TestReplayDoublesNothingThatTheClusterHas(t *testing.T) {
	s := chtest.Start(t)
	c := configs.Default()
	c.RequestLog.Dir = t.TempDir()
	c.ClickHouse.Shards = [][]string{{s.Native}}
	makeTables(t, s.Native, c)
	s.Query("CREATE TABLE relay.elsewhere AS relay.request_log")
	s.Query("CREATE TABLE relay.request_log_all AS relay.request_log ENGINE = Merge('relay', '^(request_log|elsewhere)$')")
	s.Fault("refuse")
	r := recorder(c)
	recordSome(t, r, 50)
	_ = r.Close(0)
	s.Fault("none")
	c.ClickHouse.Cluster = "main"
	if text := replayed(t, c); !strings.Contains(text, "50 rows sent, 0 were there") {
		t.Fatal(text)
	}
	s.Query("INSERT INTO relay.elsewhere SELECT * FROM relay.request_log")
	s.Query("TRUNCATE TABLE relay.request_log")
	if text := replayed(t, c); !strings.Contains(text, "0 rows sent, 50 were there") {
		t.Error(text)
	}
}

// TestReplaySaysWhatTheRollupLacks: its view failed once the rows were stored,
// and the block was put aside. What is printed makes it whole, whatever else is
// in those hours.
func TestReplaySaysWhatTheRollupLacks(t *testing.T) {
	s := chtest.Start(t)
	c := configs.Default()
	c.RequestLog.Dir = t.TempDir()
	c.ClickHouse.Shards = [][]string{{s.Native}}
	makeTables(t, s.Native, c)
	r := recorder(c)
	recordSome(t, r, 70)
	eventually(t, "stored", func() bool { return r.Stats().Stored == 70 })
	s.Query("ALTER TABLE relay.usage_1h ADD CONSTRAINT broken CHECK NOT throwIf(tenant != 'nobody')")
	recordSome(t, r, 50)
	eventually(t, "put aside", func() bool { return r.Stats().Quarantined == 50 })
	_ = r.Close(0)
	s.Query("ALTER TABLE relay.usage_1h DROP CONSTRAINT broken")
	aside, _ := filepath.Glob(filepath.Join(c.RequestLog.Dir, "quarantine", "*"))
	for range 2 {
		text := replayed(t, c, aside...)
		_, statements, _ := strings.Cut(text, "make them anew there by\n")
		if !strings.Contains(text, "0 rows sent, 50 were there") || !strings.Contains(text, "lacks 50 rows") || strings.Count(statements, ";") != 2 {
			t.Fatal(text)
		}
		for statement := range strings.SplitSeq(strings.TrimSpace(statements), ";") {
			if statement != "" {
				s.Query(statement)
			}
		}
		if n := s.Count("SELECT sum(requests) FROM relay.usage_1h"); n != 120 {
			t.Errorf("the rollup has %d requests of 120", n)
		}
		if q := s.Query("SELECT round(quantilesTDigestMerge(0.5, 0.95, 0.99)(ttft)[1]), max(max_duration_us) FROM relay.usage_1h"); q != "5000\t0" {
			t.Errorf("the rollup has %s", q)
		}
		if text := replayed(t, c, aside...); strings.Contains(text, "rollup") {
			t.Error(text)
		}
		s.Query("ALTER TABLE relay.usage_1h DELETE WHERE 1 SETTINGS mutations_sync = 2") // and the same rows once more
		s.Query("INSERT INTO relay.usage_1h (hour, tenant, requests) SELECT toStartOfHour(ts), tenant, count() - 50 FROM relay.request_log GROUP BY 1, 2 SETTINGS insert_deduplicate = 0")
	}
}
