package blackbox

import (
	"bytes"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"streamrelay/auth"
	"streamrelay/configs"
	"streamrelay/telemetry"
)

// keyFile makes a keys file by the commands given, such as "create --name a",
// and returns it with the keys that they printed.
func keyFile(t *testing.T, commands ...string) (path string, keys []string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys.yaml")
	for _, c := range commands {
		if key := keysCommand(t, path, c); strings.HasPrefix(c, "create") {
			keys = append(keys, key)
		}
	}
	return path, keys
}

// keysCommand runs one `relay keys` command and returns what it printed.
func keysCommand(t *testing.T, path, command string) string {
	t.Helper()
	cmd := auth.KeysCommand()
	var out, said bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&said)
	cmd.SetArgs(append(strings.Fields(command), "--file", path))
	if err := cmd.Execute(); err != nil {
		t.Fatalf("keys %s: %v\n%s", command, err, said.String())
	}
	return strings.TrimSpace(out.String())
}

// limited starts a relay whose keys stand in the file at path.
func limited(t *testing.T, up *upstream, path, more string) (*relay, *auth.Store) {
	t.Helper()
	store, err := auth.Open(auth.Options{
		Keys:   configs.Keys{Store: "file", File: path},
		Prices: map[string]configs.Price{"m1": {Input: 1000, Output: 1000}},
		Log:    zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return relayTo(t, up, more, option{store: store}), store
}

// as is a request with another key.
func as(key, rq string) string { return strings.Replace(rq, testKey, key, 1) }

func TestARequestOverALimitIs429WithWhatSDKsNeed(t *testing.T) {
	up := newUpstream(t, func(rq *received) {
		rq.reply(200, `{"usage":{"prompt_tokens":20,"completion_tokens":30,"total_tokens":50}}`, "x-ratelimit-limit-requests: 10000", "x-ratelimit-remaining-tokens: 7")
	})
	path, keys := keyFile(t, "create --name rpm --requests-per-minute 2", "create --name tpm --tokens-per-minute 100", "create --name money --budget-day 0.10", "create --name free")
	rl, _ := limited(t, up, path, "")
	chat := `{"model":"m1","max_tokens":30,"messages":[]}`
	ask := func(key, at, body string) *answer {
		t.Helper()
		_, a := rl.speak(t, as(key, post(at, body)))
		return a
	}
	for i, remaining := range []string{"1", "0"} {
		if a := ask(keys[0], "/v1/chat/completions", chat); a.status != 200 || a.get("X-Ratelimit-Limit-Requests") != "2" || a.get("X-Ratelimit-Remaining-Requests") != remaining || a.get("X-Ratelimit-Reset-Requests") == "" {
			t.Errorf("request %d: %s", i, a.head)
		}
	}
	a := ask(keys[0], "/v1/chat/completions", chat)
	checkError(t, a, "openai", wantError{status: 429, typ: "requests", code: "rate_limit_exceeded", retryAfter: a.get("Retry-After")})
	if a.get("X-Ratelimit-Remaining-Requests") != "0" || a.get("Retry-After") == "" || a.get("Retry-After-Ms") == "" {
		t.Errorf("%s", a.head)
	}
	a = ask(keys[0], "/v1/messages", chat)
	if a.status != 429 || !strings.Contains(string(a.body), `"type":"rate_limit_error"`) || a.get("Anthropic-Ratelimit-Requests-Limit") != "2" {
		t.Errorf("%s%s", a.head, a.body)
	}
	if _, err := time.Parse(time.RFC3339, a.get("Anthropic-Ratelimit-Requests-Reset")); err != nil {
		t.Error(err)
	}
	// Tokens are reserved at first and settled by what was used: 50, and 50 again.
	for i := range 2 {
		if a := ask(keys[1], "/v1/chat/completions", chat); a.status != 200 || a.get("X-Ratelimit-Limit-Tokens") != "100" {
			t.Errorf("request %d: %s%s", i, a.head, a.body)
		}
	}
	a = ask(keys[1], "/v1/chat/completions", chat)
	checkError(t, a, "openai", wantError{status: 429, typ: "tokens", code: "rate_limit_exceeded", retryAfter: a.get("Retry-After")})
	// 50 tokens at 1000 dollars a million are 5 cents.
	for i := range 2 {
		if a := ask(keys[2], "/v1/chat/completions", `{"model":"m1","max_tokens":30,"messages":[]}`); a.status != 200 {
			t.Errorf("request %d: %s%s", i, a.head, a.body)
		}
	}
	a = ask(keys[2], "/v1/chat/completions", chat)
	checkError(t, a, "openai", wantError{status: 429, typ: "insufficient_quota", code: "insufficient_quota", shouldRetry: "false", retryAfter: a.get("Retry-After")})
	// Nothing is said of limits that there are not, least of all the provider's.
	if a := ask(keys[3], "/v1/chat/completions", chat); a.status != 200 || strings.Contains(strings.ToLower(a.head), "ratelimit") {
		t.Errorf("%s", a.head)
	}
	m := rl.metrics()
	for reason, want := range map[string]float64{"rpm": 2, "tpm": 1, "budget": 1, "concurrency": 0} {
		if got := m[`relay_rate_limited_total{reason="`+reason+`"}`]; got != want {
			t.Errorf("relay_rate_limited_total of %s is %v, want %v", reason, got, want)
		}
	}
	for _, r := range rl.wait(11) {
		if (r.Status == 429) != (r.End == telemetry.Limited) {
			t.Errorf("status %d recorded as %s", r.Status, r.End)
		}
	}
}

// A slot comes back in every way in which an exchange can end.
func TestASlotComesBackHoweverTheExchangeEnds(t *testing.T) {
	release := make(chan struct{})
	var hold atomic.Bool
	up := newUpstream(t, func(rq *received) {
		switch {
		case strings.Contains(rq.body, "cut"):
			rq.send(streamHead + chunk(goodEvent))
			rq.close()
		case strings.Contains(rq.body, "error"):
			rq.reply(500, `{}`)
		case strings.Contains(rq.body, "reset"):
			rq.reset()
		case hold.Load():
			rq.send(streamHead + chunk(goodEvent))
			rq.await(release)
			rq.send(chunk(doneEvent) + lastChunk)
		default:
			rq.stream(goodEvent, doneEvent)
		}
	})
	path, keys := keyFile(t, "create --name one --concurrent 1")
	rl, _ := limited(t, up, path, "retry: {attempts: 1}\n")
	send := func(what string) *client {
		c := rl.dial()
		c.send(as(keys[0], post("/v1/chat/completions", `{"model":"m1","stream":true,"user":"`+what+`"}`)))
		return c
	}
	hold.Store(true)
	held := send("held")
	held.begin().expect(goodEvent)
	if a := send("over").answer(); a.status != 429 || a.get("Retry-After") == "" {
		t.Errorf("%s%s", a.head, a.body)
	}
	close(release)
	hold.Store(false)
	if _, err := held.r.Peek(1); err != nil {
		t.Fatal(err)
	}
	_ = held.Close()
	for _, what := range []string{"cut", "error", "reset", "good", "cut"} {
		eventually(t, "the slot is free", func() bool {
			a := send(what).answer()
			return a.status != 429
		})
	}
	c := send("gone")
	_ = c.Close()
	eventually(t, "the slot is free", func() bool { return send("good").answer().status == 200 })
}

func TestARevokedKeyEndsItsOpenStreamWhereThatIsConfigured(t *testing.T) {
	for _, carrier := range carriers {
		t.Run(carrier, func(t *testing.T) {
			up := newUpstream(t, func(rq *received) {
				rq.send(streamHead + chunk(goodEvent))
				rq.gone()
			})
			path, keys := keyFile(t, "create --name victim", "create --name other")
			rl, store := limited(t, up, path, "keys: {end_streams_on_revoke: true}\nstream: {carrier: "+carrier+"}\n")
			store.OnEnd(rl.srv.EndRevoked)
			victim, other := rl.dial(), rl.dial()
			victim.send(as(keys[0], post("/v1/chat/completions", chatStream)))
			other.send(as(keys[1], post("/v1/chat/completions", chatStream)))
			a, b := victim.begin(), other.begin()
			a.expect(goodEvent)
			b.expect(goodEvent)
			keysCommand(t, path, "revoke victim")
			rest, err := a.rest()
			if err == nil || !strings.Contains(rest, "The key was revoked.") {
				t.Errorf("%q, %v", rest, err)
			}
			if r := rl.one(); r.End != telemetry.Denied || r.Error != "invalid_api_key" {
				t.Errorf("%s, %s", r.End, r.Error)
			}
			if _, a := rl.speak(t, as(keys[0], post("/v1/chat/completions", chatStream))); a.status != 401 {
				t.Errorf("status %d", a.status)
			}
			if rl.metrics()[`relay_auth_failures_total{reason="revoked"}`] != 2 {
				t.Error("the reason is not counted")
			}
			_ = other.Close()
			if r := rl.last(3); r.End != telemetry.ClientGone {
				t.Errorf("the other stream ended with %s", r.End)
			}
		})
	}
}

func TestAKeyMayBeBoundToPaths(t *testing.T) {
	up := newUpstream(t, ok("up"))
	path, keys := keyFile(t, "create --name narrow --path /v1/embeddings --path /v1/models*")
	rl, _ := limited(t, up, path, "")
	for at, want := range map[string]int{"/v1/embeddings": 200, "/v1/chat/completions": 403, "/v1/embeddings/x": 403} {
		if _, a := rl.speak(t, as(keys[0], post(at, chatPlain))); a.status != want || want == 403 && !strings.Contains(string(a.body), "path_not_allowed") {
			t.Errorf("%s: %s%s", at, a.head, a.body)
		}
	}
}

// Providers count requests that they refuse, and so does the relay: one client
// that tries again and again must not use up what others share.
func TestRequestsThatTheProviderRefusesCountAsRequestsAndCostNothing(t *testing.T) {
	for _, status := range []int{400, 429, 500} {
		var seen atomic.Int64
		up := newUpstream(t, func(rq *received) {
			seen.Add(1)
			rq.reply(status, `{"error":{"message":"no"},"usage":{"prompt_tokens":900,"completion_tokens":900}}`)
		})
		path, keys := keyFile(t, "create --name rpm --requests-per-minute 2 --budget-day 1")
		rl, _ := limited(t, up, path, "retry: {attempts: 1}\n")
		for range 30 {
			if _, a := rl.speak(t, as(keys[0], post("/v1/chat/completions", `{"model":"m1","max_tokens":900,"messages":[]}`))); a.status != status && a.status != 429 {
				t.Fatalf("%s%s", a.head, a.body)
			}
		}
		if n := seen.Load(); n < 2 || n > 4 {
			t.Errorf("status %d: the provider got %d requests of a key with 2 a minute", status, n)
		}
	}
}
