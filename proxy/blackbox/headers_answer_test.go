package blackbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"streamrelay/proxy"
	"streamrelay/telemetry"
)

func endpointName(r record) string { return proxy.EndpointNames()[r.Endpoint] }

// answering starts an upstream that answers everything with raw.
func answering(t testing.TB, raw string) *upstream {
	return newUpstream(t, func(rq *received) { rq.send(raw) })
}

// others are the fields of an answer without those that the relay or its
// framing always has, names in lower case, sorted.
func (a *answer) others() (lines []string) {
	for _, f := range a.fields {
		switch name := strings.ToLower(f[0]); name {
		case "date", "content-length", "transfer-encoding", "x-request-id", "content-type":
		default:
			lines = append(lines, name+": "+f[1])
		}
	}
	slices.Sort(lines)
	return lines
}

func TestAnswerFieldsThatStopAtTheRelay(t *testing.T) {
	for _, line := range []string{
		"Connection: keep-alive", "Keep-Alive: timeout=5", "Proxy-Connection: close", "Proxy-Authenticate: Basic", "TE: trailers", "Trailer: X-Sum", "Upgrade: h2c",
		"Set-Cookie: __cf_bm=1; Path=/", "Alt-Svc: h3=\":443\"", "Strict-Transport-Security: max-age=1", "openai-organization: org-1", "OpenAI-Project: p",
		"Server: cloudflare", "CF-RAY: 1", "cf-cache-status: DYNAMIC", "NEL: {}", "Report-To: {}", "Reporting-Endpoints: a=\"b\"",
		"Access-Control-Allow-Origin: *", "Access-Control-Expose-Headers: X", "access-control-allow-credentials: true",
		"x-ratelimit-limit-requests: 1", "X-RateLimit-Reset-Tokens: 6m0s", "anthropic-ratelimit-tokens-remaining: 1", "X-Ratelimit-Foo: 1",
	} {
		t.Run(line, func(t *testing.T) {
			up := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n"+line+"\r\n\r\n{}")
			rl := relayTo(t, up, "")
			_, a := rl.speak(t, request("GET", "/v1/models", ""))
			if a.status != 200 || string(a.body) != "{}" {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			if lines := a.others(); len(lines) != 0 {
				t.Errorf("client got %q", lines)
			}
		})
	}
}

func TestAnswerFieldsThatPass(t *testing.T) {
	fields := []string{
		"Cache-Control: private, max-age=3", "ETag: \"a\"", "Vary: Accept", "Content-Disposition: attachment; filename=\"a b\"", "Content-Language: en", "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT",
		"Location: https://elsewhere.example/x", "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT", "retry-after-ms: 250", "x-should-retry: true", "openai-processing-ms: 12", "openai-version: 2020-10-01",
		"x-siliconcloud-trace-id: t1", "apim-request-id: a1", "x-ms-region: East US", "X-Generation-Id: g1", "request-id: req_1", "X-Multi: a", "X-Multi: b", "X-Empty:", "X-Latin: caf\xe9", "Link: <a>; rel=next",
		"Warning: 199 - x", "Age: 3", "Accept-Ranges: bytes", "Content-Range: bytes 0-1/2", "Via: 1.1 vendor",
	}
	up := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json; charset=utf-8\r\n"+strings.Join(fields, "\r\n")+"\r\n\r\n{}")
	rl := relayTo(t, up, "")
	_, a := rl.speak(t, request("GET", "/v1/models", ""))
	var want []string
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ":")
		want = append(want, strings.ToLower(name)+": "+strings.TrimSpace(value))
	}
	slices.Sort(want)
	if got := a.others(); !slices.Equal(got, want) {
		t.Errorf("client got %q\nwant %q", got, want)
	}
	if a.get("Content-Type") != "application/json; charset=utf-8" || string(a.body) != "{}" {
		t.Errorf("%s %s", a.head, a.body)
	}
}

func TestAnswersConnectionHeaderIsHopByHop(t *testing.T) {
	for name, lines := range map[string]string{
		"one":           "Connection: X-Hop\r\nX-Hop: 1\r\n",
		"another case":  "connection: x-hop\r\nX-Hop: 1\r\n",
		"several":       "Connection: close, X-Hop, X-Other\r\nX-Hop: 1\r\nX-Other: 2\r\n",
		"several lines": "Connection: X-Hop\r\nConnection: X-Other\r\nX-Hop: 1\r\nX-Other: 2\r\n",
		"behind it":     "X-Hop: 1\r\nConnection: X-Hop\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			up := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Kept: 1\r\n"+lines+"\r\n{}")
			rl := relayTo(t, up, "")
			_, a := rl.speak(t, request("GET", "/v1/models", ""))
			if got := a.others(); !slices.Equal(got, []string{"x-kept: 1"}) {
				t.Errorf("client got %q", got)
			}
		})
	}
}

func TestAnswersConnectionHeaderCannotTakeTheRelaysFieldsAway(t *testing.T) {
	up := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\nConnection: x-request-id, date, content-length, content-type\r\n\r\n{}")
	rl := relayTo(t, up, "")
	_, a := rl.speak(t, request("GET", "/v1/models", ""))
	if a.status != 200 || string(a.body) != "{}" || a.get("X-Request-Id") == "" || len(a.all("Date")) != 1 {
		t.Errorf("%s%s", a.head, a.body)
	}
}

func TestDateStandsOnce(t *testing.T) {
	up := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: Mon, 01 Jan 2001 00:00:00 GMT\r\ndate: Mon, 01 Jan 2001 00:00:00 GMT\r\n\r\n{}")
	rl := relayTo(t, up, "")
	_, a := rl.speak(t, request("GET", "/v1/models", ""))
	if d := a.all("Date"); len(d) != 1 || d[0] == "Mon, 01 Jan 2001 00:00:00 GMT" {
		t.Errorf("Date %q", d)
	}
}

func TestUpstreamsRequestIDIsRecorded(t *testing.T) {
	for name, c := range map[string]struct{ fields, want string }{
		"OpenAI's":    {"X-Request-Id: req_abc\r\n", "req_abc"},
		"Anthropic's": {"request-id: req_011\r\n", "req_011"},
		"a long one":  {"X-Request-Id: " + strings.Repeat("x", 100) + "\r\n", strings.Repeat("x", 64)},
		"none":        {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			rl := relayTo(t, answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"+c.fields+"\r\n{}"), "")
			rl.speak(t, request("GET", "/v1/models", ""))
			if got := rl.one().UpstreamRequestID; got != c.want {
				t.Errorf("recorded %q, want %q", got, c.want)
			}
		})
	}
}

func TestUpstreamsRequestIDComesUnderItsOwnName(t *testing.T) {
	up := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Request-ID: from-upstream\r\n\r\n{}")
	rl := relayTo(t, up, "")
	_, a := rl.speak(t, request("GET", "/v1/models", "", "X-Request-Id: from-client"))
	if ids := a.all("X-Request-Id"); !slices.Equal(ids, []string{"from-client"}) || !slices.Equal(a.all("X-Upstream-Request-Id"), []string{"from-upstream"}) {
		t.Errorf("%s", a.head)
	}
}

func TestUpstreamCannotSpeakInTheRelaysName(t *testing.T) {
	up := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Upstream-Request-Id: a\r\nX-Request-Id: b\r\nX-Accel-Redirect: /internal\r\nX-Sendfile: /etc/passwd\r\nX-Accel-Expires: 100\r\n\r\n{}")
	rl := relayTo(t, up, "")
	_, a := rl.speak(t, request("GET", "/v1/models", ""))
	if got := a.all("X-Upstream-Request-Id"); !slices.Contains(got, "b") || len(got) > 2 {
		t.Errorf("X-Upstream-Request-Id %q", got)
	}
	// An nginx in front obeys these: no vendor may make it read local files.
	if a.get("X-Accel-Redirect") != "" || a.get("X-Sendfile") != "" {
		t.Errorf("client got %q", a.others())
	}
}

func TestStreamSaysThatItMustNotBeBuffered(t *testing.T) {
	for _, carrier := range []string{"reader", "writer"} {
		t.Run(carrier, func(t *testing.T) {
			up := answering(t, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: max-age=5\r\nX-Accel-Buffering: yes\r\nTransfer-Encoding: chunked\r\nX-Vendor: v\r\n\r\n"+chunk("data: [DONE]\n\n")+lastChunk)
			rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
			_, a := rl.speak(t, post("/v1/chat/completions", chatStream))
			want := []string{"cache-control: no-cache, no-transform", "x-accel-buffering: no", "x-vendor: v"}
			if got := a.others(); !slices.Equal(got, want) || a.err != nil {
				t.Errorf("client got %q, %v", got, a.err)
			}
			if a.get("Content-Type") != "text/event-stream" || len(a.all("Date")) != 1 || len(a.all("X-Request-Id")) != 1 {
				t.Errorf("%s", a.head)
			}
		})
	}
}

func TestAnswerTrailersAreDropped(t *testing.T) {
	up := answering(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"+chunk("{}")+"0\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\n\r\n")
	rl := relayTo(t, up, "")
	c, a := rl.speak(t, request("GET", "/v1/models", ""))
	if string(a.body) != "{}" || a.err != nil || len(a.others()) != 0 { // the client fails on any trailer
		t.Errorf("%s %s %v", a.head, a.body, a.err)
	}
	c.send(request("GET", "/v1/models", ""))
	if a := c.answer(); a.status != 200 || up.connections.Load() != 1 {
		t.Errorf("the next: status %d over %d connections", a.status, up.connections.Load())
	}
}

func TestAnswerWithoutContentTypeGetsNone(t *testing.T) {
	up := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
	rl := relayTo(t, up, "")
	_, a := rl.speak(t, request("GET", "/v1/models", ""))
	if got := a.all("Content-Type"); len(got) != 0 {
		t.Errorf("Content-Type %q", got)
	}
}

func TestAnswerToHeadHasItsLengthAndNoBody(t *testing.T) {
	up := answering(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1234\r\nX-Vendor: v\r\n\r\n")
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(request("HEAD", "/v1/models", ""))
	a := c.beginTo("HEAD")
	if a.status != 200 || a.get("Content-Length") != "1234" || a.get("X-Vendor") != "v" {
		t.Errorf("%s", a.head)
	}
	c.send(request("HEAD", "/v1/models", ""))
	if a := c.beginTo("HEAD"); a.status != 200 {
		t.Errorf("the next: %s", a.head)
	}
	if up.connections.Load() != 1 {
		t.Errorf("%d connections upstream", up.connections.Load())
	}
}

// A redirect is followed by nobody: not by the relay, and not by the client
// either, whose SDK would carry the prompt and its key there.
func TestARedirectOfWhatWasSentEndsAtTheRelay(t *testing.T) {
	other := untouched(t)
	for _, status := range []int{300, 301, 302, 303, 307, 308} {
		up := newUpstream(t, func(rq *received) { rq.reply(status, "moved", "Location: "+other.url+"/v1/x?sig=SECRET") })
		rl := relayTo(t, up, "")
		c := rl.dial()
		for n := 1; n <= 2; n++ { // the connection carries the next
			c.send(post("/v1/chat/completions", chatPlain))
			a := c.answer()
			checkError(t, a, "chat", wantError{status: 502, typ: "api_error", code: "upstream_redirect", anthropic: "api_error", google: "INTERNAL", shouldRetry: "false"})
			if strings.Contains(a.head+string(a.body), other.url) {
				t.Errorf("%s%s", a.head, a.body)
			}
			if r := rl.last(n); r.End != telemetry.UpstreamStatus || r.Error != "upstream_redirect" || r.UpstreamStatus != status || r.Status != 502 {
				t.Errorf("record: %s, %s, %d, %d", r.End, r.Error, r.UpstreamStatus, r.Status)
			}
		}
		if log := rl.log.String(); !strings.Contains(log, other.url+"/v1/x") || strings.Contains(log, "SECRET") {
			t.Errorf("log: %s", log)
		}
	}
	if other.asked() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestCORSPreflightNeedsAKeyLikeAnythingElse(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	_, a := rl.speak(t, bare("OPTIONS", "/v1/chat/completions", "", "Origin: https://a.example", "Access-Control-Request-Method: POST"))
	if a.status != 401 || a.get("Access-Control-Allow-Origin") != "" || up.asked() != 0 {
		t.Errorf("%s", a.head)
	}
}

func TestManyAnswerFieldsPass(t *testing.T) {
	var b strings.Builder
	for i := range 300 {
		fmt.Fprintf(&b, "X-Field-%03d: %s\r\n", i, strings.Repeat("v", 50))
	}
	up := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"+b.String()+"\r\n{}")
	rl := relayTo(t, up, "")
	_, a := rl.speak(t, request("GET", "/v1/models", ""))
	if a.status != 200 || len(a.others()) != 300 {
		t.Errorf("status %d, %d fields: %s", a.status, len(a.others()), clip(a.body))
	}
}
