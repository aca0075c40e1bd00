package peek

import "testing"

func TestEdits(t *testing.T) {
	tests := []struct{ name, body, model, want string }{
		{"no options", `{"model":"a","stream":true}`, ``, `{"stream_options":{"include_usage":true},"model":"a","stream":true}`},
		{"no options, space first", " { \"stream\":true}\n", ``, " {\"stream_options\":{\"include_usage\":true}, \"stream\":true}\n"},
		{"options null", `{"stream":true,"stream_options": null }`, ``, `{"stream":true,"stream_options": {"include_usage":true} }`},
		{"options empty", `{"stream_options":{},"stream":true}`, ``, `{"stream_options":{"include_usage":true},"stream":true}`},
		{"options empty with space", `{"stream_options":{ },"stream":true}`, ``, `{"stream_options":{"include_usage":true },"stream":true}`},
		{"options with others", `{"stream_options":{ "a":[{}]},"stream":true}`, ``, `{"stream_options":{"include_usage":true, "a":[{}]},"stream":true}`},
		{"usage false", `{"stream_options":{"a":1,"include_usage": false,"b":2},"stream":true}`, ``, `{"stream_options":{"a":1,"include_usage": true,"b":2},"stream":true}`},
		{"usage null", `{"stream_options":{"include_usage":null},"stream":true}`, ``, `{"stream_options":{"include_usage":true},"stream":true}`},
		{"usage true", `{"stream_options":{"include_usage":true},"stream":true}`, ``, `same`},
		{"usage true before others", `{"stream_options":{"include_usage":true,"a":1},"stream":true}`, ``, `same`},
		{"usage of a wrong type", `{"stream_options":{"include_usage":"yes","a":1},"stream":true}`, ``, `same`},
		{"usage of a wrong type, last", `{"stream_options":{"a":1,"include_usage":{}},"stream":true}`, ``, `same`},
		{"options of a wrong type", `{"stream_options":"x","stream":true}`, ``, `same`},
		{"stream false", `{"stream":false,"stream_options":null}`, ``, `same`},
		{"stream null", `{"stream":null}`, ``, `same`},
		{"no stream", `{"model":"a"}`, ``, `same`},
		{"model", `{"model":"a","x":"a"}`, `gpt-4o`, `{"model":"gpt-4o","x":"a"}`},
		{"model by the same name", `{"model":"a"}`, `a`, `same`},
		{"model by the same name in escapes", `{"model":"\u0061"}`, `a`, `same`},
		{"model that was empty", `{"model": "" }`, `m`, `{"model": "m" }`},
		{"model in escapes", `{"model":"a\/\u0062"}`, `x/y`, `{"model":"x/y"}`},
		{"model to be escaped", `{"model":"a"}`, "q\"b\\n\n\x01é", `{"model":"q\"b\\n\u000a\u0001é"}`},
		{"model absent", `{"x":1}`, `m`, `same`},
		{"model null", `{"model":null}`, `m`, `same`},
		{"both, model first", `{"model":"a","stream":true,"stream_options":null}`, `m`, `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`},
		{"both, model last", `{"stream":true,"stream_options":{"include_usage":false},"model":"a"}`, `m`, `{"stream":true,"stream_options":{"include_usage":true},"model":"m"}`},
		{"both, options added", `{"model":"a","stream":true}`, `m`, `{"stream_options":{"include_usage":true},"model":"m","stream":true}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r Request
			if err := r.Parse([]byte(tt.body)); err != nil {
				t.Fatal(err)
			}
			edits := r.Edits(nil, EditOptions{Model: []byte(tt.model), IncludeUsage: true})
			got := string(AppendEdited(nil, []byte(tt.body), edits))
			if tt.want == "same" {
				tt.want = tt.body
				if len(edits) != 0 {
					t.Errorf("%d edits, want none", len(edits))
				}
			}
			if got != tt.want {
				t.Errorf("edited\n got %s\nwant %s", got, tt.want)
			}
			if n := EditedLen(len(tt.body), edits); n != len(got) {
				t.Errorf("EditedLen = %d, want %d", n, len(got))
			}
		})
	}
}

func TestEditsAppend(t *testing.T) {
	var r Request
	if err := r.Parse([]byte(`{"model":"a","stream":true}`)); err != nil {
		t.Fatal(err)
	}
	before := Edit{Off: 100, Del: 7}
	edits := r.Edits([]Edit{before}, EditOptions{Model: []byte("m"), IncludeUsage: true})
	if len(edits) != 3 || edits[0].Off != 100 || edits[1].Off != 1 || edits[2].Off != 10 {
		t.Errorf("Edits = %+v", edits)
	}
}

func TestEditsWithoutBeingAsked(t *testing.T) {
	var r Request
	if err := r.Parse([]byte(`{"model":"a","stream":true}`)); err != nil {
		t.Fatal(err)
	}
	if edits := r.Edits(nil, EditOptions{}); len(edits) != 0 {
		t.Errorf("Edits = %+v, want none", edits)
	}
}
