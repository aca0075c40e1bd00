package blackbox

import (
	"fmt"
	"testing"

	"streamrelay/auth"
)

// A key that is bound to models reaches no other one, wherever the request
// names it.
func TestAKeyBoundToModelsReachesNoOther(t *testing.T) {
	bound := key("k1", testKey, "acme")
	bound.Models = []string{"gpt-*", "claude-*"}
	up := newUpstream(t, func(rq *received) { rq.reply(200, "{}") })
	rl := relayTo(t, up, "", option{keys: []*auth.Record{bound}})
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/chat/completions", `{"model":"gpt-1","messages":[{"model":"other"}]}`, 200},
		{"POST", "/v1/chat/completions", `{"model":"other"}`, 403},
		{"POST", "/v1/chat/completions", `{"model":"gpt-1","models":["gpt-2","other"]}`, 403},
		{"POST", "/v1/chat/completions", `{"model":"gpt-1","models":["gpt-2"],"fallbacks":["gpt-3"]}`, 200},
		{"POST", "/v1/messages", `{"model":"claude-1","fallbacks":[{"model":"other"}]}`, 403},
		{"POST", "/v1/messages", `{"model":"claude-1","tools":[{"type":"advisor_20260301","model":"other"}]}`, 403},
		{"POST", "/v1/messages", `{"model":"claude-1","tools":[{"type":"advisor_20260301","model":"claude-2"}]}`, 200},
		{"POST", "/v1/messages", `{"model":"claude-1","messages":[{"role":"assistant","content":[{"type":"tool_use","input":{"model":"other"}}]}]}`, 200},
		{"POST", "/v1/messages/batches", `{"requests":[{"params":{"model":"claude-1"}}]}`, 403},
		{"POST", "/v1/messages/batches", `{"model":"claude-1","requests":[{"params":{"model":"other"}}]}`, 403},
		{"POST", "/v1/batches", `{"input_file_id":"file-1"}`, 403},
		{"POST", "/v1/batches", `{"model":"gpt-1","input_file_id":"file-1"}`, 403},
		{"POST", "/v1/realtime/client_secrets", `{"session":{"model":"gpt-1"}}`, 403},
		{"POST", "/v1/realtime/client_secrets", `{"model":"gpt-1","session":{"mod\u0065l":"other"}}`, 403},
		{"POST", "/v1/ocr", `{"model":"gpt-1","document":{}}`, 200},
		{"POST", "/v1/models/other:generateContent", `{"contents":[]}`, 403},
		{"POST", "/v1beta/cachedContents", `{"model":"models/gpt-1"}`, 200},
		{"POST", "/v1beta/cachedContents", `{"model":"models/other"}`, 403},
		{"GET", "/v1/models/gpt-1", "", 200},
		{"GET", "/v1/batches/batch_1", "", 200},
	} {
		rq := request(c.method, c.path, "")
		if c.body != "" {
			rq = post(c.path, c.body)
		}
		before := up.requests.Load()
		_, a := rl.speak(t, rq)
		if a.status != c.status {
			t.Errorf("%s %s %s: status %d, want %d: %s", c.method, c.path, c.body, a.status, c.status, a.body)
		}
		if n := up.requests.Load() - before; (n > 0) != (c.status == 200) {
			t.Errorf("%s %s %s: the upstream got %d requests", c.method, c.path, c.body, n)
		}
	}
}

// A body of which other readers could take another model than the form's.
func TestAFormOfWhichOthersReadAnotherModelIsRefused(t *testing.T) {
	part := func(boundary, disposition, value string) string {
		return "--" + boundary + "\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + value + "\r\n"
	}
	const pieces = `name="x"; name*0="mod"; name*1="el"`
	cheap, end := part("A", `name="model"`, "cheap"), "--A--\r\n"
	up := newUpstream(t, func(rq *received) { rq.reply(200, "{}") })
	bound := key("k2", "sk-relay-bound-key-456", "acme")
	bound.Models = []string{"cheap"}
	rl := relayTo(t, up, "", option{keys: []*auth.Record{bound}})
	for name, tt := range map[string]struct {
		kind, body string
		passes     bool
	}{
		"as it should be":         {"boundary=A", cheap + end, true},
		"JSON before it":          {"boundary=A", `{"model":"expensive"}` + "\r\n" + cheap + end, false},
		"a name in pieces before": {"boundary=A", part("A", pieces, "expensive") + cheap + end, false},
		"a name in pieces behind": {"boundary=A", cheap + part("A", pieces, "expensive") + end, false},
		"a boundary in pieces":    {"boundary=A; boundary*0=B", cheap + part("A", `name="file"; filename="f"`, "\r\n"+part("B", `name="model"`, "expensive")+"--B--") + end, false},
	} {
		for _, path := range []string{"/v1/audio/transcriptions", "/v1/chat/completions"} {
			_, a := rl.speak(t, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer sk-relay-bound-key-456\r\nContent-Type: multipart/form-data; %s\r\nContent-Length: %d\r\n\r\n%s", path, tt.kind, len(tt.body), tt.body))
			if (a.status == 200) != tt.passes {
				t.Errorf("%s, %s: %s%s", name, path, a.head, a.body)
			}
		}
	}
}
