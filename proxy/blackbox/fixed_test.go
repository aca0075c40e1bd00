package blackbox

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

func TestFixedRoutesNeedNoKey(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	c := rl.dial()
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n", "/metrics": ""} {
		c.send("GET " + path + " HTTP/1.1\r\nHost: relay\r\n\r\n")
		a := c.answer()
		if a.status != 200 || want != "" && string(a.body) != want || !strings.HasPrefix(a.get("Content-Type"), "text/plain") {
			t.Errorf("%s: %s%.100s", path, a.head, a.body)
		}
	}
	if up.asked() != 0 {
		t.Error("the upstream was asked")
	}
}

func TestFixedRoutesAreGetAlone(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
			_, a := rl.speak(t, request(method, path, ""))
			if a == nil || a.status != 404 && a.status != 405 {
				t.Errorf("%s %s: %+v", method, path, a)
			}
		}
	}
	if up.asked() != 0 {
		t.Error("the upstream was asked")
	}
}

func TestReadinessSaysWhyNot(t *testing.T) {
	up := untouched(t)
	var not atomic.Bool
	rl := relayTo(t, up, "", option{ready: func() error {
		if not.Load() {
			return errors.New("keys are not loaded")
		}
		return nil
	}})
	c := rl.dial()
	ask := func() *answer { c.send("GET /readyz HTTP/1.1\r\nHost: relay\r\n\r\n"); return c.answer() }
	if a := ask(); a.status != 200 {
		t.Errorf("status %d", a.status)
	}
	not.Store(true)
	if a := ask(); a.status != 503 || string(a.body) != "keys are not loaded\n" {
		t.Errorf("%s%s", a.head, a.body)
	}
	c.send("GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n")
	if a := c.answer(); a.status != 200 {
		t.Errorf("healthz: status %d", a.status)
	}
}

// sum adds the samples of a family whose labels contain all of those given.
func sum(m map[string]float64, family string, labels ...string) (total float64) {
	for series, v := range m {
		name, rest, _ := strings.Cut(series, "{")
		if name != family {
			continue
		}
		all := true
		for _, l := range labels {
			all = all && (strings.Contains(rest, l+",") || strings.Contains(rest, l+"}"))
		}
		if all {
			total += v
		}
	}
	return total
}

func TestMetricsAreExactAfterAKnownScript(t *testing.T) {
	usage := `"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":2}}`
	up := newUpstream(t, func(rq *received) {
		switch {
		case strings.Contains(rq.body, `"model":"fails"`):
			rq.reply(500, "{}")
		case strings.Contains(rq.body, `"model":"auth"`):
			rq.reply(401, "{}")
		case strings.Contains(rq.body, `"stream":true`):
			rq.stream("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n", "data: {\"choices\":[],"+usage+"}\n\n", "data: [DONE]\n\n")
		case strings.HasPrefix(rq.line, "POST /ant"):
			rq.reply(200, `{"type":"message","usage":{"input_tokens":5,"cache_read_input_tokens":4,"cache_creation_input_tokens":2,"output_tokens":6}}`)
		default:
			rq.reply(200, `{"object":"chat.completion",`+usage+`}`)
		}
	})
	rl := relayTo(t, up, "limits: {max_body: 4KiB}\n", option{keys: keysOf(key("k2", otherKey, "globex"))})
	before := rl.metrics()
	n := 0
	do := func(times int, raw string, status int) {
		t.Helper()
		for range times {
			c, a := rl.speak(t, raw)
			if a == nil || a.status != status || a.err != nil {
				t.Fatalf("%+v, want %d", a, status)
			}
			_ = c.Close()
			n++
		}
	}
	do(7, post("/v1/chat/completions", chatStream), 200)
	do(5, post("/v1/chat/completions", chatPlain), 200)
	do(4, post("/v1/messages", chatPlain), 200)
	do(3, strings.Replace(post("/v1/chat/completions", chatPlain), testKey, otherKey, 1), 200)
	do(2, post("/v1/chat/completions", `{"model":"fails"}`), 500)
	do(2, post("/v1/chat/completions", `{"model":"auth"}`), 502)
	do(6, bare("POST", "/v1/chat/completions", chatPlain, "Content-Type: application/json"), 401)
	do(2, strings.Replace(post("/v1/chat/completions", chatPlain), testKey, "bad", 1), 401)
	do(1, post("/v1/chat/completions", chatPlain, "x-api-key: other"), 401)
	do(1, post("/v1/chat/completions", chatPlain, "X-Tenant-ID: other"), 403)
	do(3, post("/v1/chat/completions", "{"), 400)
	do(2, post("/v1/chat/completions", strings.Repeat(" ", 5000)), 413)
	do(2, request("GET", "/v1/../x", ""), 400)
	do(1, request("TRACE", "/v1/models", ""), 405)
	do(1, request("GET", "/v1/models", "", "Upgrade: websocket", "Connection: upgrade"), 426)
	do(1, request("GET", "/nowhere", ""), 404)
	rl.wait(n)
	m := rl.metrics()
	for name, one := range map[string]struct {
		got, want float64
	}{
		"all requests":          {sum(m, "relay_requests_total"), float64(n)},
		"200":                   {sum(m, "relay_requests_total", `code="200"`), 19},
		"chat, 200":             {sum(m, "relay_requests_total", `code="200"`, `endpoint="chat_completions"`), 15},
		"messages, 200":         {sum(m, "relay_requests_total", `code="200"`, `endpoint="messages"`), 4},
		"500":                   {sum(m, "relay_requests_total", `code="500"`), 2},
		"502":                   {sum(m, "relay_requests_total", `code="502"`), 2},
		"401":                   {sum(m, "relay_requests_total", `code="401"`), 9},
		"403":                   {sum(m, "relay_requests_total", `code="403"`), 1},
		"400":                   {sum(m, "relay_requests_total", `code="400"`), 5},
		"no known route":        {sum(m, "relay_requests_total", `code="404"`, `endpoint="other"`), 1},
		"no good path":          {sum(m, "relay_requests_total", `code="400"`, `endpoint="other"`), 2},
		"413":                   {sum(m, "relay_requests_total", `code="413"`), 2},
		"completed":             {sum(m, "relay_end_reasons_total", `reason="completed"`), 19},
		"upstream_status":       {sum(m, "relay_end_reasons_total", `reason="upstream_status"`), 4},
		"denied":                {sum(m, "relay_end_reasons_total", `reason="denied"`), 20},
		"all ends":              {sum(m, "relay_end_reasons_total"), float64(n)},
		"streams":               {sum(m, "relay_streams_total"), 7},
		"aborts":                {sum(m, "relay_stream_aborts_total"), 0},
		"input, openai":         {sum(m, "relay_tokens_total", `type="input"`, `upstream="openai"`), 15 * 11},
		"output, openai":        {sum(m, "relay_tokens_total", `type="output"`, `upstream="openai"`), 15 * 7},
		"cached, openai":        {sum(m, "relay_tokens_total", `type="cached"`, `upstream="openai"`), 15 * 3},
		"reasoning":             {sum(m, "relay_tokens_total", `type="reasoning"`), 15 * 2},
		"output, anthropic":     {sum(m, "relay_tokens_total", `type="output"`, `upstream="anthropic"`), 4 * 6},
		"cached, anthropic":     {sum(m, "relay_tokens_total", `type="cached"`, `upstream="anthropic"`), 4 * 4},
		"cache written":         {sum(m, "relay_tokens_total", `type="cache_write"`, `upstream="anthropic"`), 4 * 2},
		"usage unknown":         {sum(m, "relay_usage_unknown_total"), 0},
		"no key":                {m[`relay_auth_failures_total{reason="missing"}`], 6},
		"bad key":               {m[`relay_auth_failures_total{reason="invalid"}`], 2},
		"two keys":              {m[`relay_auth_failures_total{reason="conflict"}`], 1},
		"wrong tenant":          {m[`relay_auth_failures_total{reason="tenant"}`], 1},
		"bad bodies":            {m[`relay_rejected_total{reason="bad_body"}`], 3},
		"large bodies":          {m[`relay_rejected_total{reason="body_too_large"}`], 2},
		"bad paths":             {m[`relay_rejected_total{reason="bad_path"}`], 2},
		"methods":               {m[`relay_rejected_total{reason="method"}`], 1},
		"upgrades":              {m[`relay_rejected_total{reason="upgrade"}`], 1},
		"unknown paths":         {m[`relay_rejected_total{reason="not_found"}`], 1},
		"acme":                  {sum(m, "relay_tenant_requests_total", `tenant="acme"`), 7 + 5 + 4 + 2 + 2 + 3 + 2},
		"globex":                {sum(m, "relay_tenant_requests_total", `tenant="globex"`), 3},
		"globex, output":        {sum(m, "relay_tenant_tokens_total", `tenant="globex"`, `type="output"`), 3 * 7},
		"durations":             {sum(m, "relay_request_duration_seconds_count"), float64(n)},
		"in flight":             {m["relay_inflight_requests"], 0},
		"active streams":        {m["relay_active_streams"], 0},
		"held bytes":            {m["relay_held_bytes"], 0},
		"panics":                {m["relay_panics_total"], 0},
		"asked of the upstream": {float64(up.requests.Load()), 23},
	} {
		if one.got != one.want {
			t.Errorf("%s: %v, want %v", name, one.got, one.want)
		}
	}
	if t.Failed() {
		for series, v := range m {
			if strings.HasPrefix(series, "relay_") && v != before[series] && !strings.Contains(series, "_bucket") && !strings.Contains(series, "_sum") {
				t.Log(series, v)
			}
		}
	}
}

func TestMetricsPassPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not on the PATH: install Debian's prometheus package to have the exposition checked")
	}
	up := newUpstream(t, func(rq *received) { rq.reply(200, `{"usage":{"prompt_tokens":1,"completion_tokens":2}}`) })
	rl := relayTo(t, up, "")
	for i := range 5 {
		c, _ := rl.speak(t, post("/v1/chat/completions", fmt.Sprintf(`{"model":"org/m\"%d\\é"}`, i)))
		_ = c.Close()
	}
	rl.wait(5)
	c := rl.dial()
	c.send("GET /metrics HTTP/1.1\r\nHost: relay\r\n\r\n")
	a := c.answer()
	if a.get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" || !bytes.HasSuffix(a.body, []byte("\n")) {
		t.Errorf("%s", a.head)
	}
	var own bytes.Buffer
	for line := range bytes.Lines(a.body) {
		name := bytes.TrimPrefix(bytes.TrimPrefix(line, []byte("# HELP ")), []byte("# TYPE "))
		if bytes.HasPrefix(name, []byte("relay_")) {
			own.Write(line)
		}
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = &own
	if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) != 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

func TestEverySeriesOfTheFixedSetsStandsAtZeroFromTheStart(t *testing.T) {
	up := untouched(t)
	m := relayTo(t, up, "").metrics()
	for _, series := range []string{
		"relay_panics_total", "relay_accept_errors_total", "relay_inflight_requests", "relay_active_streams", "relay_held_bytes",
		`relay_auth_failures_total{reason="missing"}`, `relay_auth_failures_total{reason="conflict"}`, `relay_rejected_total{reason="connections"}`,
		`relay_rejected_total{reason="bad_request"}`, `relay_rejected_total{reason="slow_client"}`, `relay_end_reasons_total{reason="client_gone"}`, `relay_end_reasons_total{reason="internal"}`,
		`relay_upstream_connections{upstream="openai",state="open"}`, `relay_upstream_connections{upstream="openai",state="idle"}`,
	} {
		if v, ok := m[series]; !ok || v != 0 {
			t.Errorf("%s: %v, there %t", series, v, ok)
		}
	}
}
