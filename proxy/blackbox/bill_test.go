package blackbox

import (
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
