package peek

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"
)

// says is what Parse found, in one line.
func says(r *Request) string {
	var s []string
	if r.HasModel {
		s = append(s, "model="+strconv.Quote(string(r.Model)))
	}
	if r.HasStream {
		s = append(s, "stream="+strconv.FormatBool(r.Stream))
	}
	if r.HasStreamOptions {
		o := "options"
		if r.StreamOptionsNull {
			o += "=null"
		}
		s = append(s, o)
	}
	if r.IncludeUsage {
		s = append(s, "usage")
	}
	if r.AsksUsage() {
		s = append(s, "asks")
	}
	if r.MaxTokens != -1 {
		s = append(s, "max="+strconv.FormatInt(r.MaxTokens, 10))
	}
	if r.PreviousResponseID != nil {
		s = append(s, "previous="+string(r.PreviousResponseID))
	}
	return strings.Join(s, " ")
}

func TestParseReadsTheTopLevel(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"nothing", `{}`, ``},
		{"nothing, with space", " \t\r\n{ \n} \r\n", ``},
		{"model", `{"model":"gpt-4o"}`, `model="gpt-4o"`},
		{"model among others", `{"a":[1,{"model":"x"}],"model":"m","b":{"model":"y","stream":true}}`, `model="m"`},
		{"model with slash", `{"model":"Qwen/Qwen2.5"}`, `model="Qwen/Qwen2.5"`},
		{"model as PHP writes it", `{"model":"Qwen\/Qwen2.5"}`, `model="Qwen/Qwen2.5"`},
		{"model in escapes", `{"model":"\u0067pt-\"4\\o\u00e9\ud83d\ude00"}`, `model="gpt-\"4\\oé😀"`},
		{"model in short escapes", `{"model":"a\/\\\"","x":1}`, `model="a/\\\""`},
		{"model in UTF-8", `{"model":"模型😀"}`, `model="模型😀"`},
		{"model written as U+FFFD", `{"model":"\ufffd�"}`, `model="��"`},
		{"model empty", `{"model":""}`, `model=""`},
		{"model null", `{"model":null}`, ``},
		{"key in escapes", `{"mod\u0065l":"m","\u0073\u0074\u0072\u0065\u0061\u006d":true}`, `model="m" stream=true asks`},
		{"stream true", `{"stream":true}`, `stream=true asks`},
		{"stream false", `{"stream":false}`, `stream=false`},
		{"stream null", `{"stream":null}`, ``},
		{"options null", `{"stream":true,"stream_options":null}`, `stream=true options=null asks`},
		{"options empty", `{"stream":true,"stream_options":{}}`, `stream=true options asks`},
		{"usage true", `{"stream":true,"stream_options":{"include_usage":true}}`, `stream=true options usage`},
		{"usage true, first", `{"stream_options":{"include_usage":true,"x":1},"stream":true}`, `stream=true options usage`},
		{"usage true, last", `{"stream_options":{"x":1,"include_usage":true},"stream":true}`, `stream=true options usage`},
		{"usage true, key in escapes", `{"stream":true,"stream_options":{"include\u005fusage":true}}`, `stream=true options usage`},
		{"usage false", `{"stream":true,"stream_options":{"include_usage":false}}`, `stream=true options asks`},
		{"usage null", `{"stream":true,"stream_options":{"include_usage":null}}`, `stream=true options asks`},
		{"usage of a wrong type", `{"stream":true,"stream_options":{"include_usage":1}}`, `stream=true options`},
		{"usage in another object", `{"stream":true,"x":{"include_usage":true},"include_usage":true}`, `stream=true asks`},
		{"usage deeper in options", `{"stream":true,"stream_options":{"x":{"include_usage":true}}}`, `stream=true options asks`},
		{"options of a wrong type", `{"stream":true,"stream_options":[]}`, `stream=true options`},
		{"options without stream", `{"stream_options":{}}`, `options`},
		{"max_tokens", `{"max_tokens":100}`, `max=100`},
		{"max_tokens 0", `{"max_tokens":0}`, `max=0`},
		{"the largest of all", `{"max_tokens":5,"max_completion_tokens":70,"max_output_tokens":6}`, `max=70`},
		{"max_tokens null", `{"max_tokens":null}`, ``},
		{"max_tokens negative", `{"max_tokens":-5}`, ``},
		{"max_tokens as text", `{"max_tokens":"5"}`, ``},
		{"max_tokens with exponent", `{"max_tokens":1.5e3}`, `max=1500`},
		{"max_tokens in part", `{"max_tokens":1.2}`, `max=2`},
		{"max_tokens huge", `{"max_tokens":1e400}`, `max=9007199254740992`},
		{"max_tokens tiny", `{"max_tokens":1e-400}`, `max=0`},
		{"max_tokens hugely negative", `{"max_tokens":-1e400}`, ``},
		{"max_tokens long", `{"max_tokens":1` + strings.Repeat("0", 400) + `}`, `max=9007199254740992`},
		{"max_tokens long and negative", `{"max_tokens":-1` + strings.Repeat("0", 400) + `}`, ``},
		{"previous_response_id", `{"previous_response_id":"resp_1"}`, `previous=resp_1`},
		{"previous_response_id in escapes", `{"previous_response_id":"resp\/\u0031"}`, `previous=resp/1`},
		{"previous_response_id null", `{"previous_response_id":null}`, ``},
		{"previous_response_id of a wrong type", `{"previous_response_id":7}`, ``},
		{"previous_response_id too long", `{"previous_response_id":"` + strings.Repeat("x", 1025) + `"}`, ``},
		{"other keys twice", `{"a":1,"a":2,"A":3}`, ``},
		{"other keys twice in options", `{"stream_options":{"a":1,"a":2}}`, `options`},
		{"keys that only look alike", `{"models":1,"mode":2,"model ":3,"model\u0000":4,"strеam":5,"max-tokens":6,"":7}`, ``},
		{"a key with invalid UTF-8", "{\"mod\xffel\":1,\"\xff\":2}", ``},
		{"text with invalid UTF-8", "{\"a\":\"\xff\xc0\x80\"}", ``},
		{"half a surrogate in a text", `{"a":"\ud800"}`, ``},
		{"numbers", `{"a":[0,-0,1,-1,10,1.5,0.0,1e5,1E+5,1e-5,-1.25e+05]}`, ``},
		{"literals and space", "{ \"a\" : [ true , false , null , { } , [ ] ] }", ``},
		{"all escapes", `{"a":"\"\\\/\b\f\n\r\t\u00aF"}`, ``},
		{"DEL and line separators", "{\"a\":\"\x7f\u2028\u2029\"}", ``},
	}
	var r Request // reused: nothing of the last body may stay
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := r.Parse([]byte(tt.body)); err != nil {
				t.Fatalf("Parse(%s): %v", tt.body, err)
			}
			if got := says(&r); got != tt.want {
				t.Errorf("Parse(%s)\n got %s\nwant %s", tt.body, got, tt.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	tests := []struct {
		name, body, code string
		offset           int
		param            string
	}{
		{"an empty body", ``, CodeInvalidJSON, 0, ""},
		{"white space alone", " \n", CodeInvalidJSON, 2, ""},
		{"an array", ` [{"model":"m"}]`, CodeNotObject, 1, ""},
		{"a string", `"model"`, CodeNotObject, 0, ""},
		{"a number", `-1`, CodeNotObject, 0, ""},
		{"a literal", `null`, CodeNotObject, 0, ""},
		{"text", `model=gpt`, CodeInvalidJSON, 0, ""},
		{"a UTF-8 mark", "\xef\xbb\xbf{}", CodeBOM, 0, ""},
		{"a UTF-16 mark", "\xff\xfe{\x00}\x00", CodeBOM, 0, ""},
		{"a mark after space", " \xef\xbb\xbf{}", CodeInvalidJSON, 1, ""},
		{"UTF-16 without a mark", "{\x00}\x00", CodeInvalidJSON, 1, ""},
		{"a second document", `{"model":"a"} {"model":"b"}`, CodeTrailingData, 14, ""},
		{"a byte after the end", `{}}`, CodeTrailingData, 2, ""},
		{"a NUL after the end", "{}\x00", CodeTrailingData, 2, ""},
		{"a form feed as space", "{\f}", CodeInvalidJSON, 1, ""},
		{"a cut body", `{"a":[1,2`, CodeInvalidJSON, 9, ""},
		{"a cut string", `{"a":"xxxxxxxxxxxx`, CodeInvalidJSON, 18, ""},
		{"a cut escape", `{"a":"\`, CodeInvalidJSON, 7, ""},
		{"a cut \\u", `{"a":"\u12`, CodeInvalidJSON, 10, ""},
		{"a missing colon", `{"a" 1}`, CodeInvalidJSON, 5, ""},
		{"a missing value", `{"a":}`, CodeInvalidJSON, 5, ""},
		{"a missing comma", `{"a":1 "b":2}`, CodeInvalidJSON, 7, ""},
		{"a comma at the end", `{"a":1,}`, CodeInvalidJSON, 7, ""},
		{"a comma at the start", `{,"a":1}`, CodeInvalidJSON, 1, ""},
		{"a comma at an array's end", `{"a":[1,]}`, CodeInvalidJSON, 8, ""},
		{"a missing comma below", `{"a":{"b":1 "c":2}}`, CodeInvalidJSON, 12, ""},
		{"a key without quotes", `{a:1}`, CodeInvalidJSON, 1, ""},
		{"single quotes", `{'a':1}`, CodeInvalidJSON, 1, ""},
		{"the wrong bracket", `{"a":[1}}`, CodeInvalidJSON, 7, ""},
		{"the wrong brace", `{"a":{"b":1]}`, CodeInvalidJSON, 11, ""},
		{"a comment", `{/**/}`, CodeInvalidJSON, 1, ""},
		{"a bad escape", `{"a":"\x41"}`, CodeInvalidJSON, 7, ""},
		{"a bad hex digit", `{"a":"\u12g4"}`, CodeInvalidJSON, 10, ""},
		{"a raw line feed in a string", "{\"a\":\"12345678\n\"}", CodeInvalidJSON, 14, ""},
		{"a raw NUL in a key", "{\"a\x00\":1}", CodeInvalidJSON, 3, ""},
		{"a leading zero", `{"a":01}`, CodeInvalidJSON, 6, ""},
		{"a plus sign", `{"a":+1}`, CodeInvalidJSON, 5, ""},
		{"a bare point", `{"a":.5}`, CodeInvalidJSON, 5, ""},
		{"a point at the end", `{"a":5.}`, CodeInvalidJSON, 7, ""},
		{"a bare minus", `{"a":-}`, CodeInvalidJSON, 6, ""},
		{"a bare exponent", `{"a":1e}`, CodeInvalidJSON, 7, ""},
		{"NaN", `{"a":NaN}`, CodeInvalidJSON, 5, ""},
		{"a literal misspelt", `{"a":trux}`, CodeInvalidJSON, 8, ""},
		{"a literal run on", `{"a":truex}`, CodeInvalidJSON, 9, ""},
		{"a literal in capitals", `{"a":True}`, CodeInvalidJSON, 5, ""},
		{"513 levels", deep(512), CodeTooDeep, 5 + 511, ""},
		{"a million levels, never closed", strings.Repeat(`{"a":`, 1e6), CodeTooDeep, 512 * 5, ""},

		{"model twice", `{"model":"a","model":"a"}`, CodeDuplicateKey, 13, "model"},
		{"model twice, once in escapes", `{"model":"a","mod\u0065l":"b"}`, CodeDuplicateKey, 13, "model"},
		{"model twice, once null", `{"model":null,"model":"b"}`, CodeDuplicateKey, 14, "model"},
		{"stream twice", `{"stream":true,"stream":true}`, CodeDuplicateKey, 15, "stream"},
		{"stream_options twice", `{"stream_options":null,"stream_options":{}}`, CodeDuplicateKey, 23, "stream_options"},
		{"include_usage twice", `{"stream_options":{"include_usage":true,"include_usage":true}}`, CodeDuplicateKey, 40, "stream_options.include_usage"},
		{"max_tokens twice", `{"max_tokens":1,"max_tokens":2}`, CodeDuplicateKey, 16, "max_tokens"},
		{"max_completion_tokens twice", `{"max_completion_tokens":1,"max_completion_tokens":2}`, CodeDuplicateKey, 27, "max_completion_tokens"},
		{"max_output_tokens twice", `{"max_output_tokens":1,"max_output_tokens":2}`, CodeDuplicateKey, 23, "max_output_tokens"},
		{"previous_response_id twice", `{"previous_response_id":"a","previous_response_id":"b"}`, CodeDuplicateKey, 28, "previous_response_id"},

		{"Model", `{"Model":"a"}`, CodeAmbiguousKey, 1, "model"},
		{"MODEL beside model", `{"model":"a","MODEL":"b"}`, CodeAmbiguousKey, 13, "model"},
		{"Model in escapes", `{"\u004dodel":"a"}`, CodeAmbiguousKey, 1, "model"},
		{"STREAM", `{"STREAM":true}`, CodeAmbiguousKey, 1, "stream"},
		{"stream with a long s", `{"ſtream":true}`, CodeAmbiguousKey, 1, "stream"},
		{"stream with a long s in escapes", `{"\u017ftream":true}`, CodeAmbiguousKey, 1, "stream"},
		{"max_tokens with a Kelvin sign", "{\"max_to\u212aens\":1}", CodeAmbiguousKey, 1, "max_tokens"},
		{"stream_options with a dotless i", `{"stream_optıons":{}}`, CodeAmbiguousKey, 1, "stream_options"},
		{"Include_Usage", `{"stream_options":{"Include_Usage":true}}`, CodeAmbiguousKey, 19, "stream_options.include_usage"},

		{"stream as text", `{"stream":"true"}`, CodeBadType, 10, "stream"},
		{"stream as a number", `{"stream":1}`, CodeBadType, 10, "stream"},
		{"stream as an object", `{"stream":{}}`, CodeBadType, 10, "stream"},
		{"model as a number", `{"model":1}`, CodeBadType, 9, "model"},
		{"model as a list", `{"model":["m"]}`, CodeBadType, 9, "model"},
		{"model as true", `{"model":true}`, CodeBadType, 9, "model"},
		{"model too long", `{"model":"` + strings.Repeat("m", 257) + `"}`, CodeBadValue, 9, "model"},
		{"model too long in escapes", `{"model":"` + strings.Repeat(`\u0061`, 257) + `"}`, CodeBadValue, 9, "model"},
		{"model with half a surrogate", `{"model":"a\ud800b"}`, CodeBadValue, 9, "model"},
		{"model with swapped surrogates", `{"model":"\ude00\ud83d"}`, CodeBadValue, 9, "model"},
		{"model with invalid UTF-8", "{\"model\":\"a\xff\"}", CodeBadValue, 9, "model"},
		{"model with invalid UTF-8 and an escape", "{\"model\":\"\\u0061\xff\"}", CodeBadValue, 9, "model"},
		{"model with NUL", `{"model":"gpt\u0000x"}`, CodeBadValue, 9, "model"},
		{"model with a line feed", `{"model":"a\nb"}`, CodeBadValue, 9, "model"},
		{"model with control escapes", `{"model":"\b\f\r\t"}`, CodeBadValue, 9, "model"},
		{"model with DEL", "{\"model\":\"a\x7f\"}", CodeBadValue, 9, "model"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r Request
			err := r.Parse([]byte(tt.body))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("Parse = %v, want an *Error", err)
			}
			if e.Code != tt.code || e.Offset != tt.offset || e.Param != tt.param {
				t.Errorf("Parse = %s at %d, param %q; want %s at %d, param %q",
					e.Code, e.Offset, e.Param, tt.code, tt.offset, tt.param)
			}
			if want := tt.code + " at byte " + strconv.Itoa(tt.offset) + ": " + e.Message; err.Error() != want {
				t.Errorf("Error() = %q, want %q", err, want)
			}
			if !strings.HasSuffix(e.Message, ".") || len(e.Message) > 120 {
				t.Errorf("message is no short sentence: %q", e.Message)
			}
		})
	}
}

func TestMessagesNameWhatIsWrong(t *testing.T) {
	tests := []struct{ body, want string }{
		{``, "The request body is empty; a JSON object is expected."},
		{`{"a":`, "The request body ends before its JSON document does."},
		{`{"a":secret}`, "The request body is not valid JSON at byte 5."},
		{`[]`, "The request body must be a JSON object."},
		{`{"stream":"true"}`, "`stream` must be a boolean."},
		{`{"Model":"a"}`, "`model` must be written in lower case."},
		{`{"model":"a","model":"b"}`, "`model` must not be given twice."},
	}
	for _, tt := range tests {
		var e *Error
		if err := new(Request).Parse([]byte(tt.body)); !errors.As(err, &e) || e.Message != tt.want {
			t.Errorf("Parse(%s) = %v, want %q", tt.body, err, tt.want)
		}
	}
}

func TestParseTakes512Levels(t *testing.T) {
	for _, brackets := range [][2]string{{"[", "]"}, {`{"a":`, "}"}, {`[{"a":`, "}]"}} {
		n := (MaxDepth - 1) / (len(brackets[1]))
		inner := strings.Repeat(brackets[0], n) + "0" + strings.Repeat(brackets[1], n)
		var r Request
		if err := r.Parse([]byte(`{"model":"m","a":` + inner + `}`)); err != nil {
			t.Errorf("%d times %q: %v", n, brackets[0], err)
		}
	}
}

// What stops a string is found wherever it stands in a word, and whatever stands around it.
func TestStringsEndAtEveryOffset(t *testing.T) {
	for _, fill := range []byte{'a', ' ', '!', '#', '[', ']', 0x7f, 0x80, 0xa2, 0xdc, 0xff} {
		for n := range 40 {
			text := bytes.Repeat([]byte{fill}, n)
			for _, tail := range []struct {
				text string
				end  int
				ok   bool
			}{
				{`"`, n, true}, {`""""""""""`, n, true}, {`\n"........`, n + 2, true}, {`\""........`, n + 2, true},
				{"\x1f\x1f........", n, false}, {"\x00\"\"\".........", n, false}, {`\q"..........`, n + 1, false}, {``, n, false},
			} {
				b := append(append([]byte{}, text...), tail.text...)
				if end, ok := scanString(b, 0); end != tail.end || ok != tail.ok {
					t.Fatalf("scanString(%q) = %d, %t; want %d, %t", b, end, ok, tail.end, tail.ok)
				}
			}
		}
	}
}
