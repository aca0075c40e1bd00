package blackbox

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"streamrelay/telemetry"
)

// billed is an upstream whose objects are finished from the second look on.
func billed(t *testing.T) *upstream {
	var looks atomic.Int64
	return newUpstream(t, func(rq *received) {
		method, rest, _ := strings.Cut(rq.line, " ")
		path, _, _ := strings.Cut(rest, " ")
		usage := `{"input_tokens":100,"output_tokens":800,"total_tokens":900}`
		switch {
		case strings.HasSuffix(path, "/count_tokens"), strings.HasSuffix(path, "/input_tokens"):
			rq.reply(200, `{"input_tokens":2095}`)
		case strings.HasSuffix(path, ":countTokens"):
			rq.reply(200, `{"totalTokens":2095,"usageMetadata":{"promptTokenCount":2095}}`)
		case method == "POST" && strings.HasSuffix(path, "/responses"):
			rq.reply(200, `{"id":"resp_1","object":"response","status":"queued","usage":null}`)
		case method == "POST" && strings.HasSuffix(path, "/batches"):
			rq.reply(200, `{"id":"batch_1","object":"batch","status":"validating","usage":{"input_tokens":0,"output_tokens":0}}`)
		case strings.Contains(path, "stream=true"):
			rq.reply(200, `data: {"type":"response.completed","response":{"id":"resp_1","usage":`+usage+"}}\n\n", "Content-Type: text/event-stream")
		default:
			if looks.Add(1)%4 == 1 {
				usage = `{"input_tokens":0,"output_tokens":0}`
			}
			rq.reply(200, `{"id":"resp_1","object":"response","usage":`+usage+`}`)
		}
	})
}

func TestCountingTokensCostsNothing(t *testing.T) {
	path, keys := keyFile(t, "create --name money --budget-day 1", "create --name tpm --tokens-per-minute 1000")
	rl, _ := limited(t, billed(t), path, "")
	long := `{"model":"m1","messages":[{"role":"user","content":"` + strings.Repeat("word ", 8000) + `"}]}`
	for range 3 {
		for _, key := range keys {
			for _, at := range []string{"/v1/messages/count_tokens", "/v1/responses/input_tokens", "/v1beta/models/m1:countTokens"} {
				if _, a := rl.speak(t, as(key, post(at, long))); a.status != 200 {
					t.Fatalf("%s: %s%s", at, a.head, a.body)
				}
			}
		}
	}
	for _, r := range rl.wait(18) {
		if r.UsageSource != telemetry.UsageProvider || r.Usage.Input != 0 || r.Usage.Output != 0 {
			t.Errorf("%s: %+v", r.Path, r.Usage)
		}
	}
}

func TestWorkBehindAnAnswerCountsOnceHoweverOftenItIsLookedAt(t *testing.T) {
	for name, c := range map[string]struct{ create, body, look string }{
		"response":           {"/v1/responses", `{"model":"m1","background":true,"input":"hi"}`, "/v1/responses/resp_1"},
		"response, streamed": {"/v1/responses", `{"model":"m1","background":true,"input":"hi"}`, "/v1/responses/resp_1?stream=true"},
	} {
		t.Run(name, func(t *testing.T) {
			path, keys := keyFile(t, "create --name money --budget-day 1.75")
			rl, _ := limited(t, billed(t), path, "")
			ask := func(rq string) int {
				_, a := rl.speak(t, as(keys[0], rq))
				return a.status
			}
			create, look := post(c.create, c.body), request("GET", c.look, "")
			if s := ask(look); s != 200 {
				t.Fatalf("a look at what nothing is known of: %d", s)
			}
			for i, rq := range []string{create, look, look, look, look, look} { // 900 tokens are 90 cents
				if s := ask(rq); s != 200 {
					t.Fatalf("request %d: status %d", i, s)
				}
			}
			for i, rq := range []string{create, look} {
				if _, a := rl.speak(t, as(keys[0], rq)); a.status != 200 {
					t.Fatalf("again, request %d: %s%s", i, a.head, a.body)
				}
			}
			if s := ask(look); s != 429 {
				t.Errorf("status %d behind 1.80 dollars of 1.75", s)
			}
			in, out := int64(0), int64(0)
			for _, r := range rl.wait(10) {
				if r.UsageSource != telemetry.UsageUnknown {
					in, out = in+r.Usage.Input, out+r.Usage.Output
					if r.Model != "m1" {
						t.Errorf("the row names %q", r.Model)
					}
				}
			}
			if in != 200 || out != 1600 {
				t.Errorf("%d and %d tokens in the log, want 200 and 1600", in, out)
			}
		})
	}
}

func TestLookingAtABatchTakesNoTokensAgain(t *testing.T) {
	path, keys := keyFile(t, "create --name tpm --tokens-per-minute 2000")
	rl, _ := limited(t, billed(t), path, "")
	for i, rq := range []string{post("/v1/batches", `{"input_file_id":"f"}`), request("GET", "/v1/batches/batch_1", ""), request("GET", "/v1/batches/batch_1", ""),
		request("GET", "/v1/batches/batch_1", ""), request("GET", "/v1/batches/batch_1", ""), post("/v1/batches/batch_1/cancel", "{}")} {
		if _, a := rl.speak(t, as(keys[0], rq)); a.status != 200 {
			t.Fatalf("request %d: %s", i, a.head)
		}
	}
	total := int64(0)
	for _, r := range rl.wait(6) {
		total += max(r.Usage.Input, 0) + max(r.Usage.Output, 0)
	}
	if total != 900 {
		t.Errorf("%d tokens, want 900", total)
	}
}

// What Anthropic's and Gemini's first events name of the output is no measure of
// what a client had that leaves before the last one.
func TestAStreamThatIsLeftCostsWhatWasRelayedOfIt(t *testing.T) {
	delta := named("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a word "}}`)
	gem := `data: {"candidates":[{"content":{"parts":[{"text":"a word "}],"role":"model"}}]}` + "\r\n\r\n"
	for name, c := range map[string]struct{ path, body, first, more string }{
		"anthropic": {"/v1/messages", `{"model":"m1","stream":true,"max_tokens":600,"messages":[]}`,
			named("message_start", `{"type":"message_start","message":{"usage":{"input_tokens":20,"output_tokens":1}}}`), delta},
		"gemini": {"/v1beta/models/m1:streamGenerateContent?alt=sse", `{"contents":[],"generationConfig":{"maxOutputTokens":600}}`,
			`data: {"candidates":[{"content":{"parts":[{"text":"x"}],"role":"model"}}],"usageMetadata":{"promptTokenCount":20,"totalTokenCount":20}}` + "\r\n\r\n", gem},
		"openai, nothing named": {"/v1/chat/completions", `{"model":"m1","stream":true,"max_tokens":600,"messages":[]}`,
			content("x"), content("a word ")},
	} {
		t.Run(name, func(t *testing.T) {
			text := c.first + strings.Repeat(c.more, 500)
			up := newUpstream(t, func(rq *received) {
				rq.send(streamHead + chunk(text))
				rq.gone()
			})
			path, keys := keyFile(t, "create --name money --budget-day 2")
			rl, _ := limited(t, up, path, "")
			refused := 0
			for i := range 10 {
				cl := rl.dial()
				cl.send(as(keys[0], post(c.path, c.body)))
				a := cl.begin()
				if a.status == 429 {
					refused++
					_ = cl.Close()
					rl.wait(i + 1)
					continue
				}
				a.expect(text)
				_ = cl.Close()
				r := rl.wait(i + 1)[i]
				if r.End != telemetry.ClientGone {
					t.Errorf("ended with %s", r.End)
				}
			}
			// 500 events at 1000 USD a million are 0.50 USD each: 10 are 5.00 of a budget of 2.00.
			if refused == 0 {
				t.Errorf("10 streams of 500 events passed a budget of 2.00 USD, 5.00 were relayed")
			}
		})
	}
}

// Work in the background whose begin, or whose look, is a stream that the client
// leaves before its last event. At 1000 USD a million tokens each response costs
// 0.90; ten of them pass a budget of 2.
func TestBackgroundWorkIsCountedThoughItsStreamWasLeft(t *testing.T) {
	for _, how := range []string{"begun by a stream that is left, then looked at", "looked at by a stream that is left"} {
		t.Run(how, func(t *testing.T) {
			var n atomic.Int64
			begin := func(id int64) string {
				return named("response.created", fmt.Sprintf(`{"type":"response.created","sequence_number":0,"response":{"id":"resp_%d","object":"response","background":true,"status":"queued","usage":null}}`, id))
			}
			deltas := strings.Repeat(named("response.output_text.delta", `{"type":"response.output_text.delta","sequence_number":4,"delta":"word "}`), 800)
			up := newUpstream(t, func(rq *received) {
				method, rest, _ := strings.Cut(rq.line, " ")
				path, _, _ := strings.Cut(rest, " ")
				switch {
				case method == "POST" && strings.Contains(rq.body, `"stream":true`):
					rq.send(streamHead + chunk(begin(n.Add(1))))
					rq.gone()
				case method == "POST":
					rq.reply(200, fmt.Sprintf(`{"id":"resp_%d","object":"response","status":"queued","usage":null}`, n.Add(1)))
				case strings.Contains(path, "stream=true"):
					rq.send(streamHead + chunk(deltas))
					rq.gone()
				default:
					id, _, _ := strings.Cut(path[strings.LastIndex(path, "/")+1:], "?")
					rq.reply(200, `{"id":"`+id+`","object":"response","status":"completed","output":[{"content":[{"type":"output_text","text":"all of it"}]}],"usage":{"input_tokens":100,"output_tokens":800,"total_tokens":900}}`)
				}
			})
			path, keys := keyFile(t, "create --name money --budget-day 2")
			rl, _ := limited(t, up, path, "")
			rows := 0
			for i := int64(1); i <= 10; i++ {
				if strings.HasPrefix(how, "begun") {
					c := rl.dial()
					c.send(as(keys[0], post("/v1/responses", `{"model":"m1","background":true,"stream":true,"input":"hi"}`)))
					a := c.begin()
					if a.status == 429 {
						return
					}
					a.expect(begin(i))
					_ = c.Close()
					rows++
					rl.wait(rows)
					_, b := rl.speak(t, as(keys[0], request("GET", fmt.Sprintf("/v1/responses/resp_%d", i), "")))
					if b.status == 429 {
						return
					}
					if b.status != 200 || !strings.Contains(string(b.body), "all of it") {
						t.Fatalf("%s%s", b.head, b.body)
					}
					rows++
				} else {
					_, b := rl.speak(t, as(keys[0], post("/v1/responses", `{"model":"m1","background":true,"input":"hi"}`)))
					if b.status == 429 {
						return
					}
					rows++
					c := rl.dial()
					c.send(as(keys[0], request("GET", fmt.Sprintf("/v1/responses/resp_%d?stream=true", i), "")))
					a := c.begin()
					if a.status == 429 {
						return
					}
					a.expect(deltas)
					_ = c.Close()
					rows++
				}
				rl.wait(rows)
			}
			t.Error("ten responses of 0.90 USD passed a budget of 2.00")
		})
	}
}
