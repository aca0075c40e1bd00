package watch

import (
	"strings"
	"testing"
)

func TestJSONUsageOfEveryVendor(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     Usage
		known    bool
		cut      bool
	}{
		{"chat", `{"id":"c","choices":[{"message":{"role":"assistant","content":"say \"usage\""},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":{"reasoning_tokens":2}},"system_fingerprint":"f"}`, Usage{9, 12, 1, -1, 2}, true, false},
		{"xai counts reasoning on top", `{"usage":{"prompt_tokens":10120,"completion_tokens":1499,"total_tokens":14428,"completion_tokens_details":{"reasoning_tokens":2809}}}`, Usage{10120, 4308, -1, -1, 2809}, true, false},
		{"xai, total last", `{"usage":{"completion_tokens_details":{"reasoning_tokens":3},"completion_tokens":2,"prompt_tokens":1,"total_tokens":6}}`, Usage{1, 5, -1, -1, 3}, true, false},
		{"reasoning within the completion", `{"usage":{"prompt_tokens":1,"completion_tokens":5,"total_tokens":6,"completion_tokens_details":{"reasoning_tokens":3}}}`, Usage{1, 5, -1, -1, 3}, true, false},
		{"a total that adds up to nothing", `{"usage":{"prompt_tokens":1,"completion_tokens":5,"total_tokens":7,"completion_tokens_details":{"reasoning_tokens":3}}}`, Usage{1, 5, -1, -1, 3}, true, false},
		{"xai without reasoning", `{"usage":{"prompt_tokens":1,"completion_tokens":5,"total_tokens":6,"completion_tokens_details":{"reasoning_tokens":0}}}`, Usage{1, 5, -1, -1, 0}, true, false},
		{"a total of another object", "{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":5,\"reasoning_tokens\":3}}\n{\"usage\":{\"total_tokens\":9,\"cached_tokens\":1}}", Usage{1, 5, 1, -1, 3}, true, false},
		{"usage of a choice", `{"choices":[{"finish_reason":"stop","usage":{"prompt_tokens":19,"completion_tokens":21}}]}`, Usage{19, 21, -1, -1, -1}, true, false},
		{"usage first", `{"usage":{"prompt_tokens":9,"completion_tokens":12},"choices":[{"message":{"usage":{"prompt_tokens":1}}}]}`, Usage{9, 12, -1, -1, -1}, true, false},
		{"embeddings", "{\n  \"object\": \"list\",\n  \"data\": [ { \"embedding\": [ -0.1, 1e-5, 3 ] } ],\n  \"usage\": { \"prompt_tokens\": 8, \"total_tokens\": 8 }\n}\n", Usage{8, -1, -1, -1, -1}, true, false},
		{"responses", `{"id":"r","output":[{"content":[{"text":"}]"}]}],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":0},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":0}}}`, Usage{36, 87, 0, -1, 0}, true, false},
		{"responses wrapped", `{"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":2}}}`, Usage{1, 2, -1, -1, -1}, true, false},
		{"anthropic", `{"type":"message","content":[{"type":"text","text":"x"}],"usage":{"input_tokens":5,"cache_creation_input_tokens":6,"cache_read_input_tokens":7,"output_tokens":8}}`, Usage{5, 8, 7, 6, -1}, true, false},
		{"anthropic count_tokens is no usage", `{"input_tokens":2095}`, none, false, false},
		{"anthropic compaction", `{"type":"message","usage":{"input_tokens":23000,"output_tokens":1000,"iterations":[{"type":"compaction","input_tokens":180000,"output_tokens":3500},{"type":"message","input_tokens":23000,"output_tokens":1000}]}}`, Usage{203000, 4500, -1, -1, -1}, true, false},
		{"iterations before what is beside them", `{"usage":{"iterations":[{"type":"compaction","input_tokens":180000,"output_tokens":3500},{"type":"message","input_tokens":23000,"output_tokens":1000}],"input_tokens":23000,"cache_read_input_tokens":7,"output_tokens":1000}}`, Usage{203000, 4500, 7, -1, -1}, true, false},
		{"iterations of several models, with all counts", `{"usage":{"input_tokens":1,"output_tokens":2,"cache_read_input_tokens":3,"cache_creation_input_tokens":4,"iterations":[{"type":"message","input_tokens":10,"output_tokens":20,"cache_read_input_tokens":30,"cache_creation_input_tokens":40,"cache_creation":{"ephemeral_5m_input_tokens":40,"input_tokens":9}},{"type":"advisor_message","model":"m","input_tokens":1,"output_tokens":2,"cache_read_input_tokens":3,"cache_creation_input_tokens":4}]}}`, Usage{11, 22, 33, 44, -1}, true, false},
		{"no iterations", `{"usage":{"input_tokens":5,"iterations":[],"output_tokens":8}}{"usage":{"iterations":null}}{"usage":{"iterations":{"input_tokens":1}}}{"usage":{"iterations":[null,1,"x",[{"input_tokens":1}],{}]}}`, Usage{5, 8, -1, -1, -1}, true, false},
		{"iterations of another object", `{"usage":{"iterations":[{"input_tokens":5,"output_tokens":1}]}}{"usage":{"iterations":[{"input_tokens":7}],"output_tokens":3}}`, Usage{7, 3, -1, -1, -1}, true, false},
		{"iterations that add up to no count", `{"usage":{"input_tokens":5,"iterations":[{"input_tokens":1099511627776},{"input_tokens":1099511627776}]}}`, Usage{1 << 40, -1, -1, -1, -1}, true, false},
		{"cut within iterations", `{"usage":{"input_tokens":5,"iterations":[{"input_tokens":7}`, none, false, true},
		{"gemini", `{"candidates":[{"content":{"parts":[{"text":"x"}]}}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2,"thoughtsTokenCount":3}}`, Usage{1, 5, -1, -1, 3}, true, false},
		{"gemini with tools of its own", `{"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":2,"toolUsePromptTokenCount":300,"thoughtsTokenCount":3,"totalTokenCount":315}}`, Usage{310, 5, -1, -1, 3}, true, false},
		{"gemini interaction", `{"id":"v1_x","status":"completed","steps":[{"type":"model_output","content":[{"type":"text","text":"Hi"}]}],"usage":{"total_tokens":1700,"total_input_tokens":133,"total_output_tokens":1500,"total_thought_tokens":67,"total_cached_tokens":5,"total_tool_use_tokens":9},"object":"interaction"}`, Usage{142, 1567, 5, -1, 67}, true, false},
		{"gemini array of chunks", `[{"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2}}` + "\n,\r\n" + `{"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":4}}` + "\n]", Usage{1, 4, -1, -1, -1}, true, false},
		{"gemini array cut", `[{"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2}},{"candi`, Usage{1, 2, -1, -1, -1}, true, true},
		{"gemini error array", `[{"error":{"code":400}}]`, none, false, false},
		{"ndjson", `{"usage":{"prompt_tokens":1,"completion_tokens":1}}` + "\n" + `{"x":1}` + "\r\n\n" + `{"usage":{"completion_tokens":5}}` + "\n", Usage{1, 5, -1, -1, -1}, true, false},
		{"embeddings that name a total alone", `{"data":[],"usage":{"total_tokens":23}}`, Usage{23, -1, -1, -1, -1}, true, false},
		{"rerank that names a total alone", `{"results":[],"usage":{"total_tokens":79,"cached_tokens":4}}`, Usage{79, -1, 4, -1, -1}, true, false},
		{"a total beside a count of any kind is none", `{"usage":{"total_tokens":9,"completion_tokens":9}}`, Usage{-1, 9, -1, -1, -1}, true, false},
		{"the same, first and of the other pair", `{"usage":{"output_tokens":9,"total_tokens":9}}`, Usage{-1, 9, -1, -1, -1}, true, false},
		{"total null", `{"usage":{"total_tokens":null}}`, none, false, false},
		{"a total alone after a better count", `{"usage":{"prompt_tokens":3}}{"usage":{"total_tokens":9}}`, Usage{3, -1, -1, -1, -1}, true, false},
		{"and before one", `{"usage":{"total_tokens":9}}{"usage":{"total_tokens":8}}{"usage":{"prompt_tokens":3}}{"usage":{"prompt_tokens":2}}`, Usage{2, -1, -1, -1, -1}, true, false},
		{"siliconflow rerank", `{"results":[],"meta":{"billed_units":{"input_tokens":1},"tokens":{"input_tokens":28,"output_tokens":0}}}`, Usage{28, 0, -1, -1, -1}, true, false},
		{"rerank with tokens at the top", `{"results":[{"relevance_score":0.9}],"tokens":{"input_tokens":28,"output_tokens":3}}`, Usage{28, 3, -1, -1, -1}, true, false},
		{"images", `{"created":1,"data":[{"b64_json":"iVBORw0KGgo="}],"usage":{"total_tokens":100,"input_tokens":50,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}`, Usage{50, 50, -1, -1, -1}, true, false},
		{"deepseek's blank lines", "\n\n\r\n \t\n" + `{"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_cache_hit_tokens":1,"prompt_cache_miss_tokens":2}}`, Usage{3, 4, 1, -1, -1}, true, false},
		{"order mark", bomMark + `{"usage":{"prompt_tokens":3}}`, Usage{3, -1, -1, -1, -1}, true, false},
		{"no usage", `{"object":"list","data":[]}`, none, false, false},
		{"usage null", `{"usage":null}`, none, false, false},
		{"cut after usage", `{"usage":{"prompt_tokens":3,"completion_tokens":4},"choices":[{"mess`, Usage{3, 4, -1, -1, -1}, true, true},
		{"cut within usage", `{"usage":{"prompt_tokens":3,"completion_tokens":4`, none, false, true},
		{"garbage after usage", `{"usage":{"prompt_tokens":3},]`, Usage{3, -1, -1, -1, -1}, true, false},
		{"html", "<html><body>502</body></html>", none, false, false},
		{"subtitles", "1\n00:00:00,000 --> 00:00:01,000\n{\"usage\":{\"prompt_tokens\":3}}\n", none, false, false},
		{"text", "Hello {\"usage\":{\"prompt_tokens\":3}}", none, false, false},
		{"blank", " \n", none, false, false},
		{"cut after a comma", `{"a":1,`, none, false, true},
		{"cut within what is skipped", `{"a":{"b":"`, none, false, true},
		{"cut within a text", `"Api key`, none, false, true},
		{"number", "12", none, false, false},
		{"cut within a number", "[12", none, false, true},
		{"ndjson cut", "{\"a\":1}\n{", none, false, true},
		{"string", `"Api key is invalid"`, none, false, false},
		{"empty", "", none, false, false},
		{"nested arrays", "[[[[[[[[[[[[[[[[[[[[{\"usage\":{\"prompt_tokens\":3}}]]]]]]]]]]]]]]]]]]]]", none, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var j JSON
			everyCut(len(c.in), func(cuts ...int) {
				j.Reset()
				from := 0
				for _, cut := range append(cuts, len(c.in)) {
					j.Feed([]byte(c.in[from:cut]))
					from = cut
				}
				if u, known := j.Usage(); u != c.want || known != c.known || j.Cut() != c.cut {
					t.Fatalf("in pieces at %v: %+v, known %v, cut %v", cuts, u, known, j.Cut())
				}
			})
		})
	}
}

func TestDepthIsNoMatter(t *testing.T) {
	for _, n := range []int{1, 300, 1 << 20} {
		in := `{"x":` + strings.Repeat(`[{"y":`, n) + "1" + strings.Repeat("}]", n) + `,"usage":{"prompt_tokens":7}}`
		var j JSON
		j.Reset()
		j.Feed([]byte(in))
		if u, _ := j.Usage(); u.Input != 7 || j.Cut() {
			t.Errorf("depth %d: %+v", n, u)
		}
	}
}
