package peek

import (
	"strings"
	"testing"
)

func TestNothingAllocates(t *testing.T) {
	body := chatBody(1 << 10)
	escaped := []byte(strings.Replace(string(body), `"gpt-4o-mini"`, `"Qwen\/Qwen2.5-7B\u002dInstruct"`, 1))
	options := []byte(`{"stream":true,"model":"m","stream_options":{"x":1},"max_tokens":1000.5,"previous_response_id":"resp_1"}`)
	form := []byte("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b--")
	contentType := []byte(`multipart/form-data; charset=utf-8; boundary="x"`)
	query := []byte("alt=sse&key=secret&x=%zz")
	var r Request
	array := make([]Edit, 0, 2)
	out := make([]byte, 0, 4<<10)
	scratch := make([]byte, 0, MaxModel)
	plain, quoted := []byte("provider/model"), []byte(`a "quoted" name`)

	tests := []struct {
		name string
		run  func()
	}{
		{"Parse", func() { _ = r.Parse(body) }},
		{"Parse, model in escapes", func() { _ = r.Parse(escaped) }},
		{"Parse and edit", func() {
			if err := r.Parse(options); err != nil {
				t.Fatal(err)
			}
			edits := r.Edits(array, EditOptions{Model: plain, IncludeUsage: true})
			out = AppendEdited(out[:0], options, edits)
		}},
		{"Edits, name to be escaped", func() { r.Edits(array, EditOptions{Model: quoted, Scratch: scratch}) }},
		{"FormModel", func() {
			if _, _, found, _ := FormModel(form, []byte("b")); !found {
				t.Fatal("not found")
			}
		}},
		{"Boundary", func() { Boundary(contentType) }},
		{"QueryValue", func() { QueryValue(query, "key") }},
		{"StripQuery", func() { out, _ = StripQuery(out[:0], query, "key", "api_key") }},
		{"QueryAgrees", func() { QueryAgrees(query, "key", "api_key") }},
	}
	for _, tt := range tests {
		if n := testing.AllocsPerRun(100, tt.run); n != 0 {
			t.Errorf("%s: %v allocations, want 0", tt.name, n)
		}
	}
}
