package telemetry

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// relayLines returns the part of a scrape that this package describes.
func relayLines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "relay_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// scenario is a relay after one good stream, one cut one, one refused request,
// one retry and a failed reload.
func scenario() *Telemetry {
	tel := New(options())
	tel.Observe(streamed(nil))
	tel.Observe(streamed(func(r *Request) {
		r.Upstream, r.Model, r.End, r.UsageSource = 1, []byte("found"), UpstreamCut, UsageUnknown
	}))
	tel.Observe(streamed(func(r *Request) {
		*r = Request{Upstream: -1, Status: 401, End: Denied, Duration: 50e3, Endpoint: 1}
	}))
	tel.AuthFailed(AuthInvalid)
	tel.RateLimited(LimitBudget)
	tel.Retried(0, FailureHTTP429)
	tel.OpenConnections.Add(3)
	tel.OpenConnections.Dec()
	tel.Reloaded(false)
	tel.Gauge("relay_upstream_circuit_open", Label("upstream", "alpha"), func() float64 { return 1 })
	tel.Gauge("relay_upstream_probes_total", "", func() float64 { return 1e15 })
	tel.ConfigHash([]byte("listen: 127.0.0.1:8080\n"))
	tel.Histogram("relay_store_duration_seconds", "", "One call to a store.", .001, .01).Observe(2 * time.Millisecond)
	tel.Describe("relay_upstream_circuit_open", "1 while the upstream gets no requests.")
	return tel
}

func TestExpositionOfASmallRelay(t *testing.T) {
	got := strings.ReplaceAll(relayLines(scrape(scenario())), runtime.Version(), "GOVERSION")
	golden := filepath.Join("testdata", "metrics.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		var g, w string
		if i < len(gotLines) {
			g = gotLines[i]
		}
		if i < len(wantLines) {
			w = wantLines[i]
		}
		if g != w {
			t.Fatalf("%s:%d differs (-update rewrites it)\n got %s\nwant %s", golden, i+1, g, w)
		}
	}
}

func TestExpositionIsCleanForPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("REQUIRE_SERVERS") == "1" {
			t.Fatal("promtool is not on the PATH, and REQUIRE_SERVERS=1 wants it (Debian: apt-get install prometheus)")
		}
		t.Skip("promtool is not on the PATH: apt-get install prometheus has this test run")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(relayLines(scrape(scenario())))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestEveryFamilyHasASeriesFromTheStart(t *testing.T) {
	text := scrape(New(options()))
	for _, f := range families {
		if !strings.Contains(text, "# TYPE "+f.name+" "+f.kind+"\n"+f.name) {
			t.Errorf("%s has no series in a new relay", f.name)
		}
	}
	got := values(t, text)
	for series, v := range got {
		if strings.HasPrefix(series, "relay_") && v != 0 &&
			!strings.HasPrefix(series, "relay_build_info") && !strings.HasPrefix(series, "relay_config_") {
			t.Errorf("%s is %v in a new relay", series, v)
		}
	}
	want(t, got, map[string]float64{
		`relay_requests_total{endpoint="chat_completions",upstream="beta",model="m1",code="200"}`:    0,
		`relay_requests_total{endpoint="chat_completions",upstream="beta",model="other",code="200"}`: 0,
		`relay_tokens_total{type="cache_write",upstream="beta",model="m1"}`:                          0,
		`relay_config_last_reload_successful`:                                                        1,
		`relay_config_last_reload_timestamp_seconds`:                                                 float64(start.UnixMilli()) / 1e3,
	})
}

func TestScrapeHoldsTheProcessToo(t *testing.T) {
	got := values(t, scrape(New(options())))
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"} {
		if _, ok := got[name]; !ok {
			t.Errorf("no %s", name)
		}
	}
}

func TestOpenFilesAreCountedEvery15Seconds(t *testing.T) {
	var m fdMetrics
	read := func(after time.Duration) string {
		var b bytes.Buffer
		m.write(&b, start.Add(after))
		return b.String()
	}
	first := read(0)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if again := read(14 * time.Second); again != first {
		t.Errorf("counted again after 14 s: %s, before %s", again, first)
	}
	if later := read(15 * time.Second); later == first {
		t.Errorf("not counted again after 15 s: %s", later)
	}
}

func TestGaugesMayBeReplacedAndTakenAway(t *testing.T) {
	tel := New(options())
	labels := Label("upstream", `a"b`)
	tel.Gauge("relay_upstream_x", labels, func() float64 { return 1 })
	tel.Gauge("relay_upstream_x", labels, func() float64 { return 2.5 })
	want(t, values(t, scrape(tel)), map[string]float64{`relay_upstream_x{upstream="a\"b"}`: 2.5})
	tel.Gauge("relay_upstream_x", labels, nil)
	tel.Gauge("relay_upstream_x", labels, nil)
	if text := scrape(tel); strings.Contains(text, "relay_upstream_x") {
		t.Error("the gauge is still there")
	}
	tel.Gauge("relay_upstream_x", labels, func() float64 { return 3 })
	text := scrape(tel)
	want(t, values(t, text), map[string]float64{`relay_upstream_x{upstream="a\"b"}`: 3})
	if !strings.Contains(text, "# HELP relay_upstream_x Upstream x.\n# TYPE relay_upstream_x gauge\n") {
		t.Error("a gauge that nobody described has no HELP")
	}
}

func TestHistogramsOfOthersArePublished(t *testing.T) {
	tel := New(options())
	const name, help = "relay_store_duration_seconds", "One call to a store."
	a := tel.Histogram(name, Label("call", "get"), help, .001, 1)
	b := tel.Histogram(name, Label("call", "set"), help, .001, 1)
	if again := tel.Histogram(name, Label("call", "get"), help, .001, 1); again != a || a == b {
		t.Error("the same name and labels gave another histogram, or other labels the same")
	}
	a.Observe(time.Millisecond)
	a.Observe(2 * time.Second)
	text := scrape(tel)
	want(t, values(t, text), map[string]float64{
		`relay_store_duration_seconds_bucket{call="get",le="0.001"}`: 1,
		`relay_store_duration_seconds_bucket{call="get",le="1"}`:     1,
		`relay_store_duration_seconds_bucket{call="get",le="+Inf"}`:  2,
		`relay_store_duration_seconds_sum{call="get"}`:               2.001,
		`relay_store_duration_seconds_count{call="set"}`:             0,
	})
	const metadata = "# HELP relay_store_duration_seconds One call to a store.\n# TYPE relay_store_duration_seconds histogram\n"
	if n := strings.Count(text, metadata); n != 1 {
		t.Errorf("HELP and TYPE stand there %d times", n)
	}
}

func TestCountersOfOthersArePublishedAsCounters(t *testing.T) {
	tel := New(options())
	tel.Describe("relay_store_hits_total", "Calls that found something.")
	tel.Gauge("relay_store_hits_total", Label("result", "hit"), func() float64 { return 1 << 52 })
	const want = "# HELP relay_store_hits_total Calls that found something.\n# TYPE relay_store_hits_total counter\n" +
		"relay_store_hits_total{result=\"hit\"} 4503599627370496\n"
	if text := scrape(tel); !strings.Contains(text, want) {
		t.Errorf("no %s in\n%s", want, relayLines(text))
	}
}

func TestConfigHashIsOfTheConfigurationInForce(t *testing.T) {
	tel := New(options())
	want(t, values(t, scrape(tel)), map[string]float64{`relay_config_hash{hash=""}`: 1})
	for _, text := range []string{"a", "b", "a", "a"} {
		tel.ConfigHash([]byte(text))
	}
	got := values(t, scrape(tel))
	want(t, got, map[string]float64{`relay_config_hash{hash="ca978112ca1bbdca"}`: 1}) // printf a | sha256sum
	if n := sum(got, "relay_config_hash"); n != 1 {
		t.Errorf("%v series of relay_config_hash, want 1", n)
	}
}

// metrics.ExposeMetadata is a switch for the whole process that anybody may set.
func TestMetadataOfTheLibraryIsReplaced(t *testing.T) {
	got := string(New(options()).withMetadata(nil, []byte("# HELP relay_held_bytes\n# TYPE relay_held_bytes gauge\nrelay_held_bytes 1\n")))
	if want := "# HELP relay_held_bytes Bytes of request bodies held in memory now.\n# TYPE relay_held_bytes gauge\nrelay_held_bytes 1\n"; got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestTwoRelaysInOneProcessShareNothing(t *testing.T) {
	a, b := New(options()), New(options())
	a.Observe(streamed(nil))
	if s := sum(values(t, scrape(b)), "relay_requests_total"); s != 0 {
		t.Errorf("the other relay counted %v requests", s)
	}
}

// Every series is made while others read the tables and scrape.
func TestSeriesMayBeMadeDuringScrapes(t *testing.T) {
	tel := New(options())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 200 {
				tel.Observe(streamed(func(r *Request) {
					r.Model, r.Status = []byte{'a' + byte(i%26), 'a' + byte(w)}, 200+i
				}))
				tel.Register([]string{"u" + string(rune('a'+i%26))}, []string{"n" + string(rune('a'+i%26))})
				if i%20 == 0 {
					values(t, scrape(tel))
				}
			}
		})
	}
	wg.Wait()
	if s := sum(values(t, scrape(tel)), "relay_requests_total"); s != 800 {
		t.Errorf("%v requests, want 800", s)
	}
}

// A model's name comes from a client. Whatever it is, the scrape stays text
// that Prometheus can read.
func FuzzModelName(f *testing.F) {
	for _, s := range []string{"gpt-4o", "Qwen/Qwen2.5-7B-Instruct", `"`, `\`, `\"`, `a\\"b`, "\n", "{", `"} 1`, "é", "\xff", "\u2028"} {
		f.Add([]byte(s), []byte(s))
	}
	series := regexp.MustCompile(`^[a-z_]+(\{([a-z_]+="([^"\\\n]|\\["\\n])*",?)*\})? [-+0-9.eE]+$`)
	f.Fuzz(func(t *testing.T, model, tenant []byte) {
		tel := New(options())
		for range 2 {
			tel.Observe(streamed(func(r *Request) { r.Model, r.Tenant = model, tenant }))
		}
		text := relayLines(scrape(tel))
		for line := range strings.Lines(text) {
			if line = strings.TrimSuffix(line, "\n"); line[0] != '#' && !series.MatchString(line) {
				t.Fatalf("line %q", line)
			}
		}
		if s := sum(values(t, text), "relay_requests_total"); s != 2 {
			t.Fatalf("%v requests, want 2", s)
		}
	})
}
