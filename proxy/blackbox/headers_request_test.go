package blackbox

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
)

// echo starts an upstream that hands each request to the test and answers {}.
func echo(t testing.TB) (*upstream, chan *received) {
	got := make(chan *received, 1)
	return newUpstream(t, func(rq *received) { got <- rq; rq.reply(200, "{}") }), got
}

// lines are the field lines of a request as the upstream got it, names in
// lower case, without the relay's own.
func (rq *received) lines(without ...string) (lines []string) {
	for _, line := range strings.Split(strings.TrimSuffix(rq.head, "\r\n\r\n"), "\r\n")[1:] {
		name, value, _ := strings.Cut(line, ":")
		if name = strings.ToLower(name); !slices.Contains(without, name) {
			lines = append(lines, name+":"+value)
		}
	}
	slices.Sort(lines)
	return lines
}

func TestRequestAsTheUpstreamGetsIt(t *testing.T) {
	up, got := echo(t)
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(post("/v1/chat/completions?a=b", chatPlain, "User-Agent: OpenAI/Python 1.2", "Accept: application/json", "X-Stainless-Lang: python",
		"OpenAI-Beta: assistants=v2", "Idempotency-Key: i-1", "X-Client-Request-Id: c-1", "X-Unknown:  two  words ", "X-Empty:"))
	if a := c.answer(); a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	rq := receive(t, got)
	want := "POST /oai/v1/chat/completions?a=b HTTP/1.1\r\n" +
		"Host: " + up.addr + "\r\n" +
		"Authorization: Bearer " + upstreamKey + "\r\n" +
		"Accept-Encoding: identity\r\n" +
		"Content-Type: application/json\r\n" +
		"User-Agent: OpenAI/Python 1.2\r\n" +
		"Accept: application/json\r\n" +
		"X-Stainless-Lang: python\r\n" +
		"OpenAI-Beta: assistants=v2\r\n" +
		"Idempotency-Key: i-1\r\n" +
		"X-Client-Request-Id: c-1\r\n" +
		"X-Unknown: two  words\r\n" +
		"X-Empty: \r\n" +
		fmt.Sprintf("Content-Length: %d\r\n\r\n", len(chatPlain))
	if rq.head != want {
		t.Errorf("got  %q\nwant %q", rq.head, want)
	}
	if rq.body != chatPlain {
		t.Errorf("body %q", rq.body)
	}
}

func TestRequestFieldsThatStopAtTheRelay(t *testing.T) {
	up, got := echo(t)
	rl := relayTo(t, up, "", option{keys: keysOf(key("any", "sk-relay-any-tenant-1", "*"))})
	for _, line := range []string{
		"Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "Proxy-Authenticate: Basic", "Proxy-Authorization: Basic eDp5", "TE: trailers", "TE: trailers, deflate",
		"Trailer: X-Checksum", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk", "Connection: keep-alive", "Connection: close",
		"Cookie: session=1", "OpenAI-Organization: org-1", "OpenAI-Project: proj-1", "Origin: https://a.example", "Referer: https://a.example/x",
		"Forwarded: for=1.2.3.4", "Via: 1.1 proxy", "X-Real-IP: 1.2.3.4", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: a", "X-Forwarded-Proto: https", "X-Forwarded-Port: 1",
		"X-Forwarded-Prefix: /p", "True-Client-IP: 1.2.3.4", "CF-Connecting-IP: 1.2.3.4", "CF-RAY: 1", "Baggage: a=b", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1x", "traceparent: x",
		"tracestate: a=b", "Sec-Fetch-Mode: cors", "Sec-Ch-Ua: x", "Sec-WebSocket-Protocol: openai-insecure-api-key.sk-1", "X-Request-ID: r-1", "X-Tenant-ID: acme",
		"Accept-Encoding: gzip, br", "accept-encoding: zstd", "Expect: something-else", "X-Api-Key: sk-relay-any-tenant-1", "Api-Key: sk-relay-any-tenant-1", "X-Goog-Api-Key: sk-relay-any-tenant-1",
	} {
		t.Run(line, func(t *testing.T) {
			c := rl.dialFor(t)
			c.send(strings.Replace(request("GET", "/v1/models", "", line), testKey, "sk-relay-any-tenant-1", 1))
			if a := c.answer(); a.status != 200 {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			rq := receive(t, got)
			name, _, _ := strings.Cut(line, ":")
			if lines := rq.lines("host", "authorization"); len(lines) != 0 && !(strings.EqualFold(name, "Accept-Encoding") && lines[0] == "accept-encoding: identity") {
				t.Errorf("upstream got %q", lines)
			}
			if v := rq.get("Authorization"); v != "Bearer "+upstreamKey || strings.Count(strings.ToLower(rq.head), "\r\nauthorization:") != 1 {
				t.Errorf("upstream got %q", rq.head)
			}
		})
	}
}

// TestATraceGoesOnAndIsRecorded sends trace contexts of W3C's form; what is not
// valid, or stands twice, goes nowhere.
func TestATraceGoesOnAndIsRecorded(t *testing.T) {
	up, got := echo(t)
	rl := relayTo(t, up, "")
	const valid = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	served := 0
	for name, c := range map[string]struct {
		fields []string
		lines  []string
		trace  string
	}{
		"with state":    {[]string{"Traceparent: " + valid[13:], "tracestate: a=b,c=d"}, []string{valid, "tracestate: a=b,c=d"}, "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331"},
		"alone":         {[]string{valid}, []string{valid}, "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331"},
		"twice":         {[]string{valid, valid, "tracestate: a=b"}, nil, ""},
		"not valid":     {[]string{valid + "x", "tracestate: a=b"}, nil, ""},
		"made hop":      {[]string{valid, "Connection: traceparent"}, nil, "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331"},
		"state alone":   {[]string{"tracestate: a=b"}, nil, ""},
		"nothing of it": {nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cl := rl.dialFor(t)
			cl.send(request("GET", "/v1/models", "", c.fields...))
			if a := cl.answer(); a.status != 200 {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			if lines := receive(t, got).lines("host", "authorization"); !slices.Equal(lines, c.lines) {
				t.Errorf("upstream got %q, want %q", lines, c.lines)
			}
			served++
			o := rl.last(served)
			if trace := fmt.Sprintf("%x %x", o.TraceID, o.ParentID); c.trace != "" && trace != c.trace {
				t.Errorf("recorded %s", trace)
			} else if c.trace == "" && o.TraceID != [16]byte{} {
				t.Errorf("recorded %x", o.TraceID)
			}
		})
	}
}

func TestFieldsNamedByConnectionAreHopByHop(t *testing.T) {
	up, got := echo(t)
	rl := relayTo(t, up, "")
	for name, fields := range map[string][]string{
		"one":            {"Connection: X-Hop", "X-Hop: 1"},
		"another case":   {"Connection: x-HOP", "X-Hop: 1"},
		"several":        {"Connection: close, X-Hop ,X-Other", "X-Hop: 1", "X-Other: 2"},
		"several lines":  {"Connection: X-Hop", "connection: X-Other", "X-Hop: 1", "X-Other: 2"},
		"named twice":    {"Connection: X-Hop, X-Hop", "X-Hop: 1", "X-Hop: 2"},
		"before it":      {"X-Hop: 1", "Connection: X-Hop"},
		"empty elements": {"Connection: , ,X-Hop,,", "X-Hop: 1"},
		"not there":      {"Connection: X-Hop"},
		"itself":         {"Connection: connection, X-Hop", "X-Hop: 1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := rl.dialFor(t)
			c.send(request("GET", "/v1/models", "", append(fields, "X-Kept: 1", "X-Hop-Not: 1")...))
			a := c.answer()
			if name == "itself" && refusal(a.status) {
				return
			}
			if a.status != 200 {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			if lines := receive(t, got).lines("host", "authorization"); !slices.Equal(lines, []string{"x-hop-not: 1", "x-kept: 1"}) {
				t.Errorf("upstream got %q", lines)
			}
		})
	}
}

func TestRequestTrailersAreDropped(t *testing.T) {
	up, got := echo(t)
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(request("POST", "/v1/files", "", "Content-Type: application/octet-stream", "Trailer: X-Checksum", "Transfer-Encoding: chunked") +
		chunk("abc") + "0\r\nX-Checksum: 1\r\nAuthorization: Bearer x\r\n\r\n")
	a := c.answer()
	if refusal(a.status) {
		return // fasthttp forbids some names; that is fine, too
	}
	rq := receive(t, got)
	if rq.raw != chunk("abc")+lastChunk || strings.Contains(strings.ToLower(rq.head), "trailer") || strings.Contains(rq.head, "Checksum") {
		t.Errorf("upstream got %q %q", rq.head, rq.raw)
	}
}

func TestCredentialIsPresentedInTheUpstreamsDialect(t *testing.T) {
	up, got := echo(t)
	upstreams := fmt.Sprintf(`upstreams:
  - {name: openai, dialect: openai, base_url: "%[1]s/oai/v1", credentials: [{value: %[2]s}]}
  - {name: anthropic, dialect: anthropic, base_url: "%[1]s/ant/v1", credentials: [{value: %[2]s}]}
  - {name: gemini, dialect: gemini, base_url: "%[1]s/gem/v1beta", credentials: [{value: %[2]s}]}
  - {name: azure, dialect: azure, base_url: "%[1]s/openai", credentials: [{value: %[2]s}]}
`, up.url, upstreamKey)
	surfaces := fmt.Sprintf(`upstreams:
  - {name: gemini, dialect: gemini, base_url: "%[1]s/v1beta/openai", credentials: [{value: %[2]s}]}
  - {name: azure, dialect: azure, base_url: "%[1]s/openai/v1", credentials: [{value: %[2]s}]}
routes:
  - {models: ["g-*"], upstreams: [gemini]}
  - {models: ["a-*"], upstreams: [azure]}
`, up.url, upstreamKey)
	for name, c := range map[string]struct{ yaml, method, path, body, line, field string }{
		"openai":            {upstreams, "POST", "/v1/chat/completions", chatPlain, "POST /oai/v1/chat/completions", "authorization: Bearer " + upstreamKey},
		"anthropic by path": {upstreams, "POST", "/v1/messages", chatPlain, "POST /ant/v1/messages", "x-api-key: " + upstreamKey},
		"anthropic, tokens": {upstreams, "POST", "/v1/messages/count_tokens?beta=true", chatPlain, "POST /ant/v1/messages/count_tokens?beta=true", "x-api-key: " + upstreamKey},
		"gemini":            {upstreams, "POST", "/v1beta/models/m:streamGenerateContent?alt=sse", "{}", "POST /gem/v1beta/models/m:streamGenerateContent?alt=sse", "x-goog-api-key: " + upstreamKey},
		"gemini as openai":  {upstreams, "POST", "/v1beta/openai/chat/completions", chatPlain, "POST /gem/v1beta/openai/chat/completions", "authorization: Bearer " + upstreamKey},
		"gemini's models":   {upstreams, "GET", "/v1beta/openai/models", "", "GET /gem/v1beta/openai/models", "authorization: Bearer " + upstreamKey},
		"azure":             {upstreams, "POST", "/openai/deployments/d/chat/completions?api-version=2024-06-01", chatPlain, "POST /openai/deployments/d/chat/completions?api-version=2024-06-01", "api-key: " + upstreamKey},
		"openai on gemini":  {surfaces, "POST", "/v1/chat/completions", `{"model":"g-1"}`, "POST /v1beta/openai/chat/completions", "authorization: Bearer " + upstreamKey},
		"openai on azure":   {surfaces, "POST", "/v1/chat/completions", `{"model":"a-1"}`, "POST /openai/v1/chat/completions", "api-key: " + upstreamKey},
	} {
		t.Run(name, func(t *testing.T) {
			rl := startRelay(t, c.yaml)
			cl := rl.dialFor(t)
			cl.send(request(c.method, c.path, c.body, "Content-Type: application/json", "x-api-key: "+testKey, "api-key: "+testKey, "x-goog-api-key: "+testKey))
			if a := cl.answer(); a.status != 200 {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			rq := receive(t, got)
			if rq.line != c.line+" HTTP/1.1" {
				t.Errorf("line %q, want %q", rq.line, c.line)
			}
			credentials := slices.DeleteFunc(rq.lines(), func(l string) bool { return !strings.Contains(l, upstreamKey) && !strings.Contains(l, testKey) })
			if !slices.Equal(credentials, []string{c.field}) {
				t.Errorf("credentials %q, want %q", credentials, c.field)
			}
		})
	}
	t.Run("anthropic by its version header", func(t *testing.T) {
		rl := startRelay(t, upstreams)
		cl := rl.dialFor(t)
		cl.send(request("GET", "/v1/models", "", "anthropic-version: 2023-06-01", "anthropic-beta: a,b"))
		cl.answer()
		rq := receive(t, got)
		if rq.line != "GET /ant/v1/models HTTP/1.1" || rq.get("anthropic-version") != "2023-06-01" || rq.get("anthropic-beta") != "a,b" || rq.get("x-api-key") != upstreamKey {
			t.Errorf("upstream got %q", rq.head)
		}
	})
}

func TestConfiguredChangesToTheFields(t *testing.T) {
	up, got := echo(t)
	rl := startRelay(t, fmt.Sprintf(`upstreams:
  - name: openai
    dialect: openai
    base_url: %q
    credentials: [{value: %s}]
    headers: {set: {X-Set: from-config, OpenAI-Organization: org-mine, User-Agent: relay}, remove: [X-Removed, x-also]}
`, up.url+"/v1", upstreamKey))
	c := rl.dial()
	c.send(request("GET", "/v1/models", "", "X-Set: client", "x-set: client again", "OpenAI-Organization: org-client", "User-Agent: client", "x-removed: 1", "X-ALSO: 1", "X-Kept: 1"))
	if a := c.answer(); a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	want := []string{"openai-organization: org-mine", "user-agent: relay", "x-kept: 1", "x-set: from-config"}
	if lines := receive(t, got).lines("host", "authorization"); !slices.Equal(lines, want) {
		t.Errorf("upstream got %q, want %q", lines, want)
	}
}

func TestNoUserAgentOfTheRelaysOwn(t *testing.T) {
	up, got := echo(t)
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(request("GET", "/v1/models", ""))
	c.answer()
	if lines := receive(t, got).lines("host", "authorization"); len(lines) != 0 {
		t.Errorf("upstream got %q", lines)
	}
}

func TestHostIsTheUpstreams(t *testing.T) {
	up, got := echo(t)
	_, port, _ := net.SplitHostPort(up.addr)
	rl := startRelay(t, fmt.Sprintf("upstreams:\n  - {name: o, dialect: openai, base_url: \"http://localhost:%s/v1\", credentials: [{value: k}]}\n", port))
	for _, host := range []string{"relay", "api.openai.com", "[::1]:8080", "a:1"} {
		c := rl.dialFor(t)
		c.send(strings.Replace(request("GET", "/v1/models", ""), "Host: relay", "Host: "+host, 1))
		c.answer()
		if rq := receive(t, got); rq.get("Host") != "localhost:"+port || strings.Count(rq.head, "Host:") != 1 {
			t.Errorf("upstream got %q", rq.head)
		}
	}
}

func TestBodylessRequestsAreFramedAsTheirMethodAsks(t *testing.T) {
	up, got := echo(t)
	rl := relayTo(t, up, "")
	for _, c := range []struct{ method, length, want string }{
		{"GET", "", ""}, {"HEAD", "", ""}, {"DELETE", "", ""}, {"OPTIONS", "", ""},
		{"POST", "", "0"}, {"PUT", "", "0"}, {"PATCH", "", "0"}, {"POST", "Content-Length: 0", "0"},
	} {
		var fields []string
		if c.length != "" {
			fields = append(fields, c.length)
		}
		cl := rl.dialFor(t)
		cl.send(request(c.method, "/v1/files/f/cancel", "", fields...))
		if a := cl.beginTo(c.method); a.status != 200 {
			t.Errorf("%s: status %d", c.method, a.status)
		}
		if rq := receive(t, got); rq.line != c.method+" /oai/v1/files/f/cancel HTTP/1.1" || rq.get("Content-Length") != c.want || rq.get("Transfer-Encoding") != "" {
			t.Errorf("upstream got %q", rq.head)
		}
		_ = cl.Close()
	}
}
