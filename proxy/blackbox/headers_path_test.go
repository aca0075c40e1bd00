package blackbox

import (
	"strings"
	"testing"
)

func TestEveryRouteReachesItsPlaceUpstream(t *testing.T) {
	up, got := echo(t)
	rl := relayTo(t, up, "")
	form := "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm1\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\x00\xff\r\n--b--\r\n"
	n := 0
	for _, c := range []struct{ method, in, out, contentType, endpoint string }{
		{"POST", "/v1/chat/completions", "/oai/v1/chat/completions", "json", "chat_completions"},
		{"GET", "/v1/chat/completions?limit=2", "/oai/v1/chat/completions?limit=2", "", "chat_completions"},
		{"GET", "/v1/chat/completions/c1/messages", "/oai/v1/chat/completions/c1/messages", "", "chat_completions"},
		{"DELETE", "/v1/chat/completions/c1", "/oai/v1/chat/completions/c1", "", "chat_completions"},
		{"POST", "/v1/completions", "/oai/v1/completions", "json", "completions"},
		{"POST", "/v1/responses", "/oai/v1/responses", "json", "responses"},
		{"GET", "/v1/responses/r1?stream=true&starting_after=3", "/oai/v1/responses/r1?stream=true&starting_after=3", "", "responses"},
		{"POST", "/v1/responses/r1/cancel", "/oai/v1/responses/r1/cancel", "", "responses"},
		{"POST", "/v1/embeddings", "/oai/v1/embeddings", "json", "embeddings"},
		{"GET", "/v1/models", "/oai/v1/models", "", "models"},
		{"GET", "/v1/models/Qwen%2FQwen2.5-7B", "/oai/v1/models/Qwen%2FQwen2.5-7B", "", "models"},
		{"GET", "/v1/models/Qwen%2fQwen2.5-7B", "/oai/v1/models/Qwen%2fQwen2.5-7B", "", "models"},
		{"GET", "/v1/models/Qwen/Qwen2.5-7B", "/oai/v1/models/Qwen/Qwen2.5-7B", "", "models"},
		{"GET", "/v1/models/ft:gpt-4o:org::id", "/oai/v1/models/ft:gpt-4o:org::id", "", "models"},
		{"GET", "/v1/models/a%20b%C3%A9", "/oai/v1/models/a%20b%C3%A9", "", "models"},
		{"DELETE", "/v1/models/ft%3Agpt", "/oai/v1/models/ft%3Agpt", "", "models"},
		{"POST", "/v1/images/generations", "/oai/v1/images/generations", "json", "images"},
		{"POST", "/v1/images/edits", "/oai/v1/images/edits", "form", "images"},
		{"POST", "/v1/audio/transcriptions", "/oai/v1/audio/transcriptions", "form", "audio"},
		{"POST", "/v1/audio/translations", "/oai/v1/audio/translations", "form", "audio"},
		{"POST", "/v1/audio/speech", "/oai/v1/audio/speech", "json", "audio"},
		{"POST", "/v1/files", "/oai/v1/files", "form", "files"},
		{"GET", "/v1/files/f1/content", "/oai/v1/files/f1/content", "", "files"},
		{"POST", "/v1/uploads/u1/parts", "/oai/v1/uploads/u1/parts", "form", "uploads"},
		{"POST", "/v1/moderations", "/oai/v1/moderations", "json", "moderations"},
		{"POST", "/v1/batches", "/oai/v1/batches", "json", "batches"},
		{"GET", "/v1/batches?limit=10&after=b1", "/oai/v1/batches?limit=10&after=b1", "", "batches"},
		{"POST", "/v1/rerank", "/oai/v1/rerank", "json", "rerank"},
		{"POST", "/v1/fine_tuning/jobs", "/oai/v1/fine_tuning/jobs", "json", "other"},
		{"PATCH", "/v1/anything/else", "/oai/v1/anything/else", "json", "other"},
		{"PUT", "/v1/anything/else", "/oai/v1/anything/else", "binary", "other"},
		{"HEAD", "/v1/models", "/oai/v1/models", "", "models"},
		{"OPTIONS", "/v1/models", "/oai/v1/models", "", "models"},
		{"GET", "/v1", "/oai/v1", "", "other"},
		{"GET", "/v1/", "/oai/v1/", "", "other"},
		{"POST", "/v1/messages", "/ant/v1/messages", "json", "messages"},
		{"POST", "/v1/messages/count_tokens", "/ant/v1/messages/count_tokens", "json", "count_tokens"},
		{"GET", "/v1/messages/batches/b1/results", "/ant/v1/messages/batches/b1/results", "", "messages"},
		{"POST", "/v1beta/models/gemini-2.0-flash:generateContent", "/gem/v1beta/models/gemini-2.0-flash:generateContent", "json", "generate_content"},
		{"POST", "/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse", "/gem/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse", "json", "generate_content"},
		{"POST", "/v1beta/models/g:embedContent", "/gem/v1beta/models/g:embedContent", "json", "generate_content"},
		{"POST", "/v1beta/interactions", "/gem/v1beta/interactions", "json", "interactions"},
		{"GET", "/v1beta/interactions/v1_x?stream=true", "/gem/v1beta/interactions/v1_x?stream=true", "", "interactions"},
		{"DELETE", "/v1beta/interactions/v1_x", "/gem/v1beta/interactions/v1_x", "", "interactions"},
		{"POST", "/v1beta/interactions/v1_x/cancel", "/gem/v1beta/interactions/v1_x/cancel", "", "interactions"},
		{"GET", "/v1beta/models", "/gem/v1beta/models", "", "models"},
		{"GET", "/v1beta/models/g?pageSize=3", "/gem/v1beta/models/g?pageSize=3", "", "models"},
		{"POST", "/v1beta/openai/chat/completions", "/gem/v1beta/openai/chat/completions", "json", "chat_completions"},
		{"POST", "/v1beta/files", "/gem/v1beta/files", "binary", "files"},
		{"POST", "/openai/deployments/gpt-4o/chat/completions?api-version=2024-06-01", "/azu/deployments/gpt-4o/chat/completions?api-version=2024-06-01", "json", "chat_completions"},
		{"POST", "/openai/deployments/d%20e/embeddings?api-version=1", "/azu/deployments/d%20e/embeddings?api-version=1", "json", "embeddings"},
		{"POST", "/openai/deployments/w/audio/transcriptions?api-version=1", "/azu/deployments/w/audio/transcriptions?api-version=1", "form", "audio"},
		{"POST", "/openai/v1/responses", "/azu/v1/responses", "json", "responses"},
		{"GET", "/openai/models?api-version=1", "/azu/models?api-version=1", "", "models"},
	} {
		t.Run(c.method+" "+c.in, func(t *testing.T) {
			body, fields := "", []string(nil)
			switch c.contentType {
			case "json":
				body, fields = `{"model":"m1","x":[1, 2 ],"caf\u00e9":"é"}`, []string{"Content-Type: application/json; charset=utf-8"}
			case "form":
				body, fields = form, []string{"Content-Type: multipart/form-data; boundary=b"}
			case "binary":
				body, fields = "\x00\x01\xff", []string{"Content-Type: application/octet-stream"}
			}
			cl := rl.dialFor(t)
			cl.send(request(c.method, c.in, body, fields...))
			a := cl.beginTo(c.method)
			if a.status != 200 {
				text, _ := a.rest()
				t.Fatalf("status %d: %s", a.status, text)
			}
			rq := receive(t, got)
			if rq.line != c.method+" "+c.out+" HTTP/1.1" || rq.body != body {
				t.Errorf("upstream got %q with %q", rq.line, rq.body)
			}
			if len(fields) > 0 && "Content-Type: "+rq.get("Content-Type") != fields[0] {
				t.Errorf("Content-Type %q", rq.get("Content-Type"))
			}
			n++
			path, _, _ := strings.Cut(c.in, "?")
			if r := rl.last(n); endpointName(r) != c.endpoint || r.Path != path || r.Method != c.method {
				t.Errorf("recorded as %s, %s %s", endpointName(r), r.Method, r.Path)
			}
			_ = cl.Close()
		})
	}
}

func TestQueryGoesUpByteForByte(t *testing.T) {
	up, got := echo(t)
	rl := relayTo(t, up, "")
	for _, query := range []string{
		"a=1&b=2", "b=2&a=1", "a=1&a=2", "a=1;b=2", "a=%zz", "a=%", "a=%4", "a=%41", "a=b+c%20d", "&&a=1&&", "=", "a", "a=", "?a=1", "a=/../b", "a=http://x/y?z",
		"%61=1", "a=%00", "A=1&a=2", "a=\xc3\xa9", "a[]=1&a[]=2", "a={\"b\":[1]}", "a=<b>|c^d`e", "keys=1&api_keys=2&xkey=3&key2=4", "apikey=1", "a=key=b",
	} {
		t.Run(query, func(t *testing.T) {
			c := rl.dialFor(t)
			c.send(request("GET", "/v1/models?"+query, ""))
			if a := c.answer(); a.status != 200 {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			if line := receive(t, got).line; line != "GET /oai/v1/models?"+query+" HTTP/1.1" {
				t.Errorf("upstream got %q", line)
			}
		})
	}
}

func TestEmptyQueryIsHarmless(t *testing.T) {
	up, got := echo(t)
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(request("GET", "/v1/models?", ""))
	c.answer()
	if line := receive(t, got).line; line != "GET /oai/v1/models HTTP/1.1" && line != "GET /oai/v1/models? HTTP/1.1" {
		t.Errorf("upstream got %q", line)
	}
}

func TestBaseURLTakesThePlaceOfTheRoot(t *testing.T) {
	up, got := echo(t)
	for base, want := range map[string]string{
		"": "/models", "/": "/models", "/v1": "/v1/models", "/v1/": "/v1/models", "/compat/openai/v4": "/compat/openai/v4/models", "/a%20b/v1": "/a%20b/v1/models",
	} {
		rl := startRelay(t, "upstreams:\n  - {name: o, dialect: openai, base_url: \""+up.url+base+"\", credentials: [{value: k}]}\n")
		c := rl.dialFor(t)
		c.send(request("GET", "/v1/models", ""))
		if a := c.answer(); a.status != 200 {
			t.Fatalf("%q: status %d", base, a.status)
		}
		if line := receive(t, got).line; line != "GET "+want+" HTTP/1.1" {
			t.Errorf("%q: upstream got %q", base, line)
		}
		_ = c.Close()
	}
}
