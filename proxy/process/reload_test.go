package process

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const reloadBody = `{"model":"m","messages":[{"role":"user","content":"what was asked"}]}`

// TestAReloadChangesPricesBodiesAndTheAccessLog changes, on a running relay,
// what its stores and its log go by; a key made in another file is good
// afterwards, and the old one is not.
func TestAReloadChangesPricesBodiesAndTheAccessLog(t *testing.T) {
	t.Parallel()
	provider := simulate(t, "--profile", "ttft=0,gap=0,events=3")
	r := startRelay(t, provider, "keys: {file: one.keys}\n")
	ask := func() string {
		t.Helper()
		resp, err := r.do("POST", "/v1/chat/completions", r.key, reloadBody)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d", resp.StatusCode)
		}
		return resp.Header.Get("X-Request-Id")
	}
	r.record(ask()) // a line in the log
	text := "listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0}\n" +
		"upstreams:\n  - {name: sim, base_url: \"http://" + provider + "/v1\", dialect: openai, credentials: [{value: " + upstreamKey + "}]}\n" +
		"keys: {file: two.keys}\nlog: {access: false}\nprices: {m: {input: 1, output: 2}}\nrequest_log: {bodies: all}\n"
	writeFile(t, filepath.Join(r.dir, "relay.yaml"), text)
	before := r.key
	r.key = createKey(t, r.dir, "second").Key
	r.signal(syscall.SIGHUP)
	r.await(r.stdout, `"message":"reloaded"`)
	eventually(t, "the old key is refused", func() bool { return r.status(before) == http.StatusUnauthorized })
	id := ask()
	row := func() (row struct {
		Cost *int64 `json:"cost_nano"`
	}) {
		out := run(t, r.dir, "logs", "query", "--request-id", id, "--json")
		_ = json.Unmarshal([]byte(out.stdout), &row)
		return row
	}
	eventually(t, "a row with its cost", func() bool { c := row().Cost; return c != nil && *c > 0 })
	eventually(t, "its bodies", func() bool {
		out := run(t, r.dir, "logs", "body", id)
		return out.code == 0 && strings.Contains(out.stdout, reloadBody)
	})
	r.end()
	if strings.Contains(r.stdout.String(), id) {
		t.Error("a request after the reload has a line in the log")
	}
}

// TestAStreamKeepsItsCredentialsNameOverAReload has a stream end after its
// credential has got another place in the list, and another one the old place.
func TestAStreamKeepsItsCredentialsNameOverAReload(t *testing.T) {
	t.Parallel()
	provider := simulate(t, "--profile", "ttft=0,gap=400ms,events=4")
	r := startRelay(t, provider, "")
	config := func(credentials string) {
		t.Helper()
		writeFile(t, filepath.Join(r.dir, "relay.yaml"), "listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0}\n"+
			"upstreams:\n  - {name: sim, base_url: \"http://"+provider+"/v1\", dialect: openai, credentials: ["+credentials+"]}\n")
		n := strings.Count(r.stdout.String(), `"message":"reloaded"`)
		r.signal(syscall.SIGHUP)
		eventually(t, "reloaded", func() bool { return strings.Count(r.stdout.String(), `"message":"reloaded"`) > n })
	}
	const first = "{name: first, value: " + upstreamKey + "}"
	config(first)
	resp, err := r.do("POST", "/v1/chat/completions", r.key, `{"model":"m","stream":true,"messages":[]}`)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	config("{name: second, value: another-" + upstreamKey + "}, " + first)
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the row", func() bool {
		out := run(t, r.dir, "logs", "query", "--request-id", resp.Header.Get("X-Request-Id"), "--json")
		var row struct{ Credential string }
		if json.Unmarshal([]byte(out.stdout), &row) != nil {
			return false
		}
		if row.Credential != "first" {
			t.Errorf("the row names the credential %q", row.Credential)
		}
		return true
	})
	r.end()
}
