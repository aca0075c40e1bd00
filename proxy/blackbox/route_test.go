package blackbox

import (
	"fmt"
	"strings"
	"testing"

	"streamrelay/auth"
)

func TestModelsAreListedFromTheRoutesThatNameThem(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, `routes:
  - {models: [hidden], tenants: [other], upstreams: [openai, anthropic, gemini, azure]}
  - {models: [gpt-4o, "claude-*", secret], dialects: [openai, azure], upstreams: [openai, azure], rewrite_model: {gpt-4o: gpt-4o-2024-11-20, claude-fast: x, unreachable: y}}
  - {models: [claude-opus, gpt-4o], dialects: [anthropic, gemini], upstreams: [anthropic, gemini]}
`)
	for _, c := range []struct{ path, field, want string }{
		{"/v1/models", "", `{"data":[{"id":"gpt-4o","object":"model","created":0,"owned_by":"relay"},{"id":"secret","object":"model","created":0,"owned_by":"relay"},{"id":"claude-fast","object":"model","created":0,"owned_by":"relay"}],"object":"list"}`},
		{"/v1/models/gpt-4o", "", `{"id":"gpt-4o","object":"model","created":0,"owned_by":"relay"}`},
		{"/openai/models?api-version=1", "", `{"data":[{"id":"gpt-4o"`},
		{"/v1/models", "anthropic-version: 2023-06-01", `{"data":[{"type":"model","id":"claude-opus","display_name":"claude-opus","created_at":"1970-01-01T00:00:00Z"},{"type":"model","id":"gpt-4o","display_name":"gpt-4o","created_at":"1970-01-01T00:00:00Z"}],"first_id":"claude-opus","has_more":false,"last_id":"gpt-4o"}`},
		{"/v1beta/openai/models", "", `{"data":[{"id":"claude-opus","object":"model","created":0,"owned_by":"relay"},`},
		{"/v1beta/openai/models/gpt-4o", "", `{"id":"gpt-4o","object":"model","created":0,"owned_by":"relay"}`},
		{"/v1beta/models", "", `{"models":[{"name":"models/claude-opus","displayName":"claude-opus","supportedGenerationMethods":["generateContent","streamGenerateContent"]},`},
	} {
		var fields []string
		if c.field != "" {
			fields = append(fields, c.field)
		}
		_, a := rl.speak(t, request("GET", c.path, "", fields...))
		if a.status != 200 || !strings.HasPrefix(string(a.body), c.want) || a.get("X-Request-Id") == "" {
			t.Errorf("%s: %s%s\nwant %s", c.path, a.head, a.body, c.want)
		}
	}
	for _, path := range []string{"/v1/models/hidden", "/v1/models/none"} {
		if _, a := rl.speak(t, request("GET", path, "")); a.status != 404 || !strings.Contains(string(a.body), "model_not_found") {
			t.Errorf("%s: %s%s", path, a.head, a.body)
		}
	}
}

func TestAKeyIsShownTheModelsThatItMayUse(t *testing.T) {
	narrow := key("k2", "sk-narrow-1", "acme")
	narrow.Models = []string{"gpt-*"}
	rl := relayTo(t, untouched(t), "routes: [{models: [gpt-4o, o1], upstreams: [openai]}]\n", option{keys: []*auth.Record{narrow}})
	ask := func(path string) *answer {
		_, a := rl.speak(t, strings.Replace(request("GET", path, ""), testKey, "sk-narrow-1", 1))
		return a
	}
	if a := ask("/v1/models"); strings.Contains(string(a.body), "o1") || !strings.Contains(string(a.body), "gpt-4o") {
		t.Errorf("%s", a.body)
	}
	if a := ask("/v1/models/o1"); a.status != 404 {
		t.Errorf("status %d", a.status)
	}
}

func TestWithoutNamedModelsTheProviderListsThem(t *testing.T) {
	up := newUpstream(t, func(rq *received) { rq.reply(200, `{"object":"list","data":[]}`) })
	rl := relayTo(t, up, "routes: [{models: [\"*\"], upstreams: [openai]}]\n")
	if _, a := rl.speak(t, request("GET", "/v1/models", "")); a.status != 200 || up.requests.Load() != 1 {
		t.Errorf("status %d, %d requests", a.status, up.requests.Load())
	}
}

func TestAliasIsReplacedWhereverTheModelStands(t *testing.T) {
	type seen struct{ line, body, length string }
	got := make(chan seen, 1)
	up := newUpstream(t, func(rq *received) {
		got <- seen{rq.line, rq.body, rq.get("Content-Length")}
		rq.reply(200, `{"model":"as the provider says"}`)
	})
	const real = "org/Real Model:1" // needs encoding in a path
	rl := relayTo(t, up, `routes: [{models: ["*"], upstreams: [openai, anthropic, gemini, azure], rewrite_model: {fast: "`+real+`", "pub/fast:x": plain}}]`+"\n")
	form := func(model string) string {
		return "--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n" + model + "\r\n--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n" + strings.Repeat("x", 100_000) + "\r\n--B--\r\n"
	}
	for i, c := range []struct{ name, send, line, body string }{
		{"JSON", post("/v1/chat/completions", `{"model":"fast","messages":[]}`), "POST /oai/v1/chat/completions HTTP/1.1", `{"model":"org/Real Model:1","messages":[]}`},
		{"a Gemini path", post("/v1beta/models/fast:generateContent", `{"contents":[]}`), "POST /gem/v1beta/models/org%2FReal%20Model%3A1:generateContent HTTP/1.1", `{"contents":[]}`},
		{"a Gemini path with a slash and a colon", post("/v1beta/models/pub%2Ffast:x:streamGenerateContent?alt=sse", `{}`), "POST /gem/v1beta/models/plain:streamGenerateContent?alt=sse HTTP/1.1", `{}`},
		{"a resource of Gemini's", post("/v1beta/cachedContents", `{"model":"models/fast","contents":[]}`), "POST /gem/v1beta/cachedContents HTTP/1.1", `{"model":"models/org/Real Model:1","contents":[]}`},
		{"an Azure path", post("/openai/deployments/fast/chat/completions?api-version=1", `{"model":"fast","messages":[]}`), "POST /azu/deployments/org%2FReal%20Model%3A1/chat/completions?api-version=1 HTTP/1.1", `{"model":"fast","messages":[]}`},
		{"a form", request("POST", "/v1/audio/transcriptions", form("fast"), "Content-Type: multipart/form-data; boundary=B"), "POST /oai/v1/audio/transcriptions HTTP/1.1", form(real)},
		{"a form in chunks", strings.Replace(request("POST", "/v1/audio/transcriptions", "", "Content-Type: multipart/form-data; boundary=B"), "\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n", 1) +
			chunk(form("fast")) + lastChunk, "POST /oai/v1/audio/transcriptions HTTP/1.1", form(real)},
	} {
		_, a := rl.speak(t, c.send)
		if a.status != 200 || string(a.body) != `{"model":"as the provider says"}` {
			t.Errorf("%s: %s%s", c.name, a.head, a.body)
			continue
		}
		s := receive(t, got)
		if s.line != c.line || s.body != c.body {
			t.Errorf("%s: %s\n%s\nwant %s\n%s", c.name, s.line, clip([]byte(s.body)), c.line, clip([]byte(c.body)))
		}
		if s.length != "" && s.length != fmt.Sprint(len(c.body)) {
			t.Errorf("%s: Content-Length %s, want %d", c.name, s.length, len(c.body))
		}
		// Prices go by what the upstream is asked for.
		want := real
		if strings.Contains(c.line, "plain") {
			want = "plain"
		}
		if r := rl.last(i + 1); string(r.UpstreamModel) != want {
			t.Errorf("%s: recorded as %q of the upstream's", c.name, r.UpstreamModel)
		}
	}
}

// What was made by one account is asked for there.
func TestStoredObjectsAreAskedForWhereTheyWereMade(t *testing.T) {
	make := func(name string) func(*received) {
		n := 0
		return func(rq *received) {
			switch {
			case strings.HasPrefix(rq.line, "POST /v1/responses ") && strings.Contains(rq.body, `"stream":true`):
				n++
				rq.stream(fmt.Sprintf("event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_%s_s%d\"}}\n\n", name, n),
					"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_x\"}}\n\n")
			case strings.HasPrefix(rq.line, "POST /v1/responses "):
				n++
				rq.reply(200, fmt.Sprintf(`{"object":"response","output":[{"id":"msg_1"}],"id":"resp_%s_%d"}`, name, n))
			case strings.HasPrefix(rq.line, "POST /v1/files "):
				rq.reply(200, `{"object":"file","id":"file-`+name+`"}`)
			default:
				ok(name)(rq)
			}
		}
	}
	// Of one priority, so that a request without a tie could go to either.
	fl := newFleet(t, "", "", make("a"), make("b"))
	up := "upstreams:\n"
	for i, u := range fl.ups {
		up += fmt.Sprintf("  - {name: %c, dialect: openai, base_url: \"%s/v1\", credentials: [{value: key-of-%c}]}\n", 'a'+i, u.url, 'a'+i)
	}
	rl := startRelay(t, up)
	ids := map[string]string{} // of a response: who made it
	c := rl.dial()
	for i := 0; len(ids) < 20 || i < 40; i++ {
		if i > 1000 {
			t.Fatal("all went to one upstream")
		}
		body := `{"model":"m1","input":"x"}`
		if i%2 == 0 {
			body = `{"model":"m1","input":"x","stream":true}`
		}
		c.send(post("/v1/responses", body))
		a := c.answer()
		_, id, _ := strings.Cut(string(a.body), `resp_`)
		id, _, _ = strings.Cut(id, `"`)
		ids["resp_"+id] = id[:1]
	}
	for id, who := range ids {
		for _, send := range []string{
			post("/v1/responses/"+id+"/cancel", ""), request("GET", "/v1/responses/"+id, ""), request("DELETE", "/v1/responses/"+id, ""),
		} {
			c.send(send)
			if a := c.answer(); string(a.body) != `{"from":"`+who+`"}` {
				t.Errorf("%s: %s", id, a.body)
			}
		}
		c.send(post("/v1/responses", `{"model":"m1","input":"y","previous_response_id":"`+id+`"}`))
		if a := c.answer(); !strings.Contains(string(a.body), "resp_"+who) {
			t.Errorf("after %s: %s", id, a.body)
		}
	}
	for _, send := range []string{request("GET", "/v1/responses/resp_unknown", ""), post("/v1/responses", `{"model":"m1","input":"y","previous_response_id":"resp_unknown"}`)} {
		c.send(send)
		if a := c.answer(); a.status != 404 && a.status != 400 || !strings.Contains(string(a.body), "does not know which of its accounts") {
			t.Errorf("%s%s", a.head, a.body)
		}
	}
	// Files are together with one account, and so is what refers to them.
	for range 10 {
		c.send(request("POST", "/v1/files", "x", "Content-Type: application/octet-stream"))
		if a := c.answer(); !strings.Contains(string(a.body), "file-a") {
			t.Fatalf("%s", a.body)
		}
		for _, send := range []string{
			request("GET", "/v1/files", ""), request("GET", "/v1/files/file-a/content", ""), post("/v1/batches", `{"input_file_id":"file-a","endpoint":"/v1/responses"}`),
			post("/v1/chat/completions", `{"model":"m1","messages":[{"role":"user","content":[{"type":"file","file":{"file_id" : "file-a"}}]}]}`),
		} {
			c.send(send)
			if a := c.answer(); string(a.body) != `{"from":"a"}` {
				t.Errorf("%s: %s", send[:30], a.body)
			}
		}
	}
}

// Each route has one account; without a model none of them is named.
func TestAStoredResponseIsAskedForWhereItWasMadeWhateverItsRoute(t *testing.T) {
	made := func(id string) func(*received) {
		return func(rq *received) { rq.reply(200, `{"id":"`+id+`","object":"response"}`) }
	}
	fl := newFleet(t, "", "routes:\n  - {models: [m2], upstreams: [a]}\n  - {models: [m1], upstreams: [b]}\n", made("resp_a"), made("resp_b"))
	if _, a := fl.speak(t, post("/v1/responses", `{"model":"m1","input":"x"}`)); a.status != 200 {
		t.Fatalf("%s", a.head)
	}
	fl.forget()
	if _, a := fl.speak(t, request("GET", "/v1/responses/resp_b", "")); a.status != 200 || fl.order(t) != "b" {
		t.Errorf("status %d, asked %s", a.status, fl.order(t))
	}
	fl.forget()
	if _, a := fl.speak(t, request("GET", "/v1/responses/resp_unknown", "")); a.status != 404 || fl.order(t) != "" {
		t.Errorf("one that nobody knows: status %d, asked %s", a.status, fl.order(t))
	}
}
