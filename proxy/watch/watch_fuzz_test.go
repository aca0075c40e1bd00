package watch

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// seeds are event streams of every family and every trap of the grammar.
var seeds = []string{
	sse(role, chat(`{"content":"Hel"}`), stop, usageChunk, "[DONE]"),
	sse(`{"choices":[],"prompt_filter_results":[]}`, `{"choices":null,"usage":{}}`, `{"usage":{"prompt_tokens":1},"choices":[ ]}`),
	sse(`{"choices":[{"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":19,"total_tokens":40}}],"usage":{"total_tokens":41}}`),
	named(`{"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}`, `{"type":"content_block_delta","delta":{"text":"a"}}`, `{"type":"message_delta","delta":{},"usage":{"output_tokens":5,"iterations":[{"input_tokens":10,"output_tokens":5},{"input_tokens":1}]}}`, `{"type":"message_stop"}`),
	named(`{"type":"response.output_text.delta","sequence_number":5,"delta":"Hi"}`, `{"type":"response.completed","response":{"usage":{"input_tokens":1}}}`),
	sse(`{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":8,"thoughtsTokenCount":3}}`),
	stepped(`{"delta":{"content":{"text":"a"}},"event_type":"step.delta"}`, `{"interaction":{"usage":{"total_input_tokens":1,"total_output_tokens":2,"total_thought_tokens":3}},"event_type":"interaction.completed"}`),
	bomMark + ": c\r\n\r\ndata: {\"usage\":\rdata: {}}\r\r\nid: 1\n\ndata:[DONE]",
	"data: {\"choices\":[],\n: x\ndata: \"usage\":{\"prompt_tokens\":1.5}}\n\n\r\n",
	": a\ndata: {\"usage\":{}}\n\nevent: error\ndata: {\"usage\":{}}\n\n",
	`data: {"a":"\"usage\":{}","\u0075sage":{},"usage":{"b":[{"c":"]}\\"}]}}` + "\n\n",
}

// pieces cuts in as the bytes of cuts say.
func pieces(in, cuts []byte, feed func([]byte)) {
	for i := 0; len(in) > 0; i++ {
		n := len(in)
		if len(cuts) > 0 {
			n = min(n, int(cuts[i%len(cuts)])%64)
		}
		feed(bytes.Clone(in[:n])) // a copy: what is kept of a piece would show
		if in = in[n:]; len(cuts) == 0 || i > 1<<10 {
			cuts = nil
		}
	}
}

func addSeeds(f *testing.F) {
	for i, s := range seeds {
		f.Add([]byte(s), []byte{1}, uint8(i))
		f.Add([]byte(s), []byte{7, 0, 3, 40}, uint8(i))
	}
}

// FuzzStreamCuts: every cut of the bytes gives the same facts, without strip
// the same bytes, and as many events as the plainest reading of the grammar.
func FuzzStreamCuts(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, in, cuts []byte, family uint8) {
		fam := Family(family % 6)
		eof := family&8 == 0
		var whole, cut Stream
		run(&whole, fam, false, string(in), eof)
		cut.Reset(fam, false)
		var out []byte
		pieces(in, cuts, func(p []byte) {
			held, o := cut.Feed(p, 1)
			if held != nil {
				t.Fatal("held without strip")
			}
			out = append(out, o...)
		})
		cut.End(1, eof)
		if a, b := factsOf(&whole), factsOf(&cut); a != b {
			t.Fatalf("facts differ\nwhole %+v\n  cut %+v", a, b)
		}
		if !bytes.Equal(out, in) {
			t.Fatalf("bytes changed: %q", out)
		}
		if !eof {
			if got, want := whole.Events(), int64(len(events(string(in)))); got != want {
				t.Fatalf("%d events, want %d", got, want)
			}
		}
	})
}

// FuzzStrip: every cut gives the same bytes, and where the JSON leaves no doubt
// they are those of the input without the usage events.
func FuzzStrip(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, in, cuts []byte, mode uint8) {
		eof := mode&1 == 0
		var plain, whole, cut Stream
		run(&plain, Chat, false, string(in), eof)
		a := run(&whole, Chat, true, string(in), eof)
		cut.Reset(Chat, true)
		var out []byte
		pieces(in, cuts, func(p []byte) {
			held, o := cut.Feed(p, 1)
			out = append(append(out, held...), o...)
			if mode&2 != 0 {
				cut.Settle()
			}
		})
		out = append(out, cut.End(1, eof)...)
		cut.Release()
		if a != string(out) {
			t.Fatalf("cuts change the output\nwhole %q\n  cut %q", a, out)
		}
		x, y, z := factsOf(&plain), factsOf(&whole), factsOf(&cut)
		if x.mid = y.mid; x != y || y != z {
			t.Fatalf("facts differ\nplain %+v\nwhole %+v\n  cut %+v", x, y, z)
		}
		if want, sure := stripped(string(in)); sure && eof && want != string(out) {
			t.Fatalf("output\n got %q\nwant %q", out, want)
		}
	})
}

// An eventText is one event as the plainest reading of the grammar finds it.
type eventText struct {
	from, blank, after int // its first field, its empty line, what follows
	comments           bool
	data, name         string
}

// events splits a stream into its events with data.
func events(in string) (list []eventText) {
	i := 0
	if strings.HasPrefix(in, bomMark) {
		i = len(bomMark)
	}
	var e eventText
	var data []string
	open := false
	for {
		n := strings.IndexAny(in[i:], "\r\n")
		if n < 0 {
			return list
		}
		line, start := in[i:i+n], i
		i += n + 1
		if in[i-1] == '\r' && i < len(in) && in[i] == '\n' {
			i++
		}
		if line == "" {
			if e.blank, e.after = start, i; data != nil {
				e.data = strings.Join(data, "\n")
				list = append(list, e)
			}
			e, data, open = eventText{}, nil, false
			continue
		}
		if line[0] == ':' {
			e.comments = e.comments || !open
			continue
		}
		if !open {
			open, e.from = true, start
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "data":
			data = append(data, value)
		case "event":
			e.name = value
		}
	}
}

// stripped removes the usage events; sure is false where the JSON is such that
// readings differ, and where the last event has no empty line.
func stripped(in string) (out string, sure bool) {
	if half := strings.TrimPrefix(in, bomMark); len(half) == len(in) && strings.HasPrefix(in, bomMark[:1]) {
		return "", false
	}
	last := 0
	for _, e := range events(in) {
		var d map[string]json.RawMessage
		if json.Unmarshal([]byte(e.data), &d) != nil {
			if strings.Contains(e.data, "usage") {
				return "", false
			}
			continue
		}
		for _, key := range []string{`"usage"`, `"choices"`, `"error"`, `"object"`, `"type"`} {
			if strings.Count(e.data, key) > 1 {
				return "", false // named twice: the last wins there, any decides here
			}
		}
		if strings.Contains(e.data, `\`) || len(e.data) > maxHold-100 {
			return "", false
		}
		usage, choices := string(d["usage"]), strings.Join(strings.Fields(string(d["choices"])), "")
		failed := e.name == "error" || string(d["object"]) == `"error"`
		switch v := string(d["error"]); {
		case v == "", v == "null", v == "false", v == `""`, v[0] == '0', v[0] == '-':
			failed = failed || strings.HasPrefix(v, "-")
		default:
			failed = true
		}
		if !strings.HasPrefix(usage, "{") || failed || choices != "" && choices != "null" && choices != "[]" {
			continue
		}
		out += in[last:e.from]
		if last = e.after; e.comments {
			last = e.blank
		}
	}
	rest := in[last:]
	if i := strings.LastIndexAny(rest, "{"); i >= 0 && strings.Contains(rest, "usage") {
		if n := len(events(rest + "\n\n")); n != len(events(rest)) {
			return "", false
		}
	}
	return out + rest, true
}

// FuzzJSON: every cut gives the same, and where the JSON leaves no doubt it is
// what encoding/json finds.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":9,"completion_tokens":12,"completion_tokens_details":{"reasoning_tokens":2}}}`,
		`[{"usageMetadata":{"promptTokenCount":1}},` + "\r\n" + `{"usageMetadata":{"promptTokenCount":2,"candidatesTokenCount":2}}]`,
		`{"usage":{"input_tokens":1}}` + "\n" + `{"usage":{"input_tokens":2,"output_tokens":1e3}}`,
		"\n\n \t" + `{"meta":{"tokens":{"input_tokens":1,"output_tokens":0}},"a":["]",{"b":"\"}"}],"c":-1.5e+7,"d":true}`,
		`{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":9,"completion_tokens_details":{"reasoning_tokens":2}}}`,
		`{"usage":{"prompt_tokens":`, "[[[{]", `"x"`, "-1",
	} {
		f.Add([]byte(s), []byte{1})
		f.Add([]byte(s), []byte{5, 0, 17})
	}
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		var whole, cut JSON
		whole.Reset()
		whole.Feed(in)
		cut.Reset()
		pieces(in, cuts, cut.Feed)
		a, ak := whole.Usage()
		b, bk := cut.Usage()
		if a != b || ak != bk || whole.Cut() != cut.Cut() || whole.Failed() != cut.Failed() || whole.Incomplete() != cut.Incomplete() {
			t.Fatalf("whole %+v %v %v\n  cut %+v %v %v", a, ak, whole.Cut(), b, bk, cut.Cut())
		}
		in = bytes.TrimPrefix(in, []byte(bomMark))
		if !json.Valid(in) || bytes.IndexByte(in, '\\') >= 0 {
			return
		}
		if whole.Cut() {
			t.Fatal("a whole document is said to be cut")
		}
		var doc, usage map[string]json.RawMessage // maps mind case, as we do
		if json.Unmarshal(in, &doc) != nil || json.Unmarshal(doc["usage"], &usage) != nil || usage == nil ||
			!once(in, `"usage"`, `"prompt_tokens"`, `"completion_tokens"`) {
			return
		}
		for _, other := range []string{"input_tokens", "output_tokens", "usageMetadata", "meta", "tokens\"", "message", "response", "x_groq", "total_tokens"} {
			if bytes.Contains(in, []byte(other)) {
				return
			}
		}
		if got, want := a.Input, count(usage["prompt_tokens"]); got != want {
			t.Fatalf("input %d, want %d", got, want)
		}
		if got, want := a.Output, count(usage["completion_tokens"]); got != want {
			t.Fatalf("output %d, want %d", got, want)
		}
	})
}

// once reports whether each name is in the text at most once.
func once(in []byte, names ...string) bool {
	for _, n := range names {
		if bytes.Count(in, []byte(n)) > 1 {
			return false
		}
	}
	return true
}

// count is the value of a number that is a count, else -1.
func count(raw json.RawMessage) int64 {
	var v int64
	if len(raw) == 0 || raw[0] == 'n' || raw[0] == '-' || json.Unmarshal(raw, &v) != nil || v > maxCount {
		return -1
	}
	return v
}
