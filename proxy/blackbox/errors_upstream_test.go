package blackbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"streamrelay/configs/porttest"
	"streamrelay/telemetry"
)

func TestUpstreamsRefusalOfTheRelaysKeyIsNotTheClients(t *testing.T) {
	const hint = "Incorrect API key provided: sk-up***987. You can find yours at https://vendor.example"
	for _, status := range []int{401, 403} {
		up := newUpstream(t, func(rq *received) {
			rq.reply(status, `{"error":{"message":"`+hint+`"}}`, "WWW-Authenticate: Vendor", "X-Vendor: secret", "x-should-retry: true", "Retry-After: 9")
		})
		rl := relayTo(t, up, "")
		n := 0
		for dialect, path := range dialectPath {
			t.Run(fmt.Sprint(status, " ", dialect), func(t *testing.T) {
				c, a := rl.speak(t, post(path, chatPlain))
				checkError(t, a, dialect, wantError{status: 502, typ: "api_error", code: "upstream_auth", anthropic: "api_error", google: "INTERNAL", shouldRetry: "false"})
				if all := a.head + string(a.body); strings.Contains(all, "sk-up") || strings.Contains(all, "vendor") || strings.Contains(all, "Vendor") {
					t.Errorf("the upstream's words come through: %s", all)
				}
				_ = c.Close()
				n++
				if r := rl.last(n); r.Status != 502 || r.UpstreamStatus != status || r.End != telemetry.UpstreamStatus || r.Error != "upstream_auth" {
					t.Errorf("recorded as status %d, upstream %d, %v, %q", r.Status, r.UpstreamStatus, r.End, r.Error)
				}
			})
		}
		if strings.Contains(rl.log.String(), "sk-up") {
			t.Error("the upstream's words are in the log")
		}
	}
}

func TestUpstreamsOtherStatusesPassAsTheyAre(t *testing.T) {
	var status int
	body := "{\"code\":20012,\"message\":\"caf\xc3\xa9 \\u0000\",\"data\":null}\n \n"
	up := newUpstream(t, func(rq *received) {
		if status == 204 || status == 304 {
			rq.send(fmt.Sprintf("HTTP/1.1 %d Status\r\nX-Vendor: v\r\n\r\n", status))
			return
		}
		rq.reply(status, body, "Retry-After: 17", "retry-after-ms: 17000", "x-should-retry: false", "X-Vendor: v",
			"x-ratelimit-limit-requests: 5", "X-RateLimit-Remaining-Tokens: 5", "anthropic-ratelimit-requests-limit: 5", "x-request-id: up-1", "request-id: req_1")
	})
	rl := relayTo(t, up, "")
	n := 0
	for _, status = range []int{200, 201, 202, 204, 207, 299, 301, 302, 304, 307, 308, 400, 402, 404, 405, 409, 410, 413, 418, 422, 424, 426, 429, 499, 500, 501, 502, 503, 504, 520, 529, 599, 999} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			c, a := rl.speak(t, post("/v1/chat/completions", chatPlain))
			if a.status != status {
				t.Fatalf("status %d", a.status)
			}
			n++
			r := rl.last(n)
			end := telemetry.Completed
			if status >= 400 {
				end = telemetry.UpstreamStatus
			}
			if r.Status != status || r.UpstreamStatus != status || r.End != end {
				t.Errorf("recorded as %d, upstream %d, %v", r.Status, r.UpstreamStatus, r.End)
			}
			if a.get("X-Vendor") != "v" {
				t.Errorf("X-Vendor %q", a.get("X-Vendor"))
			}
			if status == 204 || status == 304 {
				return
			}
			if string(a.body) != body || a.err != nil {
				t.Errorf("body %q, %v", a.body, a.err)
			}
			for name, want := range map[string][]string{
				"Retry-After": {"17"}, "Retry-After-Ms": {"17000"}, "X-Should-Retry": {"false"}, "Request-Id": {"req_1"}, "X-Upstream-Request-Id": {"up-1"},
				"x-ratelimit-limit-requests": nil, "x-ratelimit-remaining-tokens": nil, "anthropic-ratelimit-requests-limit": nil,
			} {
				if got := a.all(name); !slices.Equal(got, want) {
					t.Errorf("%s %q, want %q", name, got, want)
				}
			}
			if got := a.all("X-Request-Id"); len(got) != 1 || !uuid.MatchString(got[0]) {
				t.Errorf("x-request-id %q", got)
			}
			_ = c.Close()
		})
	}
}

func TestRetryAfterIsAddedTo429Alone(t *testing.T) {
	var status int
	up := newUpstream(t, func(rq *received) { rq.reply(status, "{}") })
	rl := relayTo(t, up, "")
	for _, status = range []int{400, 429, 500, 503, 529} {
		c, a := rl.speak(t, post("/v1/chat/completions", chatPlain))
		want := ""
		if status == 429 {
			want = "1" // or SDKs come back within a second
		}
		if got := a.get("Retry-After"); got != want || a.status != status {
			t.Errorf("status %d: Retry-After %q", a.status, got)
		}
		_ = c.Close()
	}
}

func TestUpstreamThatDoesNotAnswer(t *testing.T) {
	nowhere := porttest.DeadAddress(t)
	for name, c := range map[string]struct {
		script func(*received)
		want   wantError
		end    telemetry.EndReason
	}{
		"refuses connections": {nil, wantError{status: 502, typ: "api_error", code: "upstream_connect", anthropic: "api_error", google: "INTERNAL", retryAfter: "1"}, telemetry.UpstreamError},
		"closes at once": {func(rq *received) { rq.close() },
			wantError{status: 502, typ: "api_error", code: "upstream_error", anthropic: "api_error", google: "INTERNAL", shouldRetry: "false"}, telemetry.UpstreamCut},
		"resets": {func(rq *received) { rq.reset() },
			wantError{status: 502, typ: "api_error", code: "upstream_error", anthropic: "api_error", google: "INTERNAL", shouldRetry: "false"}, telemetry.UpstreamCut},
		"closes within its head": {func(rq *received) { rq.send("HTTP/1.1 200 OK\r\nContent-"); rq.close() },
			wantError{status: 502, typ: "api_error", code: "upstream_error", anthropic: "api_error", google: "INTERNAL", shouldRetry: "false"}, telemetry.UpstreamCut},
		"speaks something else": {func(rq *received) { rq.send("220 smtp.example ESMTP\r\n"); rq.close() },
			wantError{status: 502, typ: "api_error", code: "upstream_error", anthropic: "api_error", google: "INTERNAL", shouldRetry: "false"}, telemetry.UpstreamError},
		"says nothing": {func(rq *received) { rq.gone() },
			wantError{status: 504, typ: "timeout_error", code: "upstream_timeout", anthropic: "timeout_error", google: "DEADLINE_EXCEEDED", shouldRetry: "false"}, telemetry.TimeoutHead},
	} {
		t.Run(name, func(t *testing.T) {
			up := newUpstream(t, c.script)
			yaml := upstreamsYAML(up, "") + "timeouts: {head: 300ms}\n"
			if c.script == nil {
				yaml = strings.ReplaceAll(yaml, up.addr, nowhere)
			}
			rl := startRelay(t, yaml)
			n := 0
			for dialect, path := range dialectPath {
				conn, a := rl.speak(t, post(path, chatStream))
				checkError(t, a, dialect, c.want)
				n++
				if r := rl.last(n); r.End != c.end || r.Status != c.want.status || r.Error != c.want.code {
					t.Errorf("recorded as %v, status %d, %q", r.End, r.Status, r.Error)
				}
				_ = conn.Close()
			}
			if c.script != nil && up.requests.Load() != int64(n) {
				t.Errorf("the upstream saw %d requests for %d", up.requests.Load(), n)
			}
		})
	}
}

func TestUpstreamOfNoConnectionsIsBusy(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	up := newUpstream(t, func(rq *received) { close(arrived); rq.await(release); rq.reply(200, "{}") })
	rl := startRelay(t, upstreamsYAML(up, "max_connections: 1, "))
	first := rl.dial()
	first.send(post("/v1/chat/completions", chatPlain))
	receive(t, arrived)
	_, a := rl.speak(t, post("/v1/chat/completions", chatPlain))
	checkError(t, a, "openai", wantError{status: 503, typ: "server_error", code: "no_upstream", retryAfter: "1"})
	close(release)
	if a := first.answer(); a.status != 200 {
		t.Errorf("the first: status %d", a.status)
	}
}

func TestPathWithoutAnUpstreamOfItsDialect(t *testing.T) {
	up := untouched(t)
	rl := startRelay(t, "upstreams:\n  - {name: a, dialect: anthropic, base_url: \""+up.url+"/v1\", credentials: [{value: k}]}\n"+
		"routes:\n  - {models: [\"claude-*\"], upstreams: [a]}\n")
	_, a := rl.speak(t, post("/v1/chat/completions", chatPlain))
	checkError(t, a, "openai", wantError{status: 404, typ: "invalid_request_error", code: "unknown_url"})
	_, a = rl.speak(t, post("/v1/messages", `{"model":"unknown"}`))
	checkError(t, a, "anthropic", wantError{status: 404, anthropic: "not_found_error"})
	if up.asked() != 0 {
		t.Error("the upstream was asked")
	}
}
