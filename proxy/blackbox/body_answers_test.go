package blackbox

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"streamrelay/telemetry"
)

// A keep-alive of spaces or blank lines before a JSON answer, as DeepSeek sends
// it, is passed on as it comes, and the answer's usage is counted all the same.
func TestAJSONAnswerThatTricklesReachesTheClientAsItComes(t *testing.T) {
	doc := `{"id":"x","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}`
	pieces := []string{"\n", "\n\n", " \n", doc[:20], doc[20:21], doc[21:]}
	total := len(strings.Join(pieces, ""))
	for name, f := range map[string]struct {
		head, end string
		piece     func(string) string
		close     bool
	}{
		"chunked":         {head: "Transfer-Encoding: chunked\r\n", end: lastChunk, piece: chunk},
		"of known length": {head: fmt.Sprintf("Content-Length: %d\r\n", total), piece: verbatim},
		"close delimited": {head: "Connection: close\r\n", piece: verbatim, close: true},
	} {
		for _, carrier := range carriers {
			t.Run(name+", "+carrier, func(t *testing.T) {
				t.Parallel()
				shown := make(chan struct{})
				up := newUpstream(t, func(rq *received) {
					rq.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + f.head + "\r\n")
					for _, p := range pieces {
						if !rq.await(shown) {
							return
						}
						rq.send(f.piece(p))
					}
					rq.send(f.end)
					if f.close {
						rq.close()
					}
				})
				rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
				c := rl.dial()
				c.send(post("/v1/chat/completions", chatPlain))
				a := c.begin()
				for _, p := range pieces {
					shown <- struct{}{}
					a.expect(p)
				}
				a.finish("")
				r := rl.one()
				if r.End != telemetry.Completed || r.Usage.Input != 3 || r.Usage.Output != 4 || r.UsageSource != telemetry.UsageProvider || r.Stream {
					t.Errorf("record: %s, usage %+v of %d, stream %t", r.End, r.Usage, r.UsageSource, r.Stream)
				}
			})
		}
	}
}

func TestAnswersArePassedOnAsTheyAre(t *testing.T) {
	binary := make([]byte, 300<<10)
	r := rand.New(rand.NewPCG(3, 3))
	for i := range binary {
		binary[i] = byte(r.Uint32())
	}
	blob := string(binary)
	chunked := func(head, body string) string {
		var b strings.Builder
		b.WriteString(head + "Transfer-Encoding: chunked\r\n\r\n")
		for rest := body; rest != ""; {
			n := min(len(rest), 7001)
			b.WriteString(chunk(rest[:n]))
			rest = rest[n:]
		}
		return b.String() + lastChunk
	}
	sized := func(head, body string) string {
		return head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) + body
	}
	for _, tt := range []struct {
		name, request, answer string
		status                int
		body                  string
		field, value          string // a field of the answer
		end                   telemetry.EndReason
	}{
		{name: "JSON of known length", answer: reply(200, `{"a":1}`), status: 200, body: `{"a":1}`, field: "Content-Length", value: "7"},
		{name: "empty JSON", answer: reply(200, ""), status: 200, field: "Content-Length", value: "0"},
		{name: "an unusual success", answer: sized("HTTP/1.1 207 Multi\r\nContent-Type: text/plain\r\n", "x"), status: 207, body: "x", field: "Content-Type", value: "text/plain"},
		{name: "chunked JSON", answer: chunked("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n", `{"a":[1,2,3]}`), status: 200, body: `{"a":[1,2,3]}`},
		{name: "204", answer: "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", status: 204, field: "X-A", value: "b"},
		{name: "304", answer: "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", status: 304, field: "ETag", value: `"x"`},
		{name: "304 with a length", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", status: 304},
		{name: "redirect of a GET", request: request("GET", "/v1/files/file-1/content", ""), answer: "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/evil\r\nContent-Length: 0\r\n\r\n", status: 302, field: "Location", value: "http://127.0.0.1:1/evil"},
		{name: "a redirect that leads nowhere", answer: "HTTP/1.1 300 Multiple Choices\r\nContent-Length: 2\r\n\r\nhi", status: 300, body: "hi"},
		{name: "HEAD", request: request("HEAD", "/v1/models", ""), answer: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12345\r\n\r\n", status: 200, field: "Content-Length", value: "12345"},
		{name: "HEAD of a chunked answer", request: request("HEAD", "/v1/models", ""), answer: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", status: 200},
		{name: "binary, chunked", answer: chunked("HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n", blob), status: 200, body: blob, field: "Content-Type", value: "audio/mpeg"},
		{name: "binary of known length", answer: sized("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n", blob), status: 200, body: blob, field: "Content-Length", value: fmt.Sprint(len(blob))},
		{name: "no Content-Type", answer: sized("HTTP/1.1 200 OK\r\n", "\x00\x01"), status: 200, body: "\x00\x01", field: "Content-Type", value: ""},
		{name: "a provider's error", answer: reply(400, `{"code":20012,"message":"no","data":null}`), status: 400, body: `{"code":20012,"message":"no","data":null}`, end: telemetry.UpstreamStatus},
		{name: "an error that is a string", answer: reply(500, `"oops"`), status: 500, body: `"oops"`, end: telemetry.UpstreamStatus},
		{name: "429 with its headers", answer: reply(429, `{}`, "Retry-After: 17", "x-should-retry: true"), status: 429, body: `{}`, field: "Retry-After", value: "17", end: telemetry.UpstreamStatus},
		{name: "Anthropic's overload", answer: reply(529, `{"type":"error"}`), status: 529, body: `{"type":"error"}`, end: telemetry.UpstreamStatus},
		{name: "one interim answer", answer: "HTTP/1.1 100 Continue\r\n\r\n" + reply(200, `{}`), status: 200, body: `{}`},
		{name: "sixteen interim answers", answer: strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 16) + reply(200, `{}`), status: 200, body: `{}`, field: "Link", value: ""},
		{name: "trailers", answer: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Sum: 1\r\nX-Evil: 2\r\n\r\n", status: 200, body: `{}`, field: "Trailer", value: ""},
		{name: "chunk extensions", answer: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b;c=\"d\"\r\n{}\r\n0;e\r\n\r\n", status: 200, body: `{}`},
		{name: "a head with LF alone", answer: "HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 2\n\n{}", status: 200, body: `{}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			up := newUpstream(t, func(rq *received) { rq.send(tt.answer) })
			rl := relayTo(t, up, "")
			c := rl.dial()
			// Twice, since whatever is left of the first answer, or of its
			// framing, would spoil the second.
			for i := range 2 {
				rq, method := tt.request, "HEAD"
				if rq == "" {
					rq, method = post("/v1/embeddings", `{"model":"m1","input":"x"}`), "POST"
				}
				c.send(rq)
				a := c.beginTo(method)
				body, err := a.rest()
				if a.status != tt.status || body != tt.body || err != nil {
					t.Fatalf("status %d, body %s (%v)", a.status, clip([]byte(body)), err)
				}
				if tt.field != "" && a.get(tt.field) != tt.value {
					t.Errorf("%s: %q, want %q", tt.field, a.get(tt.field), tt.value)
				}
				if a.get("X-Request-Id") == "" {
					t.Errorf("no request id: %s", a.head)
				}
				if r := rl.last(i + 1); r.End != tt.end || r.Status != tt.status || r.UpstreamStatus != tt.status {
					t.Errorf("record: %s, status %d, upstream's %d", r.End, r.Status, r.UpstreamStatus)
				}
			}
			if n := up.connections.Load(); n != 1 {
				t.Errorf("%d upstream connections, want one that is kept", n)
			}
		})
	}
}

// Audio comes in pieces, each of which can be played when it comes.
func TestABinaryAnswerReachesTheClientAsItComes(t *testing.T) {
	shown := make(chan struct{})
	pieces := []string{"ID3\x04\x00", "\xff\xfb\x90", "\x00", "end"}
	up := newUpstream(t, func(rq *received) {
		rq.send("HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n")
		for _, p := range pieces {
			if !rq.await(shown) {
				return
			}
			rq.send(chunk(p))
		}
		rq.send(lastChunk)
	})
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(post("/v1/audio/speech", `{"model":"tts-1","input":"x"}`))
	a := c.begin()
	for _, p := range pieces {
		shown <- struct{}{}
		a.expect(p)
	}
	a.finish("")
	if r := rl.one(); r.UsageSource != telemetry.UsageUnknown || r.BytesOut != 12 {
		t.Errorf("record: usage of %d, %d bytes out", r.UsageSource, r.BytesOut)
	}
}

// Gemini's streamGenerateContent without alt=sse is one JSON array that grows.
func TestAGrowingJSONArrayReachesTheClientAsItComes(t *testing.T) {
	shown := make(chan struct{})
	pieces := []string{
		`[{"candidates":[{"content":{"parts":[{"text":"a"}]}}],"usageMetadata":{"promptTokenCount":5,"totalTokenCount":5}}`,
		"\n,\r\n" + `{"candidates":[{"content":{"parts":[{"text":"b"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":9,"totalTokenCount":14}}`,
		"]",
	}
	up := newUpstream(t, func(rq *received) {
		rq.send("HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\nTransfer-Encoding: chunked\r\n\r\n")
		for _, p := range pieces {
			if !rq.await(shown) {
				return
			}
			rq.send(chunk(p))
		}
		rq.send(lastChunk)
	})
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(post("/v1beta/models/gemini-2:streamGenerateContent", `{"contents":[]}`))
	a := c.begin()
	for _, p := range pieces {
		shown <- struct{}{}
		a.expect(p)
	}
	a.finish("")
	r := rl.one()
	if r.Usage.Input != 5 || r.Usage.Output != 9 || r.UsageSource != telemetry.UsageProvider || r.Model != "gemini-2" {
		t.Errorf("record: model %q, usage %+v of %d", r.Model, r.Usage, r.UsageSource)
	}
}

// 20 MB of JSON, as image answers are, with the usage behind them.
func TestALargeJSONAnswerIsPassedOnAndItsUsageCounted(t *testing.T) {
	blob := strings.Repeat("iVBORw0KGgo=", 20<<20/12)
	body := `{"created":1,"data":[{"b64_json":"` + blob + `"}],"usage":{"input_tokens":11,"output_tokens":22,"total_tokens":33}}`
	for _, framing := range []string{"length", "chunks"} {
		t.Run(framing, func(t *testing.T) {
			up := newUpstream(t, func(rq *received) {
				if framing == "length" {
					rq.reply(200, body)
					return
				}
				rq.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(body) + lastChunk)
			})
			rl := relayTo(t, up, "")
			c := rl.dial()
			c.send(post("/v1/images/generations", `{"model":"img","prompt":"x"}`))
			got, err := io.ReadAll(c.begin())
			if err != nil || string(got) != body {
				t.Fatalf("%s (%v)", firstDifference(got, []byte(body)), err)
			}
			if r := rl.one(); r.Usage.Input != 11 || r.Usage.Output != 22 || r.End != telemetry.Completed {
				t.Errorf("record: %s, usage %+v", r.End, r.Usage)
			}
		})
	}
}
