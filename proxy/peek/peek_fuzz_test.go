package peek

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse holds Parse against encoding/json: what one accepts the other does,
// but for the refusals that are ours, and those are there when they should be.
func FuzzParse(f *testing.F) {
	for _, body := range []string{
		`{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":false},"max_tokens":1e3}`,
		`{"mod\u0065l":"Qwen\/Qwen2.5 \ud83d\ude00","messages":[{"role":"user","content":"\"model\":\"x\""}]}`,
		`{"model":"a","Model":"b"}`, `{"model":"a","model":"b"}`, `{"ſtream":1}`, `{"stream":"true"}`,
		`{"stream_options":{"include_usage":true,"include_\u0055sage":1}}`,
		" {\t\"a\" : [0, -1.5e+3, null, {}, []]\r\n}\n", `{} {}`, "\xef\xbb\xbf{}", `[1]`, ``,
		`{"a":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`,
		"{\"model\":\"\xff\"}", `{"model":"\ud800"}`, `{"a":"12345678\u12`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var r Request
		err := r.Parse(body)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("Parse = %T, want *Error", err)
		}
		if e != nil && (e.Offset < 0 || e.Offset > len(body)) {
			t.Fatalf("offset %d of %d", e.Offset, len(body))
		}
		if !json.Valid(body) {
			if err == nil {
				t.Fatalf("accepted what encoding/json refuses")
			}
			return
		}
		if e != nil && e.Code == CodeInvalidJSON {
			t.Fatalf("refused what encoding/json accepts: %v", err)
		}
		if want := refusal(body); want != "" || e != nil {
			got := ""
			if e != nil {
				got = e.Code
			}
			if got == CodeTooDeep || got == CodeBadType || got == CodeBadValue {
				return // checked by the tables; what stands first is what is told
			}
			if got != want {
				t.Fatalf("code %q, want %q", got, want)
			}
			return
		}

		for _, deep := range []bool{false, true} { // ends, whatever the body
			OtherModels(body, deep, func([]byte) bool { return true })
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatal(err)
		}
		var model *string
		if err := json.Unmarshal(orNull(members["model"]), &model); err != nil || (model != nil) != r.HasModel {
			t.Fatalf("HasModel = %t, model %s", r.HasModel, members["model"])
		}
		if model != nil && *model != string(r.Model) {
			t.Fatalf("model %q, encoding/json says %q", r.Model, *model)
		}
		if r.Stream != (string(members["stream"]) == "true") {
			t.Fatalf("Stream = %t, stream %s", r.Stream, members["stream"])
		}
		var options map[string]json.RawMessage
		_ = json.Unmarshal(orNull(members["stream_options"]), &options) // another type: no usage
		if r.IncludeUsage != (string(options["include_usage"]) == "true") {
			t.Fatalf("IncludeUsage = %t, stream_options %s", r.IncludeUsage, members["stream_options"])
		}
		if _, has := members["stream_options"]; has != r.HasStreamOptions {
			t.Fatalf("HasStreamOptions = %t", r.HasStreamOptions)
		}
	})
}

func orNull(v json.RawMessage) json.RawMessage {
	if v == nil {
		return json.RawMessage("null")
	}
	return v
}

// refusal is the code that a valid document calls for by its keys, found by another
// reader: encoding/json's tokens. "" for none.
func refusal(body []byte) string {
	if bytes.TrimLeft(body, " \t\r\n")[0] != '{' {
		return CodeNotObject
	}
	d := json.NewDecoder(bytes.NewReader(body))
	_, _ = d.Token() // the brace
	return keyRefusal(d, "model", "stream", "stream_options", "max_tokens", "max_completion_tokens",
		"max_output_tokens", "previous_response_id")
}

// keyRefusal reads an object's members up to its end.
func keyRefusal(d *json.Decoder, names ...string) string {
	seen := map[string]bool{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "token: " + err.Error()
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return "decode: " + err.Error()
		}
		for _, name := range names {
			// Java's folds of i come on top of Unicode's simple ones.
			if !strings.EqualFold(strings.NewReplacer("İ", "i", "ı", "i").Replace(key.(string)), name) {
				continue
			}
			if key != name {
				return CodeAmbiguousKey
			}
			if seen[name] {
				return CodeDuplicateKey
			}
			seen[name] = true
			if name == "stream_options" && value[0] == '{' {
				below := json.NewDecoder(bytes.NewReader(value))
				_, _ = below.Token() // the brace
				if code := keyRefusal(below, "include_usage"); code != "" {
					return code
				}
			}
		}
	}
	return ""
}

// FuzzEdits checks that an edited body says the same but for what was asked, and
// that no byte outside the splices moved.
func FuzzEdits(f *testing.F) {
	for _, body := range []string{
		`{"model":"a","stream":true}`, ` { "stream" : true , "stream_options" : null , "model" : "\u0061" } `,
		`{"stream_options":{},"stream":true}`, `{"stream_options":{ "x":{"include_usage":false}, "include_usage" : false },"stream":true,"model":"m"}`,
		`{"stream":true,"stream_options":{"a":[1]}}`, `{"stream":true,"stream_options":3}`, `{"stream":false,"model":null}`,
		`{"stream":true,"stream_options":{"include_usage":[]}}`, `{"x":1,"x":2,"stream":true}`,
	} {
		f.Add([]byte(body), "provider/model", true)
	}
	f.Add([]byte(`{"model":"a","stream":true}`), "q\"\\\n\x00é", false)
	f.Fuzz(func(t *testing.T, body []byte, model string, usage bool) {
		var r Request
		if r.Parse(body) != nil || !utf8.ValidString(model) {
			t.Skip()
		}
		original := bytes.Clone(body)
		edits := r.Edits(nil, EditOptions{Model: []byte(model), IncludeUsage: usage, Scratch: make([]byte, 0, 4)})
		edited := AppendEdited(nil, body, edits)
		if !bytes.Equal(body, original) {
			t.Fatal("the body was changed")
		}
		if len(edits) > 2 || len(edited) != EditedLen(len(body), edits) {
			t.Fatalf("%d edits, %d bytes, EditedLen %d", len(edits), len(edited), EditedLen(len(body), edits))
		}
		checkSplices(t, body, edited, edits)

		// What the edited body must say: the original's value with the change made in it.
		var want, got map[string]any
		if err := json.Unmarshal(body, &want); err != nil {
			t.Skip() // a number beyond float64
		}
		if r.HasModel && model != "" {
			want["model"] = model
		}
		if usage && want["stream"] == true {
			switch options := want["stream_options"].(type) {
			case nil:
				want["stream_options"] = map[string]any{"include_usage": true}
			case map[string]any:
				if old, has := options["include_usage"]; !has || old == nil || old == false {
					options["include_usage"] = true
				}
			}
		}
		if err := json.Unmarshal(edited, &got); err != nil {
			t.Fatalf("edited body is not valid: %v\n%s", err, edited)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("edited\n%s\n%s", body, edited)
		}

		if r.HasModel && (len(model) > MaxModel || hasControl([]byte(model))) {
			return // a name that the operator may give and a client may not
		}
		var again Request
		if err := again.Parse(edited); err != nil {
			t.Fatalf("edited body is refused: %v\n%s", err, edited)
		}
		if usage && r.AsksUsage() && !again.IncludeUsage {
			t.Fatalf("usage is not asked for: %s", edited)
		}
	})
}

// checkSplices checks order and reach of the edits, and every byte that is not theirs.
func checkSplices(t *testing.T, body, edited []byte, edits []Edit) {
	at, out := 0, 0
	for _, e := range edits {
		if e.Off < at || e.Del < 0 || e.Off+e.Del > len(body) {
			t.Fatalf("edit out of order: %+v", edits)
		}
		keep := e.Off - at
		if !bytes.Equal(edited[out:out+keep], body[at:e.Off]) || !bytes.HasPrefix(edited[out+keep:], e.Ins) {
			t.Fatalf("bytes moved before %d", e.Off)
		}
		at, out = e.Off+e.Del, out+keep+len(e.Ins)
	}
	if !bytes.Equal(edited[out:], body[at:]) {
		t.Fatal("bytes moved after the last edit")
	}
}

// FuzzFormModel holds FormModel against mime/multipart: a model that is found is
// the one of the first part of that name; and against itself, however the bytes come.
func FuzzFormModel(f *testing.F) {
	f.Add([]byte(formPart(modelHeader, "whisper-1")+formPart(fileHeader, "RIFF")+"--b--\r\n"), "b", uint16(30))
	f.Add([]byte(formPart(fileHeader, "\r\n--\r\n--c")+formPart(modelHeader, "m")+"--b--"), "b", uint16(90))
	f.Add([]byte("preamble\r\n"+formPart("Content-Disposition: form-data;|\tName=model|X: y", "m")+"--b--"), "b", uint16(3))
	f.Add([]byte(formPart(`Content-Disposition: form-data; name="x"; filename="\"; name=\"model"`, "m")+"--b--"), "b", uint16(9))
	f.Add([]byte(formPart(modelHeader+"|Content-Transfer-Encoding: quoted-printable", "=6d")+"--b--"), "b", uint16(9))
	f.Fuzz(func(t *testing.T, body []byte, boundary string, cut uint16) {
		model, at, found, more := FormModel(body, []byte(boundary))
		if found && !bytes.Equal(body[at:at+len(model)], model) {
			t.Fatalf("%q does not stand at %d", model, at)
		}
		if found && more || found != (model != nil) || len(model) > MaxModel {
			t.Fatalf("FormModel = %q, %t, %t", model, found, more)
		}
		if n := int(cut); n < len(body) {
			early, _, earlyFound, earlyMore := FormModel(body[:n], []byte(boundary))
			switch {
			case earlyMore:
			case earlyFound != found, !bytes.Equal(early, model), !earlyFound && more:
				t.Fatalf("after %d bytes %q, %t, %t; in the end %q, %t, %t", n, early, earlyFound, earlyMore, model, found, more)
			}
		}
		if !found {
			return
		}
		watch, pieces := NewFormWatch([]byte(boundary)), NewFormWatch([]byte(boundary))
		one := watch.Feed(body[at+len(model):])
		for rest := body[at+len(model):]; len(rest) > 0; {
			n := min(len(rest), int(cut)%37+1)
			if got := pieces.Feed(rest[:n]); !got && one {
				t.Fatal("in pieces another model is found")
			}
			rest = rest[n:]
		}
		if pieces.state != watch.state {
			t.Fatalf("in pieces it ends in state %d, else in %d", pieces.state, watch.state)
		}
		form := multipart.NewReader(bytes.NewReader(body), boundary)
		seen := false
		for {
			part, err := form.NextPart()
			if seen && (err != nil || !one) {
				return
			}
			if err != nil {
				t.Fatalf("found %q, mime/multipart: %v", model, err)
			}
			if seen && part.FormName() == "model" {
				t.Fatal("there is another model")
			}
			if part.FormName() != "model" {
				continue
			}
			value, err := io.ReadAll(part)
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(value, model) {
				t.Fatalf("found %q, mime/multipart %q, %v", model, value, err)
			}
			seen = true
		}
	})
}

// FuzzBoundary holds Boundary against mime.ParseMediaType where both find one.
func FuzzBoundary(f *testing.F) {
	f.Add(`multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW`)
	f.Add(`Multipart/Form-Data ; charset="utf-8"; BOUNDARY="a b:c" ;`)
	f.Add(`multipart/form-data; boundary=a; boundary*=utf-8''b`)
	f.Add(`multipart/form-data; x="\""; boundary=----=_Part_5_1.2`)
	f.Fuzz(func(t *testing.T, value string) {
		got, ok := Boundary([]byte(value))
		if ok != (got != nil) || ok && (len(got) == 0 || len(got) > maxBoundary) {
			t.Fatalf("Boundary = %q, %t", got, ok)
		}
		kind, params, err := mime.ParseMediaType(value)
		if !ok || err != nil {
			return
		}
		if kind != "multipart/form-data" || params["boundary"] != string(got) {
			t.Fatalf("Boundary = %q, mime says %s %q", got, kind, params["boundary"])
		}
	})
}

// FuzzStripQuery checks that what is left is what was there, parameter by parameter.
func FuzzStripQuery(f *testing.F) {
	f.Add("a=1&key=s&b=%zz;c&&api_key=t")
	f.Add("k%65y=s&Key=t&key")
	f.Fuzz(func(t *testing.T, query string) {
		out, val := StripQuery(nil, []byte(query), "key", "api_key")
		var kept []string
		var first []byte
		for segment := range strings.SplitSeq(query, "&") {
			v, _, end, ok := QueryValue([]byte(segment), "key")
			if !ok {
				v, _, end, ok = QueryValue([]byte(segment), "api_key")
			}
			if !ok {
				kept = append(kept, segment)
			} else if end != len(segment) {
				t.Fatalf("QueryValue(%q) ends at %d", segment, end)
			} else if first == nil {
				first = v
			}
		}
		if want := strings.Join(kept, "&"); string(out) != want {
			t.Fatalf("StripQuery(%q) = %q, want %q", query, out, want)
		}
		if !bytes.Equal(val, first) || (val == nil) != (first == nil) {
			t.Fatalf("StripQuery(%q): value %q, want %q", query, val, first)
		}
		if again, v := StripQuery(nil, out, "key", "api_key"); v != nil || !bytes.Equal(again, out) {
			t.Fatalf("StripQuery(%q) left one in %q", query, out)
		}
	})
}
