package process

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"streamrelay/auth/redistest"
	"streamrelay/configs/porttest"
	"streamrelay/telemetry/clickhouse/chtest"
)

// soakConfig is a relay with everything on. %[5]d differs with each reload, so
// that the upstream is built anew each time.
const soakConfig = `listen: %[1]s
admin: {listen: %[2]s}
keys: {store: redis, state_file: keys.state}
redis: {addresses: ["%[3]s"]}
clickhouse: {address: "%[4]s"}
request_log: {dir: log, durability: spool}
log: {access: true}
limits: {keepalive_timeout: 10s}
prices: {m: {input: 0.1, output: 0.1}}
upstreams:
  - {name: sim, base_url: "http://%[6]s/v1", dialect: openai, credentials: [{value: sk-upstream}], max_connections: %[5]d, idle_timeout: 2s}
`

// soakSample is what the process holds at a moment.
type soakSample struct {
	at                     time.Duration
	goroutines, fds        float64
	rss, heap              float64
	lastReload, reloadFine float64
}

// goroutines is what goroutines do, the most frequent first.
func (r *relay) goroutines() string {
	res, err := http.Get("http://" + r.admin + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 8<<10))
	return string(text)
}

// idleSample waits until the relay holds no more goroutines and descriptors than
// like, and a few that come and go, which takes as long as connections and
// fasthttp's workers may idle, and returns what it holds then.
func (r *relay) idleSample(like soakSample) (s soakSample) {
	for end := time.Now().Add(45 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if s = r.soakSample(0); s.goroutines <= like.goroutines+3 && s.fds <= like.fds+3 {
			break
		}
	}
	return s
}

// TestSoak runs a relay with everything on under a steady load of JSON, streams
// and clients that leave midway, reloads it all the time, and kills its Redis and
// its ClickHouse twice each. No request fails; each is accounted for exactly, in
// the metrics and in ClickHouse; and what the process holds does not grow.
//
// RELAY_TEST_SOAK says how long, such as 30m (`make soak`), and RELAY_TEST_SOAK_RATE
// how many requests a second.
func TestSoak(t *testing.T) {
	t.Parallel()
	length, rate := 16*time.Second, 100
	if text := os.Getenv("RELAY_TEST_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		rate = 200
	}
	if text := os.Getenv("RELAY_TEST_SOAK_RATE"); text != "" {
		var err error
		if rate, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	db := chtest.Start(t)
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	provider := simulate(t)

	dir, listen, admin := tempDir(t), porttest.FreeAddress(t), porttest.FreeAddress(t)
	reloads := 0
	configure := func() {
		reloads++
		writeFile(t, filepath.Join(dir, "relay.yaml"), fmt.Sprintf(soakConfig, listen, admin, redis.Addr(), db.Native, 10_000+reloads, provider))
	}
	configure()
	if r := run(t, dir, "migrate"); r.code != 0 {
		t.Fatalf("migrate: exit code %d: %s", r.code, r.stderr)
	}
	made := run(t, dir, "keys", "create", "--name", "soak", "--requests-per-minute", "1000000", "--tokens-per-minute", "1000000000", "--concurrent", "10000", "--budget-day", "1000000")
	if made.code != 0 {
		t.Fatalf("keys create: %s", made.stderr)
	}
	logFile, err := os.Create(filepath.Join(dir, "relay.log")) // an access line a request is more than a pipe to memory should hold
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	r := &relay{dir: dir, addr: listen, admin: admin, key: firstLine(made.stdout)}
	r.process = start(t, dir, func(c *exec.Cmd) { c.Stdout = logFile }, binary, "serve")
	r.client = clientOf(t, listen)
	eventually(t, "it serves", func() bool {
		res, err := r.do("GET", "/healthz", "", "")
		if err == nil {
			res.Body.Close()
		}
		return err == nil && res.StatusCode == 200
	})

	idle := r.soakSample(0)
	warm := newLoad(listen, r.key)
	for n := range int64(20) {
		warm.one(n)
	}
	warm.client.CloseIdleConnections()

	began := time.Now()
	ctx, stop := context.WithDeadline(context.Background(), began.Add(length))
	defer stop()
	l := newLoad(listen, r.key)
	var all sync.WaitGroup
	all.Go(func() { l.run(ctx, rate) })

	// Everything else in one goroutine, by the part of the run that is over.
	away := min(length/30, 30*time.Second)
	faults := []struct {
		at   float64
		what string
		act  func()
	}{
		{0.25, "kill Redis", redis.Kill}, {0.25 + away.Seconds()/length.Seconds(), "start Redis", redis.Again},
		{0.32, "kill ClickHouse", db.Kill}, {0.32 + 2*away.Seconds()/length.Seconds(), "start ClickHouse", db.Again},
		{0.45, "kill Redis", redis.Kill}, {0.45 + 2*away.Seconds()/length.Seconds(), "start Redis", redis.Again},
		{0.55, "kill ClickHouse", db.Kill}, {0.55 + away.Seconds()/length.Seconds(), "start ClickHouse", db.Again},
	}
	reloadEvery, sampleEvery := min(time.Minute, length/15), min(5*time.Second, length/60)
	var samples []soakSample
	nextReload, nextSample := reloadEvery, time.Duration(0)
	for ctx.Err() == nil {
		now := time.Since(began)
		for len(faults) > 0 && now.Seconds() >= faults[0].at*length.Seconds() {
			t.Logf("%6.1fs %s", now.Seconds(), faults[0].what)
			faults[0].act()
			faults = faults[1:]
		}
		if now >= nextReload {
			nextReload += reloadEvery
			configure()
			r.signal(syscall.SIGHUP)
		}
		if now >= nextSample {
			nextSample += sampleEvery
			samples = append(samples, r.soakSample(now))
		}
		time.Sleep(20 * time.Millisecond)
	}
	all.Wait()

	l.left.Add(warm.left.Load())
	sent, left := uint64(l.sent.Load())+20, uint64(l.left.Load())
	maps.Copy(l.failures, warm.failures)
	for what, n := range l.failures {
		t.Errorf("%d times: %s", n, what)
	}
	_, series := r.scrape()
	sum := func(name string) (n float64) {
		for s, v := range series {
			if s == name || strings.HasPrefix(s, name+"{") {
				n += v
			}
		}
		return n
	}
	eventuallyStored(t, "each row is in ClickHouse", func() bool {
		_, series = r.scrape()
		return db.Count("SELECT count() FROM relay.request_log") >= sent && sum("relay_log_spool_rows") == 0
	})
	rows, unique := db.Count("SELECT count() FROM relay.request_log"), db.Count("SELECT uniqExact(id) FROM relay.request_log")
	gone, completed := db.Count("SELECT count() FROM relay.request_log WHERE end_reason = 'client_gone'"), db.Count("SELECT count() FROM relay.request_log WHERE end_reason = 'completed'")
	t.Logf("sent %d, of which %d left midway; relay_requests_total %.0f; rows %d, different %d, dropped %.0f; %d completed, %d client_gone; %d reloads; reads of Redis %.0f",
		sent, left, sum("relay_requests_total"), rows, unique, sum("relay_log_rows_dropped_total"), completed, gone, reloads-1, sum("relay_keys_fetches_total"))
	if counted := uint64(sum("relay_requests_total")); counted != sent || rows != sent || unique != sent || sum("relay_log_rows_dropped_total") != 0 {
		t.Error("requests, metrics and rows are not the same number")
	}
	if gone != left || completed != sent-left {
		t.Errorf("%d clients left midway, and %d rows say so; %d completed of %d", left, gone, completed, sent-left)
	}
	if got := db.Count("SELECT sum(requests) FROM relay.usage_1h"); got != sent {
		t.Errorf("the rollup counts %d requests, want %d", got, sent)
	}
	for i, s := range samples {
		if s.reloadFine != 1 {
			t.Errorf("sample %d: the last reload was refused", i)
			break
		}
	}
	if first, last := samples[0].lastReload, samples[len(samples)-1].lastReload; last <= first {
		t.Error("nothing was reloaded")
	}
	checkFlat(t, samples, length)
	end := r.idleSample(idle)
	t.Logf("idle before and after: goroutines %.0f, %.0f; descriptors %.0f, %.0f; RSS %.1f, %.1f MiB", idle.goroutines, end.goroutines, idle.fds, end.fds, idle.rss/(1<<20), end.rss/(1<<20))
	if end.goroutines > idle.goroutines+3 || end.fds > idle.fds+3 {
		t.Errorf("something that the load opened has stayed; goroutines:\n%s", r.goroutines())
	}
	r.signal(sigterm)
	r.mustExit(0)
	text, err := os.ReadFile(logFile.Name())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, `"level":"error"`) && !strings.Contains(line, "Redis is away") || strings.Contains(line, "panic") || strings.Contains(line, "BUG") {
			t.Errorf("logged: %s", line)
		}
	}
	if lines := strings.Count(string(text), `"message":"request"`); uint64(lines) != sent {
		t.Errorf("%d access lines, want %d", lines, sent)
	}
}

func (r *relay) soakSample(at time.Duration) soakSample {
	_, m := r.scrape()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	return soakSample{
		at: at, goroutines: m["go_goroutines"], fds: float64(len(fds)),
		rss: m["process_resident_memory_bytes"], heap: m["go_memstats_heap_inuse_bytes"],
		lastReload: m["relay_config_last_reload_timestamp_seconds"], reloadFine: m["relay_config_last_reload_successful"],
	}
}

// checkFlat compares a part of the run before the faults, the pools being warm,
// with the last one, an eighth of the run each, by the least of each: a busy
// machine makes requests pile up, and what grows lifts the least, too.
func checkFlat(t *testing.T, samples []soakSample, length time.Duration) {
	t.Helper()
	window := func(from, to float64) (list []soakSample) {
		for _, s := range samples {
			if part := s.at.Seconds() / length.Seconds(); part >= from && part < to {
				list = append(list, s)
			}
		}
		return list
	}
	count, memory := 20.0, 8.0
	if length < 5*time.Minute {
		count, memory = 200, 64 // pools and the collector's pace are still settling; what stays is seen when idle
	}
	kinds := []struct {
		name     string
		of       func(soakSample) float64
		unit     float64
		part     float64 // may grow by this part,
		constant float64 // and by this, in units
	}{
		{"goroutines", func(s soakSample) float64 { return s.goroutines }, 1, 0.10, count},
		{"descriptors", func(s soakSample) float64 { return s.fds }, 1, 0.10, count},
		{"RSS, MiB", func(s soakSample) float64 { return s.rss }, 1 << 20, 0.10, memory},
		{"heap, MiB", func(s soakSample) float64 { return s.heap }, 1 << 20, 0.15, memory},
	}
	const parts = 16
	var b strings.Builder
	for _, k := range kinds {
		fmt.Fprintf(&b, "\n%-12s", k.name)
		for i := range parts {
			fmt.Fprintf(&b, " %6.1f", median(window(float64(i)/parts, float64(i+1)/parts), k.of)/k.unit)
		}
	}
	t.Logf("medians of each %v:%s", (length / parts).Round(time.Second/10), b.String())
	for _, k := range kinds {
		early, late := least(window(0.125, 0.25), k.of)/k.unit, least(window(0.875, 1), k.of)/k.unit
		if limit := early*(1+k.part) + k.constant; early == 0 || late > limit {
			t.Errorf("%s: %.1f before the faults, %.1f at the end; want at most %.1f", k.name, early, late, limit)
		}
	}
}

func least(samples []soakSample, of func(soakSample) float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	return of(slices.MinFunc(samples, func(a, b soakSample) int { return cmp.Compare(of(a), of(b)) }))
}

func median(samples []soakSample, of func(soakSample) float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
