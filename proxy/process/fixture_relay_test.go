package process

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// upstreamKey is the relay's own credential at the provider.
const upstreamKey = "sk-upstream-secret-5f0c"

// relay is `relay serve` in a folder of its own, with a relay.yaml and one key.
type relay struct {
	*process
	dir    string
	addr   string // host:port or unix:/path
	admin  string // host:port, "" for none
	key    string
	client *http.Client // to addr, whatever a URL says
}

// setUp writes relay.yaml into a new folder and makes a key. sections is the
// YAML besides listen, admin and upstreams, which it may hold itself; provider
// is the upstream's address.
func setUp(t testing.TB, provider, sections string) (dir, key string) {
	t.Helper()
	dir = tempDir(t)
	var b strings.Builder
	for section, text := range map[string]string{
		"listen":    "listen: 127.0.0.1:0\n",
		"admin":     "admin: {listen: 127.0.0.1:0}\n",
		"upstreams": fmt.Sprintf("upstreams:\n  - {name: sim, base_url: \"http://%s/v1\", dialect: openai, credentials: [{value: %s}]}\n", provider, upstreamKey),
	} {
		if !strings.HasPrefix(sections, section+":") && !strings.Contains(sections, "\n"+section+":") {
			b.WriteString(text)
		}
	}
	b.WriteString(sections)
	writeFile(t, filepath.Join(dir, "relay.yaml"), b.String())
	return dir, createKey(t, dir, "first").Key
}

// created is what `relay keys create --json` prints.
type created struct {
	ID      string   `json:"id"`
	Key     string   `json:"key"`
	Name    string   `json:"name"`
	Tenants []string `json:"tenants"`
}

func createKey(t testing.TB, dir, name string) (c created) {
	t.Helper()
	r := run(t, dir, "keys", "create", "--name", name, "--json")
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("keys create: exit code %d, stderr %q", r.code, r.stderr)
	}
	if err := json.Unmarshal([]byte(r.stdout), &c); err != nil || c.Key == "" || c.ID == "" {
		t.Fatalf("keys create prints %q: %v", r.stdout, err)
	}
	return c
}

// startRelay starts `relay serve` in front of provider and waits until it
// serves. It is ended by SIGTERM with the test, and its log looked over.
func startRelay(t testing.TB, provider, sections string) *relay {
	t.Helper()
	dir, key := setUp(t, provider, sections)
	return serve(t, dir, key)
}

// serve starts `relay serve` in dir.
func serve(t testing.TB, dir, key string) *relay {
	t.Helper()
	r := &relay{process: start(t, dir, nil, binary, "serve"), dir: dir, key: key}
	r.await(r.stdout, `"message":"serving"`)
	for _, line := range r.log() {
		if line["message"] == "serving" {
			r.addr, _ = line["listen"].(string)
			r.admin, _ = line["admin"].(string)
		}
	}
	if strings.HasPrefix(r.addr, "/") { // a socket's own name for itself
		r.addr = "unix:" + r.addr
	}
	r.client = clientOf(t, r.addr)
	t.Cleanup(func() {
		r.end()
		r.checkOutput()
	})
	return r
}

// end ends the relay by SIGTERM if it still runs.
func (r *relay) end() {
	r.t.Helper()
	if !r.running() {
		return
	}
	r.client.CloseIdleConnections()
	_ = r.cmd.Process.Signal(os.Interrupt)
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Errorf("the relay does not end; its log:\n%s", r.stdout)
	}
}

// log returns the lines of the log, which must be JSON.
func (r *relay) log() (lines []map[string]any) {
	r.t.Helper()
	text := r.stdout.String()
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			continue // the rest of it is not here yet
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			r.t.Fatalf("a log line that is not JSON: %q", line)
		}
		lines = append(lines, fields)
	}
	return lines
}

// record waits for the access line of the exchange with this request id.
func (r *relay) record(id string) map[string]any {
	r.t.Helper()
	var found map[string]any
	eventually(r.t, "the access line of "+id, func() bool {
		for _, line := range r.log() {
			if line["message"] == "request" && line["request_id"] == id {
				found = line
			}
		}
		return found != nil
	})
	return found
}

// checkOutput fails the test where the relay has printed a panic, or anything
// that is not a line of its log.
func (r *relay) checkOutput() {
	r.t.Helper()
	for _, line := range r.log() {
		text := fmt.Sprint(line)
		if message, _ := line["message"].(string); strings.HasPrefix(message, "Redis is away") {
			continue // the test took it away
		}
		if line["level"] == "error" || strings.Contains(text, "panic") || strings.Contains(text, "BUG") {
			r.t.Errorf("logged: %v", line)
		}
	}
	if text := withoutLibrary(r.stderr.String()); text != "" {
		r.t.Errorf("stderr: %q", text)
	}
}

// clientOf returns a client whose every connection goes to addr, host:port or
// unix:/path.
func clientOf(t testing.TB, addr string) *http.Client {
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * patience}
}

// do sends a request to the relay with the key given, "" for none.
func (r *relay) do(method, path, key, body string, headers ...string) (*http.Response, error) {
	req, err := http.NewRequest(method, "http://relay"+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return r.client.Do(req)
}

// status is the status of GET /v1/models with key.
func (r *relay) status(key string) int {
	r.t.Helper()
	res, err := r.do("GET", "/v1/models", key, "")
	if err != nil {
		r.t.Fatalf("GET /v1/models: %v", err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		r.t.Fatalf("GET /v1/models: %v", err)
	}
	return res.StatusCode
}

const streamBody = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}`

// stream opens a chat stream; the caller closes its body.
func (r *relay) stream(headers ...string) *http.Response {
	r.t.Helper()
	res, err := r.do("POST", "/v1/chat/completions", r.key, streamBody, headers...)
	if err != nil {
		r.t.Fatalf("open a stream: %v", err)
	}
	if res.StatusCode != 200 {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		r.t.Fatalf("open a stream: %d %s", res.StatusCode, text)
	}
	return res
}

// events reads server-sent events until the body ends.
type events struct{ lines *bufio.Scanner }

func eventsOf(body io.Reader) *events { return &events{bufio.NewScanner(body)} }

// next returns the data of the next event; err is io.EOF at a clean end.
func (e *events) next() (string, error) {
	for e.lines.Scan() {
		if data, ok := strings.CutPrefix(e.lines.Text(), "data: "); ok {
			return data, nil
		}
	}
	if err := e.lines.Err(); err != nil {
		return "", err
	}
	return "", io.EOF
}

// rest returns the data of all events that are left and how the body ended.
func (e *events) rest() (data []string, err error) {
	for {
		d, err := e.next()
		if err != nil {
			return data, err
		}
		data = append(data, d)
	}
}

// scrape returns the metrics of the admin listener, as text and by series.
func (r *relay) scrape() (text string, series map[string]float64) {
	r.t.Helper()
	res, err := http.Get("http://" + r.admin + "/metrics")
	if err != nil {
		r.t.Fatalf("scrape: %v", err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		r.t.Fatalf("scrape: status %d, %v", res.StatusCode, err)
	}
	return string(all), parseMetrics(r.t, string(all))
}

func parseMetrics(t testing.TB, text string) map[string]float64 {
	t.Helper()
	m := make(map[string]float64)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			t.Fatalf("metrics line %q: %v", line, err)
		}
		m[line[:i]] = v
	}
	return m
}

var simulatedAt = regexp.MustCompile(`simulated provider on http://(\S+)`)

// simulate starts `relay simulate` and returns its address.
func simulate(t testing.TB, args ...string) string {
	t.Helper()
	p := start(t, tempDir(t), nil, binary, append([]string{"simulate", "--listen", "127.0.0.1:0"}, args...)...)
	p.await(p.stdout, "\n")
	at := simulatedAt.FindStringSubmatch(p.stdout.String())
	if at == nil {
		t.Fatalf("simulate prints %q", p.stdout)
	}
	return at[1]
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// shell runs the relay by sh, for what only a shell can set up.
func shell(script string) (string, []string) {
	return "/bin/sh", []string{"-c", script, "sh", binary}
}

// stdoutTo makes f the standard output.
func stdoutTo(f *os.File) func(*exec.Cmd) { return func(c *exec.Cmd) { c.Stdout = f } }

func newRequest(t testing.TB, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}
