package grafana

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"streamrelay/configs/porttest"
	"streamrelay/telemetry/clickhouse/chtest"
)

// stack is a relay with all that an operator may put around it, each a real
// process: provider, Redis, ClickHouse's engine, Prometheus, VictoriaMetrics.
type stack struct {
	t              *testing.T
	dir, binary    string
	addr           string // the relay's
	db             *chtest.Server
	metrics, rules map[string]string // base URLs of what scrapes it, and of what evaluates rules, by name
	key, limited   string
	client         *http.Client       // trusts the relay's certificate
	stop           context.CancelFunc // of the load
	loadHasStopped chan struct{}
}

// patience ends a test that would otherwise hang. No test asserts a time.
const patience = 2 * time.Minute

func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("REQUIRE_SERVERS") == "1" {
		t.Fatalf("%s is not on the PATH, and REQUIRE_SERVERS=1 wants it (Debian: apt-get install %s)", name, pkg)
	}
	t.Skipf("%s is not on the PATH: apt-get install %s has this test run", name, pkg)
	return ""
}

func start(t *testing.T) *stack {
	if raceEnabled {
		t.Skip("nothing of it runs in this process: the run without the race detector has it")
	}
	redis := tool(t, "redis-server", "redis-server")
	prometheus, victoria := tool(t, "prometheus", "prometheus"), tool(t, "victoria-metrics", "victoria-metrics")
	vmalert := tool(t, "vmalert", "victoria-metrics")
	dir, err := os.MkdirTemp("", "relay-") // short, for Redis' socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &stack{t: t, dir: dir, db: chtest.Start(t), binary: filepath.Join(dir, "relay"), metrics: make(map[string]string)}
	build := exec.Command("go", "build", "-trimpath", "-o", s.binary, "streamrelay") // as make build does it, so that most of it is cached
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the relay: %v\n%s", err, out)
	}
	s.run(redis, "--port", "0", "--unixsocket", dir+"/redis.sock", "--save", "", "--dir", dir)
	await(t, "Redis serves", func() bool {
		c, err := net.Dial("unix", dir+"/redis.sock")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	provider := s.printed(s.run(s.binary, "simulate", "--listen", "127.0.0.1:0", "--profile", "ttft=20ms,gap=4ms,events=12"), `http://(127\.0\.0\.1:\d+)`)
	s.certify()
	s.write("relay.yaml", fmt.Sprintf(`listen: 127.0.0.1:0
admin: {listen: 127.0.0.1:0}
keys: {store: redis}
redis: {addresses: ["unix:%s/redis.sock"]}
upstreams:
  - {name: sim, base_url: "http://%s/v1", dialect: openai, credentials: [{value: sk-a}]}
  - {name: other, base_url: "http://%s/v1", dialect: openai, credentials: [{value: sk-b}]}
  - {name: gone, base_url: "http://%s/v1", dialect: openai, credentials: [{value: sk-c}]}
routes:
  - {models: [lost], upstreams: [gone]}
  - {models: [twice], upstreams: [sim, other], retry: {attempts: 2, on: [5xx]}}
  - {models: ["*"], upstreams: [sim]}
clickhouse: {address: "%s"}
request_log: {bodies: all}
prices: {m: {input: 2, output: 4}}
log: {access: false}
tls: {cert_file: cert.pem, key_file: key.pem}
`, dir, provider, provider, porttest.FreeAddress(t), s.db.Native))
	s.command("migrate")
	s.key = strings.Fields(s.command("keys", "create", "--name", "first", "--tenant", "acme"))[0]
	s.limited = strings.Fields(s.command("keys", "create", "--name", "narrow", "--tenant", "small", "--requests-per-minute", "1"))[0]
	log := s.run(s.binary, "serve")
	s.addr = s.printed(log, `"listen":"([^"]+)"`)
	admin := s.printed(log, `"admin":"([^"]+)"`)
	s.scrape(prometheus, victoria, vmalert, admin)
	s.load()
	return s
}

// certify writes a certificate for loopback, that of httptest, and trusts it.
func (s *stack) certify() {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	pair := srv.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})))
	s.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	s.client = srv.Client()
}

// scrape starts both databases of metrics, and what evaluates the rules beside
// each: Prometheus itself, and vmalert.
func (s *stack) scrape(prometheus, victoria, vmalert, admin string) {
	rules, err := filepath.Abs("../prometheus/relay.rules.yaml")
	if err != nil {
		s.t.Fatal(err)
	}
	scrape := fmt.Sprintf("scrape_configs: [{job_name: relay, static_configs: [{targets: [%q]}]}]\n", admin)
	const global = "global: {scrape_interval: 250ms%s}\n"
	p := s.write("prometheus.yaml", fmt.Sprintf(global, ", evaluation_interval: 250ms")+"rule_files: ["+rules+"]\n"+scrape)
	v := s.write("victoria.yaml", fmt.Sprintf(global, "")+scrape)
	at := porttest.FreeAddress(s.t)
	s.metrics["Prometheus"] = "http://" + at
	s.run(prometheus, "--config.file="+p, "--storage.tsdb.path="+s.dir+"/prometheus", "--web.listen-address="+at, "--log.level=warn")
	at = porttest.FreeAddress(s.t)
	s.metrics["VictoriaMetrics"] = "http://" + at
	s.run(victoria, "-promscrape.config="+v, "-storageDataPath="+s.dir+"/victoria", "-httpListenAddr="+at, "-search.latencyOffset=0s", "-memory.allowedBytes=256MB", "-loggerLevel=WARN")
	pager := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.t.Cleanup(pager.Close)
	s.rules = map[string]string{"Prometheus": s.metrics["Prometheus"], "vmalert": "http://" + porttest.FreeAddress(s.t)}
	s.run(vmalert, "-rule="+rules, "-datasource.url=http://"+at, "-remoteWrite.url=http://"+at, "-remoteRead.url=http://"+at, "-evaluationInterval=500ms",
		"-notifier.url="+pager.URL, "-httpListenAddr="+strings.TrimPrefix(s.rules["vmalert"], "http://"), "-loggerLevel=WARN")
}

// run starts a process that ends with the test, and returns the file of what it prints.
func (s *stack) run(name string, args ...string) string {
	s.t.Helper()
	out, err := os.Create(filepath.Join(s.dir, fmt.Sprintf("%s-%d.log", filepath.Base(name), time.Now().UnixNano())))
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return out.Name()
}

// command runs the relay to its end and returns what it wrote to standard output.
func (s *stack) command(args ...string) string {
	s.t.Helper()
	cmd := exec.Command(s.binary, args...)
	cmd.Dir = s.dir
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("relay %s: %v\n%s", strings.Join(args, " "), err, err.(*exec.ExitError).Stderr)
	}
	return string(out)
}

// printed waits until a log has what the expression captures.
func (s *stack) printed(log, expression string) (found string) {
	s.t.Helper()
	e := regexp.MustCompile(expression)
	await(s.t, "a process prints "+expression+" to "+log, func() bool {
		text, _ := os.ReadFile(log)
		if m := e.FindSubmatch(text); m != nil {
			found = string(m[1])
		}
		return found != ""
	})
	return found
}

func (s *stack) write(name, text string) string {
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("it never came to pass: %s", what)
		}
	}
}

// load sends one request of each kind over and over, so that every panel has
// something to show: good ones, each way of failing, clients that leave.
func (s *stack) load() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.loadHasStopped = cancel, make(chan struct{})
	const stream = `{"model":"m","stream":true,"messages":[]}`
	kinds := []struct{ key, body, simulate string }{
		{s.key, stream, ""},
		{s.key, `{"model":"m","messages":[]}`, ""},
		{s.key, `{"model":"cheap","messages":[]}`, ""},
		{s.key, stream, "error=503"},
		{s.key, stream, "error=429"},
		{s.key, stream, "cut=3"},
		{s.key, stream, "leave"}, // the client's own doing
		{s.key, `{"model":"twice","messages":[]}`, "error=500"},
		{s.key, `{"model":"lost","messages":[]}`, ""},
		{s.key, `{"model":`, ""},
		{s.limited, stream, ""},
		{"sk-nobody", stream, ""},
	}
	go func() {
		defer close(s.loadHasStopped)
		defer s.client.CloseIdleConnections()
		for ctx.Err() == nil {
			for _, k := range kinds {
				one, leave := context.WithCancel(ctx)
				req, err := http.NewRequestWithContext(one, "POST", "https://"+s.addr+"/v1/chat/completions", strings.NewReader(k.body))
				if err != nil {
					panic(err)
				}
				req.Header.Set("Authorization", "Bearer "+k.key)
				req.Header.Set("Content-Type", "application/json")
				if k.simulate != "" && k.simulate != "leave" {
					req.Header.Set("X-Simulate", k.simulate)
				}
				if res, err := s.client.Do(req); err == nil {
					if k.simulate == "leave" {
						_, _ = io.ReadFull(res.Body, make([]byte, 300))
						leave()
					}
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				leave()
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	s.t.Cleanup(func() { cancel(); <-s.loadHasStopped })
}

// answer is what a range or instant query of Prometheus' API answers.
type answer struct {
	Status, Error string
	Data          struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
			Values [][2]any
		}
	}
}

// ask asks base for expr over the last seconds and returns how many series came
// that have a value at all.
func (s *stack) ask(base, expr string) (series []map[string]string, err error) {
	now := time.Now()
	res, err := http.PostForm(base+"/api/v1/query_range", map[string][]string{
		"query": {expr}, "start": {fmt.Sprint(now.Add(-4 * time.Second).Unix())}, "end": {fmt.Sprint(now.Unix())}, "step": {"1s"},
	})
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var a answer
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return nil, err
	}
	if a.Status != "success" {
		return nil, fmt.Errorf("%s", a.Error)
	}
	for _, r := range a.Data.Result {
		for _, v := range r.Values {
			if v[1] != "NaN" {
				series = append(series, r.Metric)
				break
			}
		}
	}
	return series, nil
}
