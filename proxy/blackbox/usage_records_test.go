package blackbox

import (
	"fmt"
	"strings"
	"testing"

	"streamrelay/telemetry"
)

// tokens is a Usage by field; what a provider did not name is -1.
func tokens(input, output, cached, cacheWrite, reasoning int64) telemetry.Usage {
	return telemetry.Usage{Input: input, Output: output, Cached: cached, CacheWrite: cacheWrite, Reasoning: reasoning}
}

// unknownTokens is the usage of an answer that named none.
var unknownTokens = tokens(-1, -1, -1, -1, -1)

// named is an event of a dialect that names its events.
func named(event, data string) string { return "event: " + event + "\ndata: " + data + "\n\n" }

// responsesStream is a stream of the Responses API that ends with last.
func responsesStream(last string) []string {
	return []string{
		named("response.created", `{"type":"response.created","sequence_number":0,"response":{"id":"r1","instructions":"say \"usage\":{\"input_tokens\":99}","usage":null}}`),
		named("response.in_progress", `{"type":"response.in_progress","sequence_number":1,"response":{"id":"r1","usage":null}}`),
		named("response.output_item.added", `{"type":"response.output_item.added","sequence_number":2,"item":{"type":"message","content":[]}}`),
		named("response.content_part.added", `{"type":"response.content_part.added","sequence_number":3,"part":{"type":"output_text","text":""}}`),
		named("response.output_text.delta", `{"type":"response.output_text.delta","sequence_number":4,"delta":"Hel"}`),
		named("response.output_text.delta", `{"type":"response.output_text.delta","sequence_number":5,"delta":"lo"}`),
		last,
	}
}

// messagesStream is an Anthropic stream with the closing events given.
func messagesStream(closing ...string) []string {
	return append([]string{
		named("message_start", `{"type":"message_start","message":{"id":"msg_1","role":"assistant","content":[],"usage":{"input_tokens":25,"cache_creation_input_tokens":100,"cache_read_input_tokens":50,"output_tokens":1}}}`),
		named("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`),
		named("ping", `{"type":"ping"}`),
		named("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}`),
		named("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo"}}`),
		named("content_block_stop", `{"type":"content_block_stop","index":0}`),
	}, closing...)
}

// usageCases are what providers send, by documentation and by reports, and what
// the record must say. See the threads named for who got it wrong.
var usageCases = []struct {
	name, path, body, json string // json: the answer, where it is no stream
	events                 []string
	usage                  telemetry.Usage
	source                 telemetry.UsageSource
	end                    telemetry.EndReason
	count, content         int64 // events, and those with model output
	model                  string
}{
	{name: "chat", events: []string{roleEvent, content("a"), content("b"), finalEvent, usageEvent, doneEvent},
		usage: tokens(12, 34, 5, -1, 7), source: telemetry.UsageProvider, count: 6, content: 2},
	{name: "chat without usage", events: []string{content("a"), finalEvent, doneEvent},
		usage: unknownTokens, count: 3, content: 1},
	{name: "usage null in each chunk", events: []string{
		`data: {"choices":[{"delta":{"content":"a"}}],"usage":null}` + "\n\n", `data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}` + "\n\n", usageEvent, doneEvent},
		usage: tokens(12, 34, 5, -1, 7), source: telemetry.UsageProvider, count: 4, content: 1},
	{name: "an explicit zero is no estimate", // BerriAI/litellm#37992
		events: []string{content("a"), `data: {"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}` + "\n\n", doneEvent},
		usage:  tokens(0, 0, -1, -1, -1), source: telemetry.UsageProvider, count: 3, content: 1},
	{name: "vLLM's continuous usage is not summed", // vllm-project/vllm#43965, sgl-project/sglang#12241
		events: []string{
			`data: {"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}` + "\n\n",
			`data: {"choices":[{"delta":{"content":"b"}}],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}` + "\n\n",
			`data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}` + "\n\n", doneEvent},
		usage: tokens(10, 2, -1, -1, -1), source: telemetry.UsageProvider, count: 4, content: 2},
	{name: "usage in the finish event", // DeepSeek, llama.cpp
		events: []string{
			`data: {"choices":[{"delta":{"content":null,"reasoning_content":"hmm"}}]}` + "\n\n",
			`data: {"choices":[{"delta":{"content":"","role":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":17,"completion_tokens":9,"total_tokens":26,"prompt_tokens_details":{"cached_tokens":16},"completion_tokens_details":{"reasoning_tokens":8},"prompt_cache_hit_tokens":16,"prompt_cache_miss_tokens":1}}` + "\n\n", doneEvent},
		usage: tokens(17, 9, 16, -1, 8), source: telemetry.UsageProvider, count: 3, content: 1},
	{name: "DeepSeek's own cache field", events: []string{content("a"),
		`data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":17,"completion_tokens":9,"prompt_cache_hit_tokens":3,"prompt_cache_miss_tokens":14}}` + "\n\n", doneEvent},
		usage: tokens(17, 9, 3, -1, -1), source: telemetry.UsageProvider, count: 3, content: 1},
	{name: "Azure's first chunk is neither usage nor content", path: "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
		events: []string{`data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[]}` + "\n\n",
			content("a"), `data: {"choices":[{"finish_reason":null,"index":0,"content_filter_offsets":{},"content_filter_results":{}}]}` + "\n\n", usageEvent, doneEvent},
		usage: tokens(12, 34, 5, -1, 7), source: telemetry.UsageProvider, count: 5, content: 1, model: "gpt-4o"},
	{name: "usage in the model's own text is none", events: []string{
		content(`{\"usage\":{\"prompt_tokens\":9999,\"completion_tokens\":9999}}`), content(`\\\"usage\\\":{`), doneEvent},
		usage: unknownTokens, count: 3, content: 2},
	{name: "usage deeper than the top is none", events: []string{
		`data: {"choices":[{"delta":{"content":"a","usage":{"prompt_tokens":9999}}}],"x":{"usage":{"prompt_tokens":8888}}}` + "\n\n", doneEvent},
		usage: unknownTokens, count: 2, content: 1},
	{name: "usage of a choice", events: []string{content("a"), // Moonshot
		`data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":12,"completion_tokens":34,"cached_tokens":5}}]}` + "\n\n", doneEvent},
		usage: tokens(12, 34, 5, -1, -1), source: telemetry.UsageProvider, count: 3, content: 1},
	{name: "tool calls are content", events: []string{roleEvent,
		`data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]}}]}` + "\n\n",
		`data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}}]}` + "\n\n", doneEvent},
		usage: unknownTokens, count: 4, content: 2},
	{name: "completions", path: "/v1/completions", events: []string{
		`data: {"object":"text_completion","choices":[{"index":0,"text":"Hi","finish_reason":null}]}` + "\n\n",
		`data: {"object":"text_completion","choices":[{"index":0,"text":"","finish_reason":"stop"}]}` + "\n\n", usageEvent, doneEvent},
		usage: tokens(12, 34, 5, -1, 7), source: telemetry.UsageProvider, count: 4, content: 1},
	{name: "a last event without its blank line counts", // mnfst/llm-gateway#1567
		body:   `{"model":"m1","stream":true,"stream_options":{"include_usage":true}}`,
		events: []string{content("a"), strings.TrimSuffix(usageEvent, "\n\n")},
		usage:  tokens(12, 34, 5, -1, 7), source: telemetry.UsageProvider, count: 2, content: 1},
	{name: "an error event", events: []string{content("a"), `data: {"error":{"message":"busy","type":"server_error","code":503}}` + "\n\n"},
		usage: unknownTokens, end: telemetry.UpstreamError, count: 2, content: 1},
	{name: "OpenRouter's error", events: []string{": OPENROUTER PROCESSING\n\n", `data: {"id":"x","error":{"code":502,"message":"m"},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}` + "\n\n"},
		usage: unknownTokens, end: telemetry.UpstreamError, count: 1},

	{name: "Responses", path: "/v1/responses", events: responsesStream(named("response.completed",
		`{"type":"response.completed","sequence_number":6,"response":{"id":"r1","output":[{"content":[{"text":"\"usage\":{\"input_tokens\":1}"}]}],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":4},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":123}}}`)),
		usage: tokens(36, 87, 4, -1, 64), source: telemetry.UsageProvider, count: 7, content: 2},
	{name: "Responses incomplete", path: "/v1/responses", // QuantumNous/new-api#7241
		events: responsesStream(named("response.incomplete", `{"type":"response.incomplete","sequence_number":6,"response":{"incomplete_details":{"reason":"max_output_tokens"},"usage":{"input_tokens":36,"output_tokens":87,"total_tokens":123}}}`)),
		usage:  tokens(36, 87, -1, -1, -1), source: telemetry.UsageProvider, count: 7, content: 2},
	{name: "Responses failed", path: "/v1/responses",
		events: responsesStream(named("response.failed", `{"type":"response.failed","sequence_number":6,"response":{"error":{"code":"server_error","message":"x"},"usage":{"input_tokens":36,"output_tokens":2,"total_tokens":38}}}`)),
		usage:  tokens(36, 2, -1, -1, -1), source: telemetry.UsageProvider, end: telemetry.UpstreamError, count: 7, content: 2},
	{name: "Responses error event", path: "/v1/responses",
		events: responsesStream(named("error", `{"type":"error","code":"server_error","message":"x","param":null,"sequence_number":6}`)),
		usage:  unknownTokens, end: telemetry.UpstreamError, count: 7, content: 2},
	{name: "Responses after megabytes", path: "/v1/responses", events: responsesStream(named("response.completed",
		`{"type":"response.completed","sequence_number":6,"response":{"output":[{"content":[{"text":"`+strings.Repeat("long ", 600<<10)+`"}]}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}}`)),
		usage: tokens(1, 2, -1, -1, -1), source: telemetry.UsageProvider, count: 7, content: 2},

	{name: "Anthropic", path: "/v1/messages", events: messagesStream( // envoyproxy/ai-gateway#2239: summed
		named("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}`), named("message_stop", `{"type":"message_stop"}`)),
		usage: tokens(25, 15, 50, 100, -1), source: telemetry.UsageProvider, count: 8, content: 2},
	{name: "Anthropic with several deltas", path: "/v1/messages", events: messagesStream(
		named("message_delta", `{"type":"message_delta","delta":{},"usage":{"output_tokens":7}}`),
		named("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":26,"cache_creation_input_tokens":101,"cache_read_input_tokens":51,"output_tokens":15}}`), named("message_stop", `{"type":"message_stop"}`)),
		usage: tokens(26, 15, 51, 101, -1), source: telemetry.UsageProvider, count: 9, content: 2},
	{name: "Anthropic's error event", path: "/v1/messages", events: messagesStream(
		named("error", `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)),
		usage: tokens(25, 1, 50, 100, -1), source: telemetry.UsagePartial, end: telemetry.UpstreamError, count: 7, content: 2},
	{name: "Anthropic thinking", path: "/v1/messages", events: []string{
		named("message_start", `{"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}}`),
		named("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`),
		named("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}`),
		named("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}`),
		named("message_delta", `{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}`), named("message_stop", `{"type":"message_stop"}`)},
		usage: tokens(5, 9, -1, -1, -1), source: telemetry.UsageProvider, count: 6, content: 2},

	{name: "Gemini", path: "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", body: `{"contents":[]}`, events: []string{
		`data: {"candidates":[{"content":{"parts":[{"text":"Hel"}],"role":"model"}}],"usageMetadata":{"promptTokenCount":8,"totalTokenCount":8}}` + "\r\n\r\n",
		`data: {"candidates":[{"content":{"parts":[{"text":"lo"}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":10,"thoughtsTokenCount":20,"cachedContentTokenCount":3,"totalTokenCount":38}}` + "\r\n\r\n"},
		usage: tokens(8, 30, 3, -1, 20), source: telemetry.UsageProvider, count: 2, content: 2, model: "gemini-2.5-pro"},
	{name: "Interactions", path: "/v1beta/interactions", body: `{"model":"m1","input":"x","stream":true}`, events: []string{
		named("interaction.created", `{"interaction":{"id":"v1_x","status":"in_progress"},"event_type":"interaction.created"}`),
		named("step.delta", `{"index":0,"delta":{"signature":"Ev","type":"thought_signature"},"event_type":"step.delta"}`),
		named("step.delta", `{"index":1,"delta":{"text":"Hi","type":"text"},"event_type":"step.delta"}`),
		named("interaction.completed", `{"interaction":{"id":"v1_x","status":"completed","usage":{"total_tokens":346,"total_input_tokens":11,"total_output_tokens":90,"total_thought_tokens":245}},"event_type":"interaction.completed"}`),
		named("done", "[DONE]")},
		usage: tokens(11, 335, -1, -1, 245), source: telemetry.UsageProvider, count: 5, content: 1},
	{name: "Interactions without their end", path: "/v1beta/interactions", body: `{"model":"m1","input":"x","stream":true}`, events: []string{
		named("step.delta", `{"index":1,"delta":{"text":"Hi","type":"text"},"event_type":"step.delta"}`)},
		usage: unknownTokens, end: telemetry.UpstreamIncomplete, count: 1, content: 1},

	{name: "JSON chat", body: chatPlain, json: `{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":99}"}}],"usage":{"prompt_tokens":5,"completion_tokens":6,"total_tokens":11}}`,
		usage: tokens(5, 6, -1, -1, -1), source: telemetry.UsageProvider},
	{name: "JSON embeddings", path: "/v1/embeddings", body: `{"model":"m1","input":"x"}`, json: `{"object":"list","data":[{"embedding":"AAAA"}],"usage":{"prompt_tokens":5,"total_tokens":5}}`,
		usage: tokens(5, -1, -1, -1, -1), source: telemetry.UsageProvider},
	{name: "JSON Responses", path: "/v1/responses", body: `{"model":"m1","input":"x"}`, json: `{"id":"r1","usage":{"input_tokens":5,"output_tokens":6,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":11}}`,
		usage: tokens(5, 6, -1, -1, 2), source: telemetry.UsageProvider},
	{name: "JSON Anthropic", path: "/v1/messages", body: `{"model":"m1","max_tokens":5}`, json: `{"type":"message","usage":{"input_tokens":5,"cache_creation_input_tokens":7,"cache_read_input_tokens":8,"output_tokens":6}}`,
		usage: tokens(5, 6, 8, 7, -1), source: telemetry.UsageProvider},
	{name: "JSON Gemini", path: "/v1beta/models/gemini-2.5-pro:generateContent", body: `{"contents":[]}`, json: `{"candidates":[],"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":10,"totalTokenCount":18}}`,
		usage: tokens(8, 10, -1, -1, -1), source: telemetry.UsageProvider, model: "gemini-2.5-pro"},
	{name: "JSON Interactions", path: "/v1beta/interactions", body: `{"model":"m1","input":"x"}`, json: `{"id":"v1_x","status":"completed","usage":{"total_tokens":346,"total_input_tokens":11,"total_output_tokens":90,"total_thought_tokens":245}}`,
		usage: tokens(11, 335, -1, -1, 245), source: telemetry.UsageProvider},
	{name: "JSON with usage null", body: chatPlain, json: `{"choices":[],"usage":null}`, usage: unknownTokens},
	{name: "JSON without usage", path: "/v1/moderations", body: `{"model":"m1","input":"x"}`, json: `{"results":[]}`, usage: unknownTokens},
	{name: "transcription", path: "/v1/audio/transcriptions", body: `{"model":"m1","stream":true}`, events: []string{
		`data: {"type":"transcript.text.delta","delta":"Hi"}` + "\n\n", `data: {"type":"transcript.text.done","text":"Hi","usage":{"type":"tokens","input_tokens":14,"output_tokens":45,"total_tokens":59}}` + "\n\n"},
		usage: tokens(14, 45, -1, -1, -1), source: telemetry.UsageProvider, count: 2, content: 1},
}

func TestRecordsSayWhatTheProviderSaid(t *testing.T) {
	for _, tt := range usageCases {
		for cut, cutter := range cuts {
			text := strings.Join(tt.events, "")
			if cut == "byte by byte" && len(text) > 1<<20 {
				continue
			}
			t.Run(tt.name+", "+cut, func(t *testing.T) {
				t.Parallel()
				up := newUpstream(t, func(rq *received) {
					if tt.json != "" {
						rq.reply(200, tt.json)
						return
					}
					rq.stream(cutter(text)...)
				})
				rl := relayTo(t, up, "")
				path, body, model := tt.path, tt.body, tt.model
				if path == "" {
					path = "/v1/chat/completions"
				}
				if body == "" {
					body = chatStream
				}
				if model == "" {
					model = "m1"
				}
				c := rl.dial()
				c.send(post(path, body))
				if a := c.answer(); a.status != 200 || a.err != nil {
					t.Fatalf("status %d, %v", a.status, a.err)
				}
				r := rl.one()
				got := fmt.Sprintf("%s, %+v of %d, %d events, %d with content, model %s", r.End, r.Usage, r.UsageSource, r.Events, r.ContentEvents, r.Model)
				want := fmt.Sprintf("%s, %+v of %d, %d events, %d with content, model %s", tt.end, tt.usage, tt.source, tt.count, tt.content, model)
				if got != want {
					t.Errorf("record:\n got %s\nwant %s", got, want)
				}
				checkTimes(t, &r)
				checkTokenCounters(t, rl.metrics(), &r)
			})
		}
	}
}

// checkTimes looks at the order of an exchange's times: what did not happen
// has none, and what happened has one within the exchange.
func checkTimes(t *testing.T, r *record) {
	t.Helper()
	if (r.TTFT > 0) != (r.ContentEvents > 0) {
		t.Errorf("TTFT %d with %d content events", r.TTFT, r.ContentEvents)
	}
	if (r.FirstEvent > 0) != (r.Events > 0) {
		t.Errorf("first event at %d of %d events", r.FirstEvent, r.Events)
	}
	if r.Events > 0 && int64(r.Gaps.N) != r.Events-1 {
		t.Errorf("%d gaps between %d events", r.Gaps.N, r.Events)
	}
	if r.Overhead <= 0 || r.UpstreamHead < r.Overhead || r.Events > 0 && r.FirstEvent < r.UpstreamHead ||
		r.TTFT > 0 && r.TTFT < r.FirstEvent || r.Duration < max(r.TTFT, r.FirstEvent, r.UpstreamHead) {
		t.Errorf("times out of order: overhead %d, head %d, first event %d, TTFT %d, duration %d", r.Overhead, r.UpstreamHead, r.FirstEvent, r.TTFT, r.Duration)
	}
}

// checkTokenCounters compares the token counters of the only exchange with its
// record.
func checkTokenCounters(t *testing.T, m map[string]float64, r *record) {
	t.Helper()
	for kind, n := range map[string]int64{
		"input": r.Usage.Input, "output": r.Usage.Output, "cached": r.Usage.Cached,
		"cache_write": r.Usage.CacheWrite, "reasoning": r.Usage.Reasoning,
	} {
		if got := sumOf(m, "relay_tokens_total", fmt.Sprintf("type=%q", kind)); got != float64(max(n, 0)) {
			t.Errorf("relay_tokens_total of type %s is %v, want %d", kind, got, n)
		}
	}
	unknown := 0.0
	if r.UsageSource == telemetry.UsageUnknown {
		unknown = 1
	}
	if got := sumOf(m, "relay_usage_unknown_total"); got != unknown {
		t.Errorf("relay_usage_unknown_total is %v, want %v", got, unknown)
	}
}

// sumOf adds the series of a family that have all the labels given.
func sumOf(m map[string]float64, family string, labels ...string) (sum float64) {
next:
	for series, v := range m {
		name, rest, _ := strings.Cut(series, "{")
		if name != family {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue next
			}
		}
		sum += v
	}
	return sum
}

// The first token is the first event with model output: headers, comments, the
// role and empty text before it do not count, though they came much earlier.
func TestTTFTIsTheFirstEventWithOutput(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		before     []string
		first      string
	}{
		{"chat", "/v1/chat/completions", []string{": wait\n\n", roleEvent, `data: {"choices":[{"delta":{"content":""}}]}` + "\n\n"}, content("x")},
		{"reasoning", "/v1/chat/completions", []string{roleEvent}, `data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}` + "\n\n"},
		{"vLLM's reasoning", "/v1/chat/completions", []string{roleEvent}, `data: {"choices":[{"delta":{"reasoning":"hm"}}]}` + "\n\n"},
		{"Responses", "/v1/responses", responsesStream("")[:4], responsesStream("")[4]},
		{"Anthropic", "/v1/messages", messagesStream()[:3], messagesStream()[3]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			shown := make(chan struct{})
			up := newUpstream(t, func(rq *received) {
				rq.send(streamHead)
				for _, e := range tt.before {
					rq.send(chunk(e))
				}
				if rq.await(shown) {
					rq.send(chunk(tt.first) + lastChunk)
				}
			})
			rl := relayTo(t, up, "")
			c := rl.dial()
			c.send(post(tt.path, chatStream))
			a := c.begin()
			a.expect(strings.Join(tt.before, ""))
			close(shown)
			a.finish(tt.first)
			r := rl.one()
			if r.ContentEvents != 1 || r.TTFT <= r.FirstEvent {
				t.Errorf("TTFT %d, first event %d, %d content events", r.TTFT, r.FirstEvent, r.ContentEvents)
			}
		})
	}
}
