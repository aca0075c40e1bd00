package process

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const (
	sigterm = syscall.SIGTERM
	sigint  = syscall.SIGINT
)

// errEnd is the clean end of a stream.
var errEnd = io.EOF

func TestServeRelaysToTheProvider(t *testing.T) {
	t.Parallel()
	r := startRelay(t, simulate(t), "")
	res := r.stream("X-Simulate", "ttft=0,gap=0,events=20", "X-Request-Id", "request-1")
	data, err := eventsOf(res.Body).rest()
	res.Body.Close()
	if err != errEnd || len(data) < 22 || data[len(data)-1] != "[DONE]" {
		t.Errorf("%d events, then %v", len(data), err)
	}
	if id := res.Header.Get("X-Request-Id"); id != "request-1" {
		t.Errorf("request id %q", id)
	}
	line := r.record("request-1")
	for name, want := range map[string]any{
		"end": "completed", "status": 200.0, "endpoint": "chat_completions", "upstream": "sim", "model": "m",
		"stream": true, "tokens_in": 7.0, "tokens_out": 20.0, "tenant": "default",
	} {
		if line[name] != want {
			t.Errorf("access line: %s is %v, want %v", name, line[name], want)
		}
	}
	if got := r.status(r.key); got != 200 {
		t.Errorf("models: status %d", got)
	}
	if got := r.status("sk-relay-nobody"); got != 401 {
		t.Errorf("unknown key: status %d", got)
	}
	_, m := r.scrape()
	for series, want := range map[string]float64{
		`relay_requests_total{endpoint="chat_completions",upstream="sim",model="m",code="200"}`: 1,
		`relay_end_reasons_total{reason="completed"}`:                                           2,
		`relay_end_reasons_total{reason="denied"}`:                                              1,
		`relay_auth_failures_total{reason="invalid"}`:                                           1,
		`relay_inflight_requests`:                                                               0,
		`relay_active_streams`:                                                                  0,
	} {
		if got, ok := m[series]; !ok || got != want {
			t.Errorf("%s is %v (there: %t), want %v", series, got, ok, want)
		}
	}
	r.signal(sigint)
	r.mustExit(0)
	if lines := r.log(); lines[len(lines)-1]["message"] != "stopped" {
		t.Errorf("last line of the log: %v", lines[len(lines)-1])
	}
}

// TestSigtermLetsAnOpenStreamEnd: nothing new is taken, what is under way goes
// to its end, then the process ends with 0.
func TestSigtermLetsAnOpenStreamEnd(t *testing.T) {
	t.Parallel()
	up := holdStreams(t)
	r := startRelay(t, up.addr, "")
	res := r.stream("X-Request-Id", "open")
	defer res.Body.Close()
	ev := eventsOf(res.Body)
	if first, err := ev.next(); first != firstEvent || err != nil {
		t.Fatalf("first event %q, %v", first, err)
	}
	r.signal(sigterm)
	eventually(t, "no new connection is taken", func() bool {
		c, err := net.Dial("tcp", r.addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if !r.running() {
		t.Fatal("the process has ended under an open stream")
	}
	up.letGo()
	if data, err := ev.rest(); err != errEnd || strings.Join(data, "|") != lastEvent+"|[DONE]" {
		t.Errorf("the rest of the stream: %q, then %v", data, err)
	}
	r.mustExit(0)
	if end := r.record("open")["end"]; end != "completed" {
		t.Errorf("end %v, want completed", end)
	}
}

// TestSecondSignalEndsOpenStreams: the client sees a broken transfer, never a
// clean end, and the provider is let go.
func TestSecondSignalEndsOpenStreams(t *testing.T) {
	t.Parallel()
	up := holdStreams(t)
	r := startRelay(t, up.addr, "")
	res := r.stream("X-Request-Id", "open")
	defer res.Body.Close()
	ev := eventsOf(res.Body)
	if _, err := ev.next(); err != nil {
		t.Fatal(err)
	}
	r.signal(sigterm)
	eventually(t, "it drains", func() bool { return strings.Contains(r.stdout.String(), "draining; a second signal ends it") })
	r.signal(sigterm)
	data, err := ev.rest()
	if err == errEnd {
		t.Error("the stream ends cleanly")
	}
	if len(data) != 1 || !strings.Contains(data[0], `"code":"draining"`) {
		t.Errorf("events after the second signal: %q", data)
	}
	if err := <-up.ended; err == nil {
		t.Error("the provider was let finish")
	}
	r.mustExit(0)
	if end := r.record("open")["end"]; end != "drained" {
		t.Errorf("end %v, want drained", end)
	}
}

// TestKeysTakeEffectWhileItRuns: created, revoked, imported; without a restart.
func TestKeysTakeEffectWhileItRuns(t *testing.T) {
	t.Parallel()
	r := startRelay(t, simulate(t), "")
	second := createKey(t, r.dir, "second")
	eventually(t, "a new key is taken", func() bool { return r.status(second.Key) == 200 })

	if got := run(t, r.dir, "keys", "revoke", "second"); got.code != 0 {
		t.Fatalf("revoke: exit code %d, stderr %q", got.code, got.stderr)
	}
	eventually(t, "a revoked key is refused", func() bool { return r.status(second.Key) == 401 })

	const old = "an-old-key-of-another-system"
	if got := runIn(t, r.dir, strings.NewReader(old+"\n"), nil, "keys", "import", "--name", "third", "-"); got.code != 0 {
		t.Fatalf("import: exit code %d, stderr %q", got.code, got.stderr)
	}
	eventually(t, "an imported key is taken", func() bool { return r.status(old) == 200 })

	if got := r.status(r.key); got != 200 {
		t.Errorf("the first key, all the while: status %d", got)
	}
}

// TestBrokenKeysFileKeepsTheKeysOfBefore, and so does one that is gone.
func TestBrokenKeysFileKeepsTheKeysOfBefore(t *testing.T) {
	t.Parallel()
	dir, key := setUp(t, simulate(t), "")
	r := &relay{process: start(t, dir, nil, binary, "serve"), dir: dir, key: key}
	r.await(r.stdout, `"message":"serving"`)
	for _, line := range r.log() {
		if line["message"] == "serving" {
			r.addr = line["listen"].(string)
		}
	}
	r.client = clientOf(t, r.addr)
	path := filepath.Join(dir, "keys.yaml")
	const kept = "keys file cannot be used: the keys of before stay in force"

	writeFile(t, path, "keys: [\n")
	eventually(t, "the log says that the file is broken", func() bool { return strings.Count(r.stdout.String(), kept) == 1 })
	if got := r.status(key); got != 200 {
		t.Errorf("with a broken file: status %d", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log says that the file is gone", func() bool { return strings.Count(r.stdout.String(), kept) == 2 })
	if got := r.status(key); got != 200 {
		t.Errorf("without the file: status %d", got)
	}
	r.signal(sigterm)
	r.mustExit(0)
}

// TestAdminListenerWantsItsToken, except for liveness; and the public listener
// shows nothing of it.
func TestAdminListenerWantsItsToken(t *testing.T) {
	t.Parallel()
	dir, key := setUp(t, simulate(t), "admin: {listen: 127.0.0.1:0, token_file: token}\n")
	const token = "admin-token-77aa"
	writeFile(t, filepath.Join(dir, "token"), token+"\n")
	r := serve(t, dir, key)
	get := func(path, authorization string) (int, string) {
		t.Helper()
		req, err := http.NewRequest("GET", "http://"+r.admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	for _, c := range []struct {
		path, authorization string
		status              int
		text                string
	}{
		{"/healthz", "", 200, "ok\n"},
		{"/readyz", "", 401, "bearer token"},
		{"/metrics", "", 401, "bearer token"},
		{"/metrics", "Bearer " + key, 401, "bearer token"},
		{"/metrics", "Basic " + token, 401, "bearer token"},
		{"/debug/pprof/", "", 401, "bearer token"},
		{"/readyz", "Bearer " + token, 200, "ready\n"},
		{"/metrics", "bearer " + token, 200, "relay_build_info"},
		{"/debug/pprof/goroutine", "Bearer " + token, 200, ""},
		{"/v1/models", "Bearer " + token, 404, ""},
	} {
		if status, text := get(c.path, c.authorization); status != c.status || !strings.Contains(text, c.text) {
			t.Errorf("%s with %q: %d %.100q, want %d and %q", c.path, c.authorization, status, text, c.status, c.text)
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/reload"} {
		res, err := r.do("GET", path, token, "")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 401 && res.StatusCode != 404 {
			t.Errorf("public listener, %s: status %d", path, res.StatusCode)
		}
	}
}

// TestServesOnAUnixSocket, and takes its place again after a kill -9 that left
// the file there; a socket that is served is not taken away.
func TestServesOnAUnixSocket(t *testing.T) {
	t.Parallel()
	dir, key := setUp(t, simulate(t), "")
	socket := "unix:" + filepath.Join(dir, "relay.sock")
	text, err := os.ReadFile(filepath.Join(dir, "relay.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "relay.yaml"), strings.Replace(string(text), "listen: 127.0.0.1:0\n", "listen: "+socket+"\n", 1))
	first := serve(t, dir, key)
	if got := first.status(key); got != 200 {
		t.Errorf("status %d", got)
	}
	if got := run(t, dir, "healthcheck", "--address", socket); got.code != 0 {
		t.Errorf("healthcheck: exit code %d, stderr %q", got.code, got.stderr)
	}
	if got, want := run(t, dir, "serve"), "relay: open listen: listen on "+socket[len("unix:"):]+": another process serves it\n"; got.code != 1 || got.stderr != want {
		t.Errorf("a second relay on the socket: exit code %d, stderr %q, want 1 and %q", got.code, got.stderr, want)
	}
	if got := first.status(key); got != 200 {
		t.Errorf("after the second relay was refused: status %d", got)
	}
	first.signal(syscall.SIGKILL)
	first.exit()
	second := serve(t, dir, key)
	if got := second.status(key); got != 200 {
		t.Errorf("after kill -9 and a restart: status %d", got)
	}
	second.signal(sigterm)
	second.mustExit(0)
	if _, err := os.Lstat(filepath.Join(dir, "relay.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket's file after a proper end: %v", err)
	}
}
