package simulate

import (
	"encoding/json"
	"strings"
	"testing"
)

const streamBody = `{"model":"Qwen/Qwen2.5-7B-Instruct","stream":true,"stream_options":{"include_usage":true}}`

// TestStreamIsWhatExpectSays compares every byte of each API's stream with
// Expect, but for the send times, which must not go back.
func TestStreamIsWhatExpectSays(t *testing.T) {
	_, addr := start(t, Options{})
	for _, path := range []string{
		"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/audio/speech",
		"/v1beta/models/gemini-pro:streamGenerateContent?alt=sse", "/v1beta/models/gemini-pro:generateContent",
		"/openai/deployments/d/chat/completions?api-version=1", "/v1beta/openai/chat/completions", "/chat/completions",
	} {
		for _, simulate := range []string{
			"id=a,events=5", "id=a,events=5,burst=1,size=300", "id=a,events=70,onewrite=1", "id=a,events=3,gap=2ms,jitter=1ms",
			"id=a,events=0", "id=a,events=2,nodone=1", "id=a,events=2,size=70000",
		} {
			t.Run(path+" "+simulate, func(t *testing.T) {
				resp, body, err := call(t, addr, rawRequest(path, simulate, streamBody))
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("status %d, body ended with %v", resp.StatusCode, err)
				}
				p, err := ParseProfile(Profile{}.withDefaults(), []byte(simulate))
				if err != nil {
					t.Fatal(err)
				}
				want, err := Expect(path, streamBody, p, false)
				if err != nil {
					t.Fatal(err)
				}
				got, times := blank(t, body)
				if got != string(want.Body) {
					t.Errorf("got\n%s\nwant\n%s", got, want.Body)
				}
				if len(times) != len(want.Times) {
					t.Errorf("%d marks, want %d", len(times), len(want.Times))
				}
				for i := 1; i < len(times); i++ {
					if times[i] < times[i-1] {
						t.Errorf("mark %d was sent before mark %d", i, i-1)
					}
				}
			})
		}
	}
}

func TestContentEventsHaveTheSizeAskedFor(t *testing.T) {
	for _, path := range []string{"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1beta/models/g:streamGenerateContent?alt=sse"} {
		r := findRoute([]byte("POST"), []byte(strings.TrimSuffix(path, "?alt=sse")), []byte("alt=sse"))
		a := &answer{profile: Profile{Size: 600, Events: 100}, id: "x", model: `"m"`, usage: true}
		for i := range 100 {
			if e := r.shape.content(nil, a, i, Now()); len(e) != 600 {
				t.Errorf("%s: event %d has %d bytes: %s", path, i, len(e), e)
			}
		}
	}
}

// TestUsageIsExact adds up what each API says about 9 events and 11 prompt tokens.
func TestUsageIsExact(t *testing.T) {
	_, addr := start(t, Options{})
	const simulate = "id=u,events=9,prompt=11,cached=3"
	tests := []struct{ name, path, body, want string }{
		{"chat", "/v1/chat/completions", streamBody, `"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":9,"total_tokens":20,"prompt_tokens_details":{"cached_tokens":3}`},
		{"chat json", "/v1/chat/completions", `{}`, `"usage":{"prompt_tokens":11,"completion_tokens":9,"total_tokens":20,`},
		{"completions", "/v1/completions", streamBody, `"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":9,"total_tokens":20,`},
		{"responses", "/v1/responses", streamBody, `"usage":{"input_tokens":11,"input_tokens_details":{"cached_tokens":3},"output_tokens":9,`},
		{"messages start", "/v1/messages", streamBody, `"usage":{"input_tokens":8,"cache_creation_input_tokens":0,"cache_read_input_tokens":3,"output_tokens":1}`},
		{"messages end", "/v1/messages", streamBody, `"usage":{"output_tokens":9}`},
		{"messages json", "/v1/messages", `{}`, `"cache_read_input_tokens":3,"output_tokens":9}`},
		{"count tokens", "/v1/messages/count_tokens", `{}`, `{"input_tokens":11}`},
		{"gemini first", "/v1beta/models/g:streamGenerateContent?alt=sse", `{}`, `"usageMetadata":{"promptTokenCount":11,"candidatesTokenCount":1,"totalTokenCount":12,"cachedContentTokenCount":3}`},
		{"gemini last", "/v1beta/models/g:streamGenerateContent?alt=sse", `{}`, `"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":11,"candidatesTokenCount":9,"totalTokenCount":20,`},
		{"embeddings", "/v1/embeddings", `{"input":"x"}`, `"usage":{"prompt_tokens":11,"total_tokens":11}`},
		{"images", "/v1/images/generations", `{"prompt":"x"}`, `"usage":{"input_tokens":11,"output_tokens":9,"total_tokens":20,`},
		{"transcriptions", "/v1/audio/transcriptions", `multipart bytes`, `"usage":{"type":"tokens","input_tokens":11,"output_tokens":9,"total_tokens":20}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body, err := call(t, addr, rawRequest(tt.path, simulate, tt.body))
			if err != nil || resp.StatusCode != 200 || !strings.Contains(body, tt.want) {
				t.Errorf("status %d, %v; want %s in\n%s", resp.StatusCode, err, tt.want, body)
			}
		})
	}
}

func TestUsageEventOnlyWhenAsked(t *testing.T) {
	_, addr := start(t, Options{})
	for _, path := range []string{"/v1/chat/completions", "/v1/completions"} {
		_, body, err := call(t, addr, rawRequest(path, "events=2", `{"stream":true}`))
		if err != nil || strings.Contains(body, "usage") || !strings.HasSuffix(body, "data: [DONE]\n\n") {
			t.Errorf("%s: %v in\n%s", path, err, body)
		}
		_, body, err = call(t, addr, rawRequest(path, "events=2", streamBody))
		if err != nil || strings.Count(body, `"usage":null`) < 3 || strings.Count(body, `"choices":[]`) != 1 {
			t.Errorf("%s with usage: %v in\n%s", path, err, body)
		}
	}
}

// TestEventsAreJSON decodes every data line of every dialect and every whole answer.
func TestEventsAreJSON(t *testing.T) {
	_, addr := start(t, Options{})
	valid := func(t *testing.T, b string) {
		t.Helper()
		if !json.Valid([]byte(b)) {
			t.Errorf("not JSON: %s", b)
		}
	}
	for _, path := range []string{"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1beta/models/g:streamGenerateContent?alt=sse"} {
		_, body, _ := call(t, addr, rawRequest(path, "events=40,fail=39", streamBody))
		_, body2, _ := call(t, addr, rawRequest(path, "events=40", streamBody))
		for line := range strings.Lines(body + body2) {
			data, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "data: ")
			if ok && data != "[DONE]" {
				valid(t, data)
			}
		}
		_, body, _ = call(t, addr, rawRequest(path, "error=429", streamBody))
		valid(t, body)
	}
	for _, path := range []string{
		"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/v1/embeddings",
		"/v1/images/generations", "/v1/audio/transcriptions", "/v1beta/models/g:generateContent", "/v1beta/models/g:streamGenerateContent", "/v1/nothing",
	} {
		resp, body, err := call(t, addr, rawRequest(path, "events=3", `{"model":"a\"b"}`))
		if err != nil || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v %v", path, err, resp.Header)
		}
		valid(t, body)
	}
	get := "GET /v1/models HTTP/1.1\r\nHost: s\r\nx-api-key: k\r\n\r\n"
	_, body, _ := call(t, addr, get)
	valid(t, body)
	_, body, _ = call(t, addr, strings.Replace(get, "/models", "/models/a%2Fb", 1))
	if !strings.Contains(body, `{"id":"a/b",`) {
		t.Errorf("model with a slash: %s", body)
	}
	_, body, _ = call(t, addr, rawRequest("/v1/embeddings", "", `{"encoding_format":"base64"}`))
	if !strings.Contains(body, `"embedding":"AACA`) {
		t.Errorf("base64 embedding: %s", body)
	}
}

func TestEachInputHasItsEmbedding(t *testing.T) {
	_, addr := start(t, Options{})
	for body, want := range map[string]int{
		`{}`: 1, `{"input":null}`: 1, `{"input":"x"}`: 1, `{"input":["x"]}`: 1, `{"input":["x","y","z"]}`: 3,
		`{"input":[1,2,3]}`: 1, `{"input":[[1,2],[3]]}`: 2, `{"input":[]}`: 1,
	} {
		_, got, err := call(t, addr, rawRequest("/v1/embeddings", "", body))
		var v struct {
			Data []struct {
				Index     int
				Embedding []float64
			}
		}
		if err != nil || json.Unmarshal([]byte(got), &v) != nil || len(v.Data) != want || v.Data[want-1].Index != want-1 || len(v.Data[want-1].Embedding) != 8 {
			t.Errorf("%s: %v, %s", body, err, got)
		}
	}
}
