package process

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"streamrelay/telemetry/clickhouse/chtest"
)

// long reports whether the proofs run at full size.
func long() bool { return os.Getenv("RELAY_TEST_LONG") != "" }

// exported returns the ids of the rows in the files of a request log.
func exported(t *testing.T, dir string) map[string]bool {
	t.Helper()
	cmd := exec.Command(binary, "logs", "export", "--dir", "data/request-log", "-o", "rows.jsonl") // longer than patience at full size
	cmd.Dir, cmd.Env = dir, environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("logs export: %v: %s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "rows.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]bool)
	for line := range strings.Lines(string(data)) {
		var row struct{ ID string }
		if err := json.Unmarshal([]byte(line), &row); err != nil || ids[row.ID] {
			t.Fatalf("a row that is no JSON, or twice in the files: %q: %v", line, err)
		}
		ids[row.ID] = true
	}
	return ids
}

// TestKilledRelayLosesNothingSealedAndDoublesNothing kills a relay under load
// again and again, while its ClickHouse misbehaves. What was in files or in
// ClickHouse after a kill is in ClickHouse at the end, once, and so it is in
// the rollup; and the relay had sealed no more than that.
func TestKilledRelayLosesNothingSealedAndDoublesNothing(t *testing.T) {
	t.Parallel()
	db := chtest.Start(t)
	dir, key := setUp(t, simulate(t, "--profile", "ttft=0,gap=0,events=3"), fmt.Sprintf("clickhouse: {address: \"%s\"}\nlog: {access: false}\n", db.Native))
	if r := run(t, dir, "migrate"); r.code != 0 {
		t.Fatalf("migrate: exit code %d: %s", r.code, r.stderr)
	}
	kills, each := 4, 4*time.Second
	if long() {
		kills, each = 20, 15*time.Second
	}
	faults := [][]string{
		{"none"}, {"drop-ack", "after", "1", "count", "1"}, {"refuse"}, {"drop-insert", "count", "2"},
		{"exception", "code", "252", "inserts", "1", "count", "2"}, {"drop-ack", "count", "3"}, {"hang-query", "inserts", "1", "count", "1"},
	}
	sealed := make(map[string]bool) // ids that must be there at the end
	promised := 0.0                 // rows that relays said they had sealed
	for kill := range kills {
		fault := faults[kill%len(faults)]
		db.Fault(fault[0], fault[1:]...)
		r := &relay{process: start(t, dir, nil, binary, "serve"), dir: dir, key: key}
		r.await(r.stdout, `"message":"serving"`)
		for _, line := range r.log() {
			if line["message"] == "serving" {
				r.addr, r.admin = line["listen"].(string), line["admin"].(string)
			}
		}
		r.client = clientOf(t, r.addr)
		said := r.loadUntilKilled(time.Duration(float64(each) * (0.5 + rand.Float64()/2)))
		promised += said
		db.Fault("none")
		before := len(sealed)
		for id := range exported(t, dir) {
			sealed[id] = true
		}
		for id := range strings.Lines(db.Query("SELECT id FROM relay.request_log")) {
			sealed[strings.TrimSpace(id)] = true
		}
		t.Logf("kill %d under %v: %.0f rows said to be sealed, %d found", kill+1, fault, said, len(sealed)-before)
	}
	if float64(len(sealed)) < promised {
		t.Errorf("%d rows in files and ClickHouse, and %.0f were said to be sealed", len(sealed), promised)
	}
	last := serve(t, dir, key) // brings what is left
	eventuallyStored(t, "nothing waits in files", func() bool { return last.series("relay_log_spool_rows") == 0 })
	last.end()

	rows, unique := db.Count("SELECT count() FROM relay.request_log"), db.Count("SELECT uniqExact(id) FROM relay.request_log")
	if rows != uint64(len(sealed)) || unique != rows {
		t.Errorf("%d rows, %d of them different, want %d", rows, unique, len(sealed))
	}
	for id := range strings.Lines(db.Query("SELECT id FROM relay.request_log")) {
		delete(sealed, strings.TrimSpace(id))
	}
	if len(sealed) > 0 {
		t.Errorf("%d rows that were sealed are not there", len(sealed))
	}
	if got := db.Count("SELECT sum(requests) FROM relay.usage_1h"); got != rows {
		t.Errorf("the rollup counts %d requests, want %d", got, rows)
	}
	if table, view := db.Query("SELECT sum(input_tokens), sum(output_tokens), sum(input_tokens) > 0 FROM relay.request_log"), db.Query("SELECT sum(input_tokens), sum(output_tokens), 1 FROM relay.usage_1h"); table != view {
		t.Errorf("tokens: the table has %s, the rollup %s", table, view)
	}
}

// loadUntilKilled sends requests on a few connections and kills the relay after
// d. It returns how many rows the relay last said it had sealed.
func (r *relay) loadUntilKilled(d time.Duration) float64 {
	r.t.Helper()
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for !stop.Load() {
				res, err := r.do("POST", "/v1/chat/completions", r.key, `{"model":"m","messages":[]}`)
				if err != nil {
					return // it was killed
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		})
	}
	sealed := 0.0
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		sealed = r.series("relay_log_rows_sealed_total")
	}
	_ = r.cmd.Process.Kill()
	<-r.ended
	stop.Store(true)
	wg.Wait()
	r.client.CloseIdleConnections()
	return sealed
}

// eventuallyStored is eventually for what may take as long as an INSERT's timeout.
func eventuallyStored(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to pass: %s", what)
		}
	}
}

// TestRequestLogWithoutClickHouseIsReadableWhileTheRelayRunsAndAfterIt: the
// files are the log.
func TestRequestLogWithoutClickHouseIsReadableWhileTheRelayRunsAndAfterIt(t *testing.T) {
	t.Parallel()
	r := startRelay(t, simulate(t, "--profile", "ttft=0,gap=0,events=3"), "prices: {m: {input: 2, output: 4}}\n")
	const n = 25
	for i := range n {
		res, err := r.do("POST", "/v1/chat/completions", r.key, `{"model":"m","messages":[]}`, "X-Request-Id", "mine-"+strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	eventuallyStored(t, "the rows are sealed", func() bool { return r.series("relay_log_rows_sealed_total") >= n })
	check := func(when string) {
		if q := run(t, r.dir, "logs", "query", "--request-id", "mine-7", "--json"); q.code != 0 || strings.Count(q.stdout, "\n") != 1 || !strings.Contains(q.stdout, `"request_id":"mine-7"`) {
			t.Errorf("%s: query: exit code %d: %s%s", when, q.code, q.stdout, q.stderr)
		}
		u := run(t, r.dir, "logs", "usage", "--by", "model", "--json")
		var sum struct {
			Model            string
			Requests, Errors int
			Input            int64 `json:"input_tokens"`
			Output           int64 `json:"output_tokens"`
			Cost             int64 `json:"cost_nano"`
		}
		if err := json.Unmarshal([]byte(u.stdout), &sum); err != nil || sum.Requests != n || sum.Input == 0 || sum.Cost != 2000*sum.Input+4000*sum.Output {
			t.Errorf("%s: usage: exit code %d: %v: %s%s", when, u.code, err, u.stdout, u.stderr)
		}
	}
	check("while it runs")
	r.end()
	check("after its end")
	if open, _ := filepath.Glob(filepath.Join(r.dir, "data/request-log/spool/*/*.open")); len(open) > 0 {
		t.Errorf("left open: %q", open)
	}
}

// series is the value of one series without labels.
func (r *relay) series(name string) float64 {
	_, all := r.scrape()
	return all[name]
}

// TestRowsThatAnInstanceLeavesAreSentByTheOther: two relays share one folder, as
// relay@blue and relay@green do, and one of them ends while ClickHouse is away.
func TestRowsThatAnInstanceLeavesAreSentByTheOther(t *testing.T) {
	t.Parallel()
	if !long() {
		t.Skip("a relay looks for what others left each 30 s: set RELAY_TEST_LONG=1")
	}
	db := chtest.Start(t)
	log := filepath.Join(tempDir(t), "request-log")
	sections := fmt.Sprintf("clickhouse: {address: \"%s\"}\nrequest_log: {dir: %s}\n", db.Native, log)
	provider := simulate(t, "--profile", "ttft=0,gap=0,events=3")
	green := startRelay(t, provider, sections)
	dir, key := setUp(t, provider, sections)
	if r := run(t, dir, "migrate"); r.code != 0 {
		t.Fatalf("migrate: exit code %d: %s", r.code, r.stderr)
	}
	blue := serve(t, dir, key)
	db.Fault("refuse")
	const n = 20
	for range n {
		res, err := blue.do("POST", "/v1/chat/completions", blue.key, `{"model":"m","messages":[]}`)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	blue.end()
	db.Fault("none")
	if got := db.Count("SELECT count() FROM relay.request_log"); got != 0 {
		t.Fatalf("%d rows reached a ClickHouse that was away", got)
	}
	eventuallyStored(t, "the other one has sent them", func() bool { return db.Count("SELECT count() FROM relay.request_log") == n })
	if got := db.Count("SELECT uniqExact(id) FROM relay.request_log"); got != n {
		t.Errorf("%d different rows, want %d", got, n)
	}
	eventuallyStored(t, "nothing waits", func() bool { return green.series("relay_log_spool_rows") == 0 })
}
