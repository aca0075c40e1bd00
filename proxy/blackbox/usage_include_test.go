package blackbox

import (
	"fmt"
	"strings"
	"testing"

	"streamrelay/telemetry"
)

// What the upstream must get for what the client sends, and who is to see the
// usage event.
func TestTheRelayAsksForUsageOnlyWhereTheClientStreamsAndDidNotAsk(t *testing.T) {
	const added = `"stream_options":{"include_usage":true}`
	tests := []struct {
		name, path, sent string
		want             string // "" : as sent
		hidden           bool   // the usage event is not for the client
	}{
		{name: "stream", sent: `{"model":"m1","stream":true}`, want: `{` + added + `,"model":"m1","stream":true}`, hidden: true},
		{name: "completions", path: "/v1/completions", sent: `{"model":"m1","stream":true}`, want: `{` + added + `,"model":"m1","stream":true}`, hidden: true},
		{name: "spaces at the end", sent: "{\"model\":\"m1\" , \"stream\" : true \r\n}\n ", hidden: true},
		{name: "asks", sent: `{"model":"m1","stream":true,"stream_options":{"include_usage":true}}`},
		{name: "asks among others", sent: `{"stream_options":{"a":[1],"include_usage" : true,"b":{}},"model":"m1","stream":true}`},
		{name: "declines", sent: `{"model":"m1","stream":true,"stream_options":{"include_usage":false}}`, hidden: true},
		{name: "null", sent: `{"model":"m1","stream":true,"stream_options":{"include_usage":null}}`, hidden: true},
		{name: "options are null", sent: `{"model":"m1","stream":true,"stream_options":null}`, hidden: true},
		{name: "options are empty", sent: `{"model":"m1","stream":true,"stream_options":{}}`, hidden: true},
		{name: "options are empty but for a space", sent: `{"model":"m1","stream":true,"stream_options":{ }}`, hidden: true},
		{name: "other options are kept", sent: `{"model":"m1","stream":true,"stream_options":{"include_obfuscation":false,"x":"}"}}`, hidden: true},
		{name: "options inside a message are not options", sent: `{"model":"m1","stream":true,"messages":[{"stream_options":{"include_usage":true}}]}`, hidden: true},
		{name: "no stream", sent: `{"model":"m1"}`},
		{name: "stream false", sent: `{"model":"m1","stream":false}`},
		{name: "stream null", sent: `{"model":"m1","stream":null}`},
		{name: "responses", path: "/v1/responses", sent: `{"model":"m1","stream":true}`},
		{name: "messages", path: "/v1/messages", sent: `{"model":"m1","stream":true}`},
		{name: "embeddings", path: "/v1/embeddings", sent: `{"model":"m1","stream":true}`},
		{name: "large", sent: `{"model":"m1","stream":true,"pad":"` + strings.Repeat("z", 200<<10) + `"}`, hidden: true},
	}
	for _, coding := range []string{"length", "chunks"} {
		for _, tt := range tests {
			t.Run(tt.name+" by "+coding, func(t *testing.T) {
				t.Parallel()
				got := make(chan *received, 1)
				events := []string{content("a"), finalEvent, usageEvent, doneEvent}
				up := newUpstream(t, func(rq *received) {
					got <- rq
					rq.stream(events...)
				})
				rl := relayTo(t, up, "")
				c := rl.dial()
				path := tt.path
				if path == "" {
					path = "/v1/chat/completions"
				}
				if coding == "length" {
					c.send(post(path, tt.sent))
				} else {
					c.send(request("POST", path, "", "Content-Type: application/json", "Transfer-Encoding: chunked") + chunk(tt.sent) + lastChunk)
				}
				rq := receive(t, got)
				checkInjection(t, rq, tt.sent, tt.want, tt.hidden)
				want := strings.Join(events, "")
				if tt.hidden {
					want = strings.Replace(want, usageEvent, "", 1)
				}
				if a := c.answer(); string(a.body) != want || a.err != nil {
					t.Errorf("answer: %s (%v)", firstDifference(a.body, []byte(want)), a.err)
				}
				r := rl.one()
				if r.UsageSource != telemetry.UsageProvider || r.Usage.Input != 12 || r.Usage.Output != 34 || r.Usage.Cached != 5 || r.Usage.Reasoning != 7 {
					t.Errorf("record: usage %+v of %d", r.Usage, r.UsageSource)
				}
				if r.BytesOut != int64(len(want)) || r.BytesIn != int64(len(tt.sent)) {
					t.Errorf("record: %d bytes in, %d out; want %d, %d", r.BytesIn, r.BytesOut, len(tt.sent), len(want))
				}
			})
		}
	}
}

// checkInjection looks at the body that went up: exactly want where the test
// names it; as sent where nothing was to be asked; else the sent bytes with
// one insertion that asks for usage.
func checkInjection(t *testing.T, rq *received, sent, want string, asked bool) {
	t.Helper()
	if got := rq.get("Content-Length"); got != fmt.Sprint(len(rq.body)) || rq.get("Transfer-Encoding") != "" {
		t.Errorf("Content-Length %q for %d bytes, Transfer-Encoding %q", got, len(rq.body), rq.get("Transfer-Encoding"))
	}
	if want == "" && !asked {
		want = sent
	}
	if want != "" {
		if rq.body != want {
			t.Errorf("went up: %s, want %s", clip([]byte(rq.body)), clip([]byte(want)))
		}
		return
	}
	if n := strings.Count(rq.body, `"include_usage":true`) - strings.Count(sent, `"include_usage":true`); n != 1 {
		t.Errorf("went up: %s: asked %d times", clip([]byte(rq.body)), n)
	}
	if !similar(rq.body, sent) {
		t.Errorf("went up: %s, which is not %s with one edit", clip([]byte(rq.body)), clip([]byte(sent)))
	}
}

// similar reports whether got is sent but for one short stretch.
func similar(got, sent string) bool {
	from := 0
	for from < len(got) && from < len(sent) && got[from] == sent[from] {
		from++
	}
	a, b := got[from:], sent[from:]
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) < 60 && len(b) <= len("false")
}

// Exactly one event goes, with nothing of its neighbours, whatever its line
// ends, its cuts and its form.
func TestExactlyTheUsageEventThatTheRelayAskedForIsTakenOut(t *testing.T) {
	noChoices := `data: {"id":"c1","choices":null,"usage":{"prompt_tokens":1,"completion_tokens":2}}` + "\n\n"
	noKey := `data: {"id":"c1","usage":{"prompt_tokens":1,"completion_tokens":2},"object":"x"}` + "\n\n"
	azure := `data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}` + "\n\n"
	inFinish := `data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}` + "\n\n"
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	cr := func(s string) string { return strings.ReplaceAll(s, "\n", "\r") }
	for _, tt := range []struct{ name, sent, want string }{
		{"before [DONE]", content("a") + usageEvent + doneEvent, content("a") + doneEvent},
		{"CRLF", crlf(content("a") + usageEvent + doneEvent), crlf(content("a") + doneEvent)},
		{"lone CR", cr(content("a") + usageEvent + doneEvent), cr(content("a") + doneEvent)},
		{"choices null", content("a") + noChoices + doneEvent, content("a") + doneEvent},
		{"no choices at all", content("a") + noKey + doneEvent, content("a") + doneEvent},
		{"without [DONE]", content("a") + usageEvent, content("a")},
		{"without its blank line", content("a") + strings.TrimSuffix(usageEvent, "\n\n"), content("a")},
		{"the filter event of Azure stays", azure + content("a") + usageEvent + doneEvent, azure + content("a") + doneEvent},
		{"usage in the finish event stays", content("a") + inFinish + doneEvent, content("a") + inFinish + doneEvent},
		{"a comment before it stays", content("a") + ": hi\n\n" + usageEvent + ": ho\n\n" + doneEvent, content("a") + ": hi\n\n" + ": ho\n\n" + doneEvent},
		{"events after it stay", content("a") + usageEvent + content("b") + doneEvent, content("a") + content("b") + doneEvent},
		{"text that looks like it stays", content(`\"choices\":[],\"usage\":{\"prompt_tokens\":9}`) + doneEvent, content(`\"choices\":[],\"usage\":{\"prompt_tokens\":9}`) + doneEvent},
		{"an error event stays", content("a") + `data: {"error":{"message":"x"},"usage":{"prompt_tokens":1}}` + "\n\n", content("a") + `data: {"error":{"message":"x"},"usage":{"prompt_tokens":1}}` + "\n\n"},
	} {
		for _, carrier := range carriers {
			t.Run(tt.name+", "+carrier, func(t *testing.T) {
				t.Parallel()
				pieces := make(chan []string, 1)
				up := newUpstream(t, func(rq *received) {
					rq.send(streamHead)
					for _, p := range <-pieces {
						rq.send(chunk(p))
					}
					rq.send(lastChunk)
				})
				rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
				c := rl.dial()
				for cut, cutter := range cuts {
					pieces <- cutter(tt.sent)
					c.send(post("/v1/chat/completions", chatStream))
					if a := c.answer(); string(a.body) != tt.want || a.err != nil {
						t.Errorf("%s: %s (%v)", cut, firstDifference(a.body, []byte(tt.want)), a.err)
					}
				}
			})
		}
	}
}

// An upstream that refuses stream_options is not asked, and another one that
// takes over is, whichever of them comes first.
func TestUsageIsAskedForByUpstream(t *testing.T) {
	busy := status(503)
	answer := events(content("a"), usageEvent, doneEvent)
	for _, tt := range []struct{ name, first, second, general, asked string }{
		{"the first is not", "off", "auto", "auto", "b"},
		{"the second is not", "auto", "off", "auto", "a"},
		{"the second alone is", "off", "auto", "off", "b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bodies := make(chan string, 2)
			script := func(name string, answer func(*received)) func(*received) {
				return func(rq *received) {
					if strings.Contains(rq.body, "include_usage") {
						bodies <- name
					} else if rq.body != chatStream {
						t.Errorf("%s got %s", name, rq.body)
					}
					answer(rq)
				}
			}
			a, b := newUpstream(t, script("a", busy)), newUpstream(t, script("b", answer))
			rl := startRelay(t, fmt.Sprintf(`upstreams:
  - {name: a, dialect: openai, base_url: "%s/v1", include_usage: %s}
  - {name: b, dialect: openai, base_url: "%s/v1", include_usage: %s, priority: 1}
stream: {include_usage: %s}
`, a.url, tt.first, b.url, tt.second, tt.general))
			want := content("a") + usageEvent + doneEvent
			if tt.second == "auto" {
				want = content("a") + doneEvent
			}
			if _, got := rl.speak(t, post("/v1/chat/completions", chatStream)); string(got.body) != want {
				t.Errorf("%s", firstDifference(got.body, []byte(want)))
			}
			close(bodies)
			var asked string
			for name := range bodies {
				asked += name
			}
			if asked != tt.asked {
				t.Errorf("asked for usage: %q, want %q", asked, tt.asked)
			}
			if r := rl.one(); r.Attempts != 2 || r.Usage.Input < 0 {
				t.Errorf("%d attempts, usage %+v", r.Attempts, r.Usage)
			}
		})
	}
}

// A client that gets no stream gets its answer's usage as it is.
func TestUsageOfAJSONAnswerStays(t *testing.T) {
	body := `{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}`
	up := newUpstream(t, func(rq *received) { rq.reply(200, body) })
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(post("/v1/chat/completions", chatStream)) // asked for a stream, got none
	if a := c.answer(); string(a.body) != body {
		t.Errorf("%s", a.body)
	}
	if r := rl.one(); r.Usage.Input != 1 || r.Usage.Output != 2 {
		t.Errorf("usage %+v", r.Usage)
	}
}

func TestAModelsAliasIsReplacedInPlace(t *testing.T) {
	up := make(chan *received, 1)
	provider := newUpstream(t, func(rq *received) {
		up <- rq
		rq.reply(200, "{}")
	})
	rl := relayTo(t, provider, `
stream: {include_usage: off}
routes:
  - {models: ["fast", "quo*"], upstreams: [openai, anthropic], rewrite_model: {fast: "vendor/very-long-name-7b", 'quo"te': 'a"b\c'}}
  - {models: ["*"], upstreams: [openai, anthropic]}
`)
	c := rl.dial()
	for _, tt := range []struct{ path, sent, want string }{
		{"/v1/chat/completions", `{"model":"fast","x":1}`, `{"model":"vendor/very-long-name-7b","x":1}`},
		{"/v1/chat/completions", `{"x":{"model":"fast"}, "model" :	"fast" }`, `{"x":{"model":"fast"}, "model" :	"vendor/very-long-name-7b" }`},
		{"/v1/chat/completions", `{"model":"f\u0061st"}`, `{"model":"vendor/very-long-name-7b"}`},
		{"/v1/chat/completions", `{"model":"quo\"te"}`, `{"model":"a\"b\\c"}`},
		{"/v1/chat/completions", `{"model":"other"}`, `{"model":"other"}`},
		{"/v1/messages", `{"model":"fast","max_tokens":1}`, `{"model":"vendor/very-long-name-7b","max_tokens":1}`},
	} {
		c.send(post(tt.path, tt.sent))
		rq := receive(t, up)
		if rq.body != tt.want || rq.get("Content-Length") != fmt.Sprint(len(tt.want)) {
			t.Errorf("%s went up as %s with Content-Length %s", tt.sent, rq.body, rq.get("Content-Length"))
		}
		if a := c.answer(); a.status != 200 {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
	}
	for i, r := range rl.wait(6) {
		if want := []string{"fast", "fast", "fast", `quo"te`, "other", "fast"}[i]; r.Model != want {
			t.Errorf("record %d: model %q, want %q: the name that the client asked for", i, r.Model, want)
		}
	}
}
