package process

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoSecretLeavesTheProcess plants a secret in every place that may hold
// one, uses the relay well and badly, and then looks through all that came out
// of it: both outputs, metrics, answers, its own commands.
func TestNoSecretLeavesTheProcess(t *testing.T) {
	t.Parallel()
	const (
		headerSecret = "sk-header-secret-41bd"
		adminToken   = "sk-admin-secret-93ce"
		wrongKey     = "sk-relay-wrong-key-7d21"
		importedKey  = "sk-imported-secret-key-c0de"
	)
	dir, key := setUp(t, simulate(t, "--key", upstreamKey), "admin: {listen: 127.0.0.1:0, token_file: token}\nlog: {level: debug}\n")
	writeFile(t, filepath.Join(dir, "token"), adminToken)
	path := filepath.Join(dir, "relay.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, strings.Replace(string(text), "dialect: openai,", "dialect: openai, headers: {set: {x-account: "+headerSecret+"}},", 1))
	secrets := map[string]string{
		"the client's key": key, "the upstream's key": upstreamKey, "the header's secret": headerSecret,
		"the admin token": adminToken, "a wrong key": wrongKey, "an imported key": importedKey,
	}
	seen := func(where, text string) {
		t.Helper()
		for name, secret := range secrets {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s holds %s: …%s…", where, name, text[max(0, i-80):min(len(text), i+80)])
			}
		}
	}

	r := serve(t, dir, key)
	imported := runIn(t, dir, strings.NewReader(importedKey+"\n"), nil, "keys", "import", "--name", "imported", "-")
	seen("keys import", imported.stdout+imported.stderr)
	for _, c := range []struct {
		method, path, key, body string
		headers                 []string
	}{
		{"POST", "/v1/chat/completions", key, streamBody, []string{"X-Simulate", "ttft=0,gap=0,events=3"}},
		{"POST", "/v1/chat/completions", key, `{"model":"m","messages":[]}`, []string{"X-Simulate", "ttft=0,gap=0,events=3"}},
		{"POST", "/v1/chat/completions", key, streamBody, []string{"X-Simulate", "ttft=0,gap=0,events=3,cut=2"}},
		{"POST", "/v1/chat/completions", key, streamBody, []string{"X-Simulate", "ttft=0,error=401"}},
		{"POST", "/v1/chat/completions", key, streamBody, []string{"X-Simulate", "ttft=0,error=429"}},
		{"POST", "/v1/chat/completions", key, `{"model":`, nil},
		{"POST", "/v1/chat/completions", wrongKey, streamBody, nil},
		{"GET", "/v1/models?key=" + key, "", "", nil},
		{"GET", "/v1/models?key=" + wrongKey, "", "", nil},
		{"GET", "/v1/models?key=" + wrongKey, key, "", nil},
		{"GET", "/v1/models", "", "", []string{"x-api-key", key}},
		{"GET", "/v1/models", "", "", []string{"x-goog-api-key", wrongKey}},
		{"GET", "/v1/models", "", "", []string{"Authorization", "Basic " + key}},
		{"GET", "/v1/models", key, "", []string{"Connection", "upgrade", "Upgrade", "websocket", "Sec-WebSocket-Protocol", "openai-insecure-api-key." + key}},
		{"GET", "/nowhere", key, "", nil},
		{"GET", "/v1/../" + "models", key, "", nil},
	} {
		res, err := r.do(c.method, c.path, c.key, c.body, c.headers...)
		if err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
			continue
		}
		answer, _ := io.ReadAll(res.Body) // one of them is cut
		res.Body.Close()
		var head strings.Builder
		_ = res.Header.Write(&head)
		seen("the answer of "+c.method+" "+strings.SplitN(c.path, "?", 2)[0], head.String()+string(answer))
	}
	// What is no HTTP at all, with a key in it.
	for _, raw := range []string{
		"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization Bearer " + key + "\r\n\r\n",
		"POST /v1/chat/completions?key=" + key + " HTTP/9.9\r\nHost: a\r\n\r\n",
		"Bearer " + key + "\r\n\r\n",
		"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + key + "\r\nContent-Length: -1\r\n\r\n",
	} {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, raw)
		answer, _ := io.ReadAll(c)
		c.Close()
		seen("the answer to a malformed request", string(answer))
	}

	req := run(t, dir, "healthcheck", "--address", r.admin)
	seen("healthcheck", req.stdout+req.stderr)
	admin := clientOf(t, r.admin)
	scrape := newRequest(t, "http://relay/metrics")
	scrape.Header.Set("Authorization", "Bearer "+adminToken)
	res, err := admin.Do(scrape)
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("scrape: %d, %v", res.StatusCode, err)
	}
	seen("/metrics", string(metrics))
	for _, args := range [][]string{
		{"check"}, {"check", "--print"}, {"check", "--json"}, {"keys", "list"}, {"keys", "list", "--json"},
		{"keys", "show", "first"}, {"keys", "show", "--json", "first"}, {"keys", "revoke", key}, {"keys", "import", key},
		{"keys", "create", "--name", key}, {"keys", "show", "--nosuch=" + key}, {"keys", key},
	} {
		got := run(t, dir, args...)
		seen("the command "+strings.Join(args[:min(len(args), 2)], " "), got.stdout+got.stderr)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "keys.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	seen("keys.yaml", string(kept))
	r.signal(sigterm)
	r.mustExit(0)
	if lines := r.log(); len(lines) < 16 {
		t.Errorf("%d log lines: too few to have looked through", len(lines))
	}
	seen("the log", r.stdout.String())
	seen("stderr", r.stderr.String())
}
