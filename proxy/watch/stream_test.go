package watch

import (
	"strings"
	"testing"
)

// sse makes an event stream of data lines; an element that begins with "event:"
// or ":" or "id:" is taken as it stands.
func sse(events ...string) string {
	var b strings.Builder
	for _, e := range events {
		if strings.HasPrefix(e, "event:") || strings.HasPrefix(e, ":") || strings.HasPrefix(e, "id:") {
			b.WriteString(e + "\n\n")
		} else {
			b.WriteString("data: " + e + "\n\n")
		}
	}
	return b.String()
}

// named makes a stream of named events, each named as its JSON's type.
func named(events ...string) string {
	var b strings.Builder
	for _, e := range events {
		name := strings.SplitN(e, `"`, 5)[3]
		b.WriteString("event: " + name + "\ndata: " + e + "\n\n")
	}
	return b.String()
}

// stepped makes a stream of named events of the Interactions API, whose names
// stand last.
func stepped(events ...string) string {
	var b strings.Builder
	for _, e := range events {
		_, name, _ := strings.Cut(e, `"event_type":"`)
		b.WriteString("event: " + strings.TrimSuffix(name, `"}`) + "\ndata: " + e + "\n\n")
	}
	return b.String()
}

func chat(delta string) string {
	return `{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":` + delta + `,"logprobs":null,"finish_reason":null}]}`
}

const (
	role       = `{"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}`
	stop       = `{"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}`
	usageChunk = `{"id":"c1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":19,"completion_tokens":7,"total_tokens":26,"prompt_tokens_details":{"cached_tokens":3,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":2,"accepted_prediction_tokens":0}}}`
)

// none is what a usage looks like of which nothing is known.
var none = Usage{-1, -1, -1, -1, -1}

func TestStreamsOfEveryVendor(t *testing.T) {
	for _, c := range []struct {
		name    string
		family  Family
		in      string
		want    facts
		content int // the event that carries the first output, from 1; 0: none
	}{
		{"openai chat with usage", Chat, sse(role, chat(`{"content":"Hel"}`), chat(`{"content":"lo"}`), stop, usageChunk, "[DONE]"),
			facts{usage: Usage{19, 7, 3, -1, 2}, known: true, final: true, terminal: true, events: 6, content: 2}, 2},
		{"openai chat without usage", Chat, sse(role, chat(`{"content":"x"}`), stop, "[DONE]"),
			facts{terminal: true, events: 4, content: 1}, 2},
		{"openai chat cut before the end", Chat, sse(role, chat(`{"content":"x"}`)),
			facts{events: 2, content: 1}, 2},
		{"openai obfuscation is no output", Chat, sse(`{"choices":[{"index":0,"delta":{}}],"obfuscation":"abc"}`, "[DONE]"),
			facts{terminal: true, events: 2}, 0},
		{"openai tool calls", Chat, sse(role,
			chat(`{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]}`),
			chat(`{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}`),
			chat(`{"tool_calls":[{"index":0,"function":{"arguments":""}}]}`), "[DONE]"),
			facts{terminal: true, events: 5, content: 2}, 2},
		{"openai custom tool", Chat, sse(chat(`{"tool_calls":[{"index":0,"type":"custom","custom":{"name":"sh","input":"ls"}}]}`)),
			facts{events: 1, content: 1}, 1},
		{"openai function_call", Chat, sse(chat(`{"function_call":{"arguments":"1"}}`)), facts{events: 1, content: 1}, 1},
		{"openai refusal", Chat, sse(chat(`{"content":null}`), chat(`{"refusal":"no"}`)), facts{events: 2, content: 1}, 2},
		{"openai audio", Chat, sse(chat(`{"audio":{"id":"a"}}`), chat(`{"audio":{"data":"UklG"}}`), chat(`{"audio":{"transcript":"hi"}}`)),
			facts{events: 3, content: 2}, 2},
		{"openai logprobs hold a content that is no output", Chat, sse(`{"choices":[{"index":0,"delta":{},"logprobs":{"content":[{"token":"x","logprob":-0.1}]}}]}`),
			facts{events: 1}, 0},
		{"openai error inside the stream", Chat, sse(role, `{"error":{"message":"overloaded","type":"server_error","param":null,"code":null}}`),
			facts{terminal: true, failed: true, events: 2}, 0},
		{"error as the first event", Chat, sse(`{"error":{"message":"no"}}`), facts{terminal: true, failed: true, first: true, events: 1}, 0},
		{"error that is null or empty", Chat, sse(`{"error":null,"choices":[]}`, `{"error":"","choices":[]}`, `{"error":false}`, `{"error":0}`), facts{events: 4}, 0},
		{"error that is a string", Chat, sse(`{"error":"out of memory"}`), facts{terminal: true, failed: true, first: true, events: 1}, 0},
		{"done with a tail", Chat, sse(chat(`{"content":"x"}`), "[DONE] "), facts{terminal: true, events: 2, content: 1}, 1},
		{"two choices", Chat, sse(`{"choices":[{"index":0,"delta":{"content":""}},{"index":1,"delta":{"content":"b"}}]}`), facts{events: 1, content: 1}, 1},
		{"completions", Chat, sse(`{"object":"text_completion","choices":[{"text":"","index":0,"finish_reason":null}]}`,
			`{"object":"text_completion","choices":[{"text":"a","index":0}]}`,
			`{"object":"text_completion","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":0}}`, "[DONE]"),
			facts{usage: Usage{1, 0, -1, -1, -1}, known: true, final: true, terminal: true, events: 4, content: 1}, 2},

		{"responses", Responses, named(
			`{"type":"response.created","sequence_number":0,"response":{"id":"r","instructions":"say \"usage\"","tools":[{"a":{"usage":{"input_tokens":99}}}],"usage":null}}`,
			`{"type":"response.in_progress","sequence_number":1,"response":{"usage":null}}`,
			`{"type":"response.output_item.added","sequence_number":2,"item":{"type":"function_call","name":"f","arguments":""}}`,
			`{"type":"response.content_part.added","sequence_number":3,"part":{"type":"output_text","text":"x"}}`,
			`{"type":"response.output_text.delta","sequence_number":4,"delta":""}`,
			`{"type":"response.output_text.delta","sequence_number":5,"delta":"Hi"}`,
			`{"type":"response.output_text.done","sequence_number":6,"text":"Hi"}`,
			`{"type":"response.completed","sequence_number":7,"response":{"output":[{"content":[{"text":"Hi"}]}],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":4},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":5},"total_tokens":123},"metadata":{}}}`),
			facts{usage: Usage{36, 87, 4, -1, 5}, known: true, final: true, terminal: true, events: 8, content: 1, sequence: 7}, 6},
		{"responses incomplete", Responses, named(`{"type":"response.incomplete","sequence_number":9,"response":{"incomplete_details":{"reason":"max_output_tokens"},"usage":{"input_tokens":1,"output_tokens":2}}}`),
			facts{usage: Usage{1, 2, -1, -1, -1}, known: true, final: true, terminal: true, events: 1, sequence: 9}, 0},
		{"responses failed", Responses, named(`{"type":"response.created","sequence_number":0,"response":{}}`, `{"type":"response.failed","sequence_number":1,"response":{"error":{"code":"x"},"usage":{"input_tokens":1,"output_tokens":0}}}`),
			facts{usage: Usage{1, 0, -1, -1, -1}, known: true, final: true, terminal: true, failed: true, events: 2, sequence: 1}, 0},
		{"responses cancelled", Responses, named(`{"type":"response.cancelled","response":{"usage":null}}`), facts{terminal: true, events: 1}, 0},
		{"responses error", Responses, named(`{"type":"error","code":"server_error","message":"m","param":null,"sequence_number":3}`),
			facts{terminal: true, failed: true, first: true, events: 1, sequence: 3}, 0},
		{"responses deltas of other output", Responses, named(
			`{"type":"response.function_call_arguments.delta","delta":"{"}`, `{"type":"response.reasoning_summary_text.delta","delta":"t"}`,
			`{"type":"response.audio.delta","delta":"AAAA"}`, `{"type":"response.refusal.delta","delta":"no"}`,
			`{"type":"response.image_generation_call.partial_image","partial_image_b64":"iVBOR"}`,
			`{"type":"response.code_interpreter_call_code.delta","delta":"1"}`, `{"type":"response.mcp_call_arguments.delta","delta":{"a":1}}`),
			facts{events: 7, content: 7}, 1},
		{"vllm transcription", Responses, sse(
			`{"id":"trsc-1","object":"transcription.chunk","choices":[{"delta":{"content":" Hi"},"finish_reason":null,"index":0}]}`,
			`{"id":"trsc-1","object":"transcription.chunk","choices":[],"usage":{"prompt_tokens":14,"completion_tokens":3,"total_tokens":17}}`, "[DONE]"),
			facts{usage: Usage{14, 3, -1, -1, -1}, known: true, final: true, terminal: true, events: 3, content: 1}, 1},
		{"vllm transcription, cut", Responses, sse(`{"object":"transcription.chunk","choices":[{"delta":{"content":" Hi"},"finish_reason":"stop","index":0}]}`), facts{events: 1, content: 1}, 1},

		{"anthropic", Messages, named(
			`{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"stop_reason":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":10,"cache_read_input_tokens":5,"cache_creation":{"ephemeral_5m_input_tokens":10},"output_tokens":1,"service_tier":"standard"}}}`,
			`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
			`{"type":"ping"}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}`,
			`{"type":"content_block_stop","index":0}`,
			`{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}`,
			`{"type":"message_stop"}`),
			facts{usage: Usage{25, 15, 5, 10, -1}, known: true, final: true, terminal: true, events: 8, content: 1}, 5},
		{"anthropic several message_delta", Messages, named(
			`{"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}`,
			`{"type":"message_delta","delta":{},"usage":{"output_tokens":5}}`,
			`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":26,"output_tokens":9,"cache_read_input_tokens":0}}`,
			`{"type":"message_stop"}`),
			facts{usage: Usage{26, 9, 0, -1, -1}, known: true, final: true, terminal: true, events: 4}, 0},
		{"anthropic compaction", Messages, named(
			`{"type":"message_start","message":{"usage":{"input_tokens":180000,"cache_read_input_tokens":0,"output_tokens":1}}}`,
			`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":23000,"output_tokens":1000,"iterations":[{"type":"compaction","input_tokens":180000,"output_tokens":3500},{"type":"message","input_tokens":23000,"output_tokens":1000}]}}`,
			`{"type":"message_stop"}`),
			facts{usage: Usage{203000, 4500, 0, -1, -1}, known: true, final: true, terminal: true, events: 3}, 0},
		{"anthropic iterations are cumulative too", Messages, named(
			`{"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1,"iterations":[{"input_tokens":10,"output_tokens":1}]}}}`,
			`{"type":"message_delta","delta":{},"usage":{"output_tokens":5,"iterations":[{"input_tokens":10,"output_tokens":5}]}}`,
			`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4,"iterations":[{"input_tokens":10,"output_tokens":5},{"input_tokens":20,"output_tokens":4}]}}`),
			facts{usage: Usage{30, 9, -1, -1, -1}, known: true, final: true, events: 3}, 0},
		{"anthropic cut after message_start", Messages, named(`{"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}`),
			facts{usage: Usage{25, 1, -1, -1, -1}, known: true, events: 1}, 0},
		{"anthropic cut after a running total", Messages, named(`{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":5}}`),
			facts{usage: Usage{-1, 5, -1, -1, -1}, known: true, events: 1}, 0},
		{"a delta of another event is no output", Messages, named(`{"type":"other","delta":{"text":"x"}}`, `{"type":"other","delta":"x"}`), facts{events: 2}, 0},
		{"anthropic thinking", Messages, named(
			`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let"}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"Eqc"}}`), facts{events: 3, content: 1}, 2},
		{"anthropic tool use", Messages, named(
			`{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}`,
			`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}`,
			`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}`), facts{events: 3, content: 1}, 3},
		{"anthropic citations are no output", Messages, named(`{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"text":"x"}}}`), facts{events: 1}, 0},
		{"anthropic error", Messages, named(`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`),
			facts{terminal: true, failed: true, first: true, events: 1}, 0},
		{"anthropic error told by its name alone", Messages, "event: error\ndata: busy\n\n", facts{terminal: true, failed: true, first: true, events: 1}, 0},
		{"anthropic end told by its name alone", Messages, "event: message_stop\ndata: {}\n\n", facts{terminal: true, events: 1}, 0},

		{"gemini", Gemini, sse(
			`{"candidates":[{"content":{"role":"model","parts":[{"text":"Hi"}]},"index":0}],"usageMetadata":{"promptTokenCount":8,"totalTokenCount":8,"thoughtsTokenCount":3},"modelVersion":"g"}`,
			`{"candidates":[{"content":{"role":"model","parts":[{"text":""}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":11,"thoughtsTokenCount":4,"cachedContentTokenCount":2,"totalTokenCount":23}}`),
			facts{usage: Usage{8, 15, 2, -1, 4}, known: true, final: true, terminal: true, events: 2, content: 1}, 1},
		{"gemini cut", Gemini, sse(`{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}}]}}],"usageMetadata":{"promptTokenCount":8}}`),
			facts{usage: Usage{8, -1, -1, -1, -1}, known: true, events: 1, content: 1}, 1},
		{"gemini thought and inline data", Gemini, sse(`{"candidates":[{"content":{"parts":[{"text":"hm","thought":true}]}}]}`, `{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"iV"}}]}}]}`),
			facts{events: 2, content: 2}, 1},
		{"gemini blocked prompt", Gemini, sse(`{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":4}}`),
			facts{usage: Usage{4, -1, -1, -1, -1}, known: true, final: true, terminal: true, events: 1}, 0},
		{"gemini error", Gemini, sse(`{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}`), facts{terminal: true, failed: true, first: true, events: 1}, 0},

		{"interactions", Interactions, stepped(
			`{"interaction":{"id":"v1_x","status":"in_progress","object":"interaction","model":"g"},"event_type":"interaction.created"}`,
			`{"interaction_id":"v1_x","status":"in_progress","event_type":"interaction.status_update"}`,
			`{"index":0,"step":{"type":"thought"},"event_type":"step.start"}`,
			`{"index":0,"delta":{"signature":"Ev","type":"thought_signature"},"event_type":"step.delta"}`,
			`{"index":0,"event_type":"step.stop"}`,
			`{"index":1,"step":{"type":"model_output"},"event_type":"step.start"}`,
			`{"index":1,"delta":{"text":"","type":"text"},"event_type":"step.delta"}`,
			`{"index":1,"delta":{"text":"1, 2","type":"text"},"event_type":"step.delta"}`,
			`{"index":1,"event_type":"step.stop"}`,
			`{"interaction":{"id":"v1_x","status":"completed","usage":{"total_tokens":346,"total_input_tokens":11,"input_tokens_by_modality":[{"modality":"text","tokens":11}],"total_cached_tokens":4,"total_output_tokens":90,"total_tool_use_tokens":7,"total_thought_tokens":245}},"event_type":"interaction.completed"}`,
		) + "event: done\ndata: [DONE]\n\n",
			facts{usage: Usage{18, 335, 4, -1, 245}, known: true, final: true, terminal: true, events: 11, content: 1}, 8},
		{"interactions of other output", Interactions, stepped(
			`{"index":0,"step":{"summary":[{"text":"Hm","type":"text"}],"type":"thought"},"event_type":"step.start"}`,
			`{"index":0,"delta":{"content":{"text":"Hm","type":"text"},"type":"thought_summary"},"event_type":"step.delta"}`,
			`{"index":1,"step":{"content":[{"text":"Based","type":"text"}],"type":"model_output"},"event_type":"step.start"}`,
			`{"index":2,"step":{"type":"function_call","name":"f","arguments":{}},"event_type":"step.start"}`,
			`{"index":2,"delta":{"type":"arguments_delta","arguments":"{\"a\""},"event_type":"step.delta"}`,
			`{"index":3,"delta":{"type":"image","data":"iV","mime_type":"image/png"},"event_type":"step.delta"}`,
			`{"index":3,"delta":{"type":"google_search_result","result":[{"url":"u"}]},"event_type":"step.delta"}`),
			facts{events: 7, content: 5}, 1},
		{"interactions before steps", Interactions, stepped(
			`{"interaction":{"id":"v1_x","status":"in_progress"},"event_type":"interaction.start"}`,
			`{"index":0,"content":{"type":"text"},"event_type":"content.start"}`,
			`{"index":0,"delta":{"type":"text","text":"Hi"},"event_type":"content.delta"}`,
			`{"index":0,"delta":{"type":"function_call","name":"f","arguments":{"a":1}},"event_type":"content.delta"}`,
			`{"interaction":{"status":"completed","usage":{"total_input_tokens":1,"total_output_tokens":2}},"event_type":"interaction.complete"}`),
			facts{usage: Usage{1, 2, -1, -1, -1}, known: true, final: true, terminal: true, events: 5, content: 2}, 3},
		{"interactions named by their JSON alone", Interactions, sse(`{"delta":{"text":"Hi"},"event_type":"step.delta"}`, `{"interaction":{},"event_type":"interaction.completed"}`),
			facts{terminal: true, events: 2, content: 1}, 1},
		{"interactions cut", Interactions, stepped(`{"delta":{"text":"Hi"},"event_type":"step.delta"}`), facts{events: 1, content: 1}, 1},
		{"interactions end with [DONE] alone", Interactions, sse("[DONE]"), facts{terminal: true, events: 1}, 0},
		{"interactions error", Interactions, stepped(`{"error":{"code":503,"message":"m"},"event_type":"error"}`), facts{terminal: true, failed: true, first: true, events: 1}, 0},

		{"siliconflow running totals", Chat, sse(
			`{"choices":[{"delta":{"content":null,"reasoning_content":"h","role":"assistant"}}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}`,
			`{"choices":[{"delta":{"content":"","reasoning_content":null}}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`,
			`{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"completion_tokens_details":{"reasoning_tokens":1}}}`, "[DONE]"),
			facts{usage: Usage{9, 3, -1, -1, 1}, known: true, final: true, terminal: true, events: 4, content: 2}, 1},
		{"xai", Chat, sse(`{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":32,"completion_tokens":1,"total_tokens":233,"completion_tokens_details":{"reasoning_tokens":200}}}`,
			`{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":32,"completion_tokens":9,"total_tokens":241,"prompt_tokens_details":{"cached_tokens":6},"completion_tokens_details":{"reasoning_tokens":200}}}`, "[DONE]"),
			facts{usage: Usage{32, 209, 6, -1, 200}, known: true, final: true, terminal: true, events: 3, content: 1}, 1},
		{"moonshot", Chat, sse(chat(`{"content":"a"}`),
			`{"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":19,"completion_tokens":21,"total_tokens":40,"cached_tokens":10}}]}`, "[DONE]"),
			facts{usage: Usage{19, 21, 10, -1, -1}, known: true, final: true, terminal: true, events: 3, content: 1}, 1},
		{"moonshot, cut behind the choice", Chat, sse(`{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop","usage":{"prompt_tokens":19,"completion_tokens":21}}]}`),
			facts{usage: Usage{19, 21, -1, -1, -1}, known: true, final: true, events: 1, content: 1}, 1},
		{"moonshot with include_usage", Chat, sse(`{"choices":[{"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":1,"completion_tokens":2,"cached_tokens":1}}]}`,
			`{"choices":[],"usage":{"prompt_tokens":19,"completion_tokens":21}}`, `{"choices":[{"delta":{},"usage":{"prompt_tokens":1,"completion_tokens":2}}]}`, "[DONE]"),
			facts{usage: Usage{19, 21, 1, -1, -1}, known: true, final: true, terminal: true, events: 4}, 0},
		{"a usage at the top wins over a choice's, wherever it stands", Chat, sse(
			`{"usage":{"prompt_tokens":19},"choices":[{"finish_reason":"stop","usage":{"prompt_tokens":1,"completion_tokens":2}}]}`,
			`{"choices":[{"finish_reason":"stop","usage":{"completion_tokens":3}}],"usage":{"completion_tokens":21}}`),
			facts{usage: Usage{19, 21, -1, -1, -1}, known: true, final: true, events: 2}, 0},
		{"deepseek", Chat, ": keep-alive\n\n: keep-alive\n\n" + sse(chat(`{"role":"assistant","content":null,"reasoning_content":""}`), chat(`{"content":null,"reasoning_content":"We"}`),
			`{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":30,"prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":4,"completion_tokens_details":{"reasoning_tokens":20}}}`),
			facts{usage: Usage{12, 30, 8, -1, 20}, known: true, final: true, events: 3, content: 1}, 2},
		{"azure", Chat, sse(`{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}`,
			`{"choices":[{"content_filter_offsets":{},"content_filter_results":{},"finish_reason":null,"index":0,"logprobs":null}]}`,
			chat(`{"content":"a"}`), usageChunk, "[DONE]"),
			facts{usage: Usage{19, 7, 3, -1, 2}, known: true, final: true, terminal: true, events: 5, content: 1}, 3},
		{"vllm continuous usage, cut", Chat, sse(
			`{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":5,"total_tokens":6,"completion_tokens":1}}`,
			`{"choices":[{"delta":{"content":"b"}}],"usage":{"prompt_tokens":5,"total_tokens":7,"completion_tokens":2}}`),
			facts{usage: Usage{5, 2, -1, -1, -1}, known: true, events: 2, content: 2}, 1},
		{"vllm continuous usage, then the end", Chat, sse(`{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":5,"completion_tokens":1}}`, "[DONE]"),
			facts{usage: Usage{5, 1, -1, -1, -1}, known: true, final: true, terminal: true, events: 2, content: 1}, 1},
		{"vllm usage with choices null", Chat, sse(`{"choices":null,"usage":{"prompt_tokens":5,"completion_tokens":2}}`), facts{usage: Usage{5, 2, -1, -1, -1}, known: true, final: true, events: 1}, 0},
		{"vllm usage without choices", Chat, sse(`{"usage":{"prompt_tokens":5,"completion_tokens":2}}`), facts{usage: Usage{5, 2, -1, -1, -1}, known: true, final: true, events: 1}, 0},
		{"vllm reasoning", Chat, sse(chat(`{"reasoning":"r"}`)), facts{events: 1, content: 1}, 1},
		{"old vllm error", Chat, sse(`{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}`), facts{terminal: true, failed: true, first: true, events: 1}, 0},
		{"llama.cpp usage in the finish chunk", Chat, sse(`{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"usage":{"completion_tokens":4,"prompt_tokens":2},"timings":{"prompt_n":1}}`),
			facts{usage: Usage{2, 4, -1, -1, -1}, known: true, final: true, events: 1}, 0},
		{"mistral parts", Chat, sse(chat(`{"content":[]}`), chat(`{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]}`)), facts{events: 2, content: 1}, 2},
		{"openrouter error", Chat, ": OPENROUTER PROCESSING\n\n" + sse(`{"id":"g","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}],"error":{"code":502,"message":"m"}}`),
			facts{terminal: true, failed: true, first: true, events: 1}, 0},
		{"openrouter error told by its finish reason alone", Chat, sse(chat(`{"content":"x"}`), `{"choices":[{"delta":{"content":""},"finish_reason":"error"}]}`),
			facts{terminal: true, failed: true, events: 2, content: 1}, 1},
		{"groq", Chat, sse(`{"choices":[{"delta":{},"finish_reason":"stop"}],"x_groq":{"id":"r","usage":{"prompt_tokens":3,"completion_tokens":4}}}`),
			facts{usage: Usage{3, 4, -1, -1, -1}, known: true, final: true, events: 1}, 0},
		{"new-api names both pairs", Chat, sse(`{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"input_tokens":0,"output_tokens":0,"input_tokens_details":null}}`),
			facts{usage: Usage{3, 4, -1, -1, -1}, known: true, final: true, events: 1}, 0},
		{"transcription", Other, named(`{"type":"transcript.text.delta","delta":"Hi"}`, `{"type":"transcript.text.done","text":"Hi","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0},"output_tokens":45}}`),
			facts{usage: Usage{14, 45, -1, -1, -1}, known: true, final: true, terminal: true, events: 2, content: 1}, 1},
		{"transcription by duration", Other, named(`{"type":"transcript.text.done","text":"Hi","usage":{"type":"duration","seconds":3}}`), facts{terminal: true, events: 1}, 0},
		{"speech", Other, named(`{"type":"speech.audio.delta","audio":"UklG"}`, `{"type":"speech.audio.done","usage":{"input_tokens":4,"output_tokens":9}}`),
			facts{usage: Usage{4, 9, -1, -1, -1}, known: true, final: true, terminal: true, events: 2, content: 1}, 1},
		{"images", Other, named(`{"type":"image_generation.partial_image","b64_json":"iVBO","partial_image_index":0}`, `{"type":"image_generation.completed","b64_json":"iVBO","usage":{"input_tokens":50,"output_tokens":4160,"input_tokens_details":{"text_tokens":50}}}`),
			facts{usage: Usage{50, 4160, -1, -1, -1}, known: true, final: true, terminal: true, events: 2, content: 2}, 1},

		{"usage in the model's words", Chat, sse(
			chat(`{"content":"\"usage\":{\"prompt_tokens\":9999}"}`), chat(`{"content":"\\"}`), chat(`{"content":"\\\"usage\\\": {"}`), chat(`{"content":"}],\"usage\":{\"prompt_tokens\":1}"}`)),
			facts{events: 4, content: 4}, 1},
		{"usage in a place that is none", Chat, sse(`{"choices":[{"delta":{"content":"x","usage":{"prompt_tokens":1}},"logprobs":{"usage":{"prompt_tokens":1}}}],"debug":{"usage":{"prompt_tokens":1}},"list":[{"usage":{"prompt_tokens":1}}]}`),
			facts{events: 1, content: 1}, 1},
		{"names with escapes are no names of ours", Chat, sse(`{"us\u0061ge":{"prompt_tokens":1},"\\usage":{"prompt_tokens":1},"usage\"":{"prompt_tokens":1}}`, `{"type":"\u0065rror"}`), facts{events: 2}, 0},
		{"null and absent do not reset", Chat, sse(`{"usage":{"prompt_tokens":1,"completion_tokens":2}}`, `{"usage":null}`, `{"usage":{"completion_tokens":3,"prompt_tokens":null}}`),
			facts{usage: Usage{1, 3, -1, -1, -1}, known: true, final: true, events: 3}, 0},
		{"zero is known", Chat, sse(`{"usage":{"prompt_tokens":0,"completion_tokens":0}}`), facts{usage: Usage{0, 0, -1, -1, -1}, known: true, final: true, events: 1}, 0},
		{"counts that are none", Chat, sse(`{"usage":{"prompt_tokens":-1,"completion_tokens":1.5}}`, `{"usage":{"prompt_tokens":1e3,"completion_tokens":99999999999999999999}}`, `{"usage":{"prompt_tokens":9007199254740993,"completion_tokens":-0}}`, `{"usage":{"prompt_tokens":"7","completion_tokens":true}}`, `{"usage":{"prompt_tokens":{"a":1},"completion_tokens":[1]}}`, `{"usage":[{"prompt_tokens":1}]}`),
			facts{events: 6}, 0},
		{"half a document says nothing", Chat, "data: {\"usage\":{\"prompt_tokens\":1}\n\n", facts{events: 1}, 0},
		{"a document and more says nothing", Chat, sse(`{"usage":{"prompt_tokens":1}} {}`), facts{events: 1}, 0},
		{"garbage", Chat, sse("hello", `{"a" 1}`, `{"usage":}`, "{]", `"text"`, "12", "null", "[1,2]", `{"choices":{"delta":1}}`), facts{events: 9}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.want.sequence == 0 && c.family != Responses || !strings.Contains(c.in, "sequence_number") {
				c.want.sequence = -1
			}
			if !c.want.known {
				c.want.usage = none
			}
			c.want.gaps = uint32(max(c.want.events, 1) - 1)
			checkCuts(t, c.family, false, c.in, true, c.want, c.in)
			checkTimes(t, c.family, c.in, c.content)
		})
	}
}

// checkTimes feeds byte by byte, with the number of bytes as time: an event's
// time is that of its empty line.
func checkTimes(t *testing.T, f Family, in string, content int) {
	t.Helper()
	var at []int64
	for i, from := 0, 0; i < len(in); i++ {
		if strings.HasSuffix(in[from:i+1], "\n\n") {
			if strings.Contains(in[from:i], "data:") {
				at = append(at, int64(i+1))
			}
			from = i + 1
		}
	}
	var s Stream
	s.Reset(f, false)
	for i := range len(in) {
		s.Feed([]byte{in[i]}, int64(i+1))
	}
	want := int64(0)
	if content > 0 {
		want = at[content-1]
	}
	if got := s.FirstContent(); got != want {
		t.Errorf("first content at %d, want %d", got, want)
	}
	if s.FirstEvent() != at[0] || s.lastEvent != at[len(at)-1] {
		t.Errorf("events from %d to %d, want %d to %d", s.FirstEvent(), s.lastEvent, at[0], at[len(at)-1])
	}
	if s.Gaps.Sum != at[len(at)-1]-at[0] {
		t.Errorf("gaps of %d in all, want %d", s.Gaps.Sum, at[len(at)-1]-at[0])
	}
}

func TestResetForgets(t *testing.T) {
	h := new(Holds)
	s := Stream{Holds: h}
	run(&s, Chat, true, "data: "+`{"error":{},"usage":{"prompt_tokens":1}}`+"\n\ndata: {\"us", false)
	s.Reset(Messages, false)
	if s != (Stream{Holds: h, family: Messages, sequence: -1, json: scanner{field: fieldRoot, doc: document{sequence: -1}}}) {
		t.Errorf("after Reset: %+v", s)
	}
}
