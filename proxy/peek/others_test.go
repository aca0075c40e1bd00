package peek

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestOtherModelsAreFoundWhereverARequestMayNameThem(t *testing.T) {
	for _, c := range []struct {
		body string
		deep bool
		want []string
	}{
		{body: `{"model":"a","messages":[{"model":"text"}],"metadata":{"model":"x"}}`},
		{body: `{"model":"a","models":["b","c"]}`, want: []string{"b", "c"}},
		{body: ` {"models": "b" }`, want: []string{"b"}},
		{body: `{"fallbacks":[{"model":"b","max_tokens":1},"c", {"gpt":["x"]}],"model":"a"}`, want: []string{"b", "c"}},
		{body: `{"model":"a","tools":[{"type":"advisor","model":"b"},{"function":{"parameters":{"properties":{"model":{"type":"string"}}}}}]}`, want: []string{"b"}},
		{body: `{"mod\u0065ls":["b"],"Fallbacks":[{"MODEL":"c"}]}`, want: []string{"b", "c"}},
		{body: `{"models":["\u0062"]}`, want: []string{"b"}},
		{body: `{"models":[],"tools":[],"fallbacks":null}`},
		{body: `{"models":[ ],"tools":{"model":"x"}}`},
		{body: `{"model":"a","session":{"model":"b","x":[{"y":{"models":["c"]}}]}}`, deep: true, want: []string{"b", "c"}},
		{body: `{"requests":[{"params":{"model":"b"}},{"params":{"model":"c"}}]}`, deep: true, want: []string{"b", "c"}},
		{body: `{"requests":[{"params":{"model":"b"}}]}`},
		{body: `{"x":[{"models":["b",["c"],{"y":"text","model" : "d"},1],"z":["text"]},"models","model"]}`, deep: true, want: []string{"b", "c", "d"}},
		{body: `{"x":{"model":{"id":"text","model":"b"},"models":{"model":"c","q":["text"]},"models":"d"}}`, deep: true, want: []string{"b", "c", "d"}},
		{body: `{"x":"\":{\"model\":","y":{"model":null,"a":"text"},"z":[{"model":1},"text"]}`, deep: true},
	} {
		var got []string
		if !OtherModels([]byte(c.body), c.deep, func(model []byte) bool { got = append(got, string(model)); return true }) {
			t.Errorf("%s: not allowed", c.body)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.body, got, c.want)
		}
		if len(c.want) > 0 && OtherModels([]byte(c.body), c.deep, func(model []byte) bool { return string(model) != c.want[len(c.want)-1] }) {
			t.Errorf("%s: %s is allowed", c.body, c.want[len(c.want)-1])
		}
	}
	if OtherModels([]byte(`{"models":[["b"]]}`), false, func([]byte) bool { return true }) {
		t.Error("a list in a list is allowed")
	}
	if OtherModels([]byte(`{"models":["\ud800"]}`), false, func([]byte) bool { return true }) {
		t.Error("what is no text is allowed")
	}
}

// FuzzModelsBelow reads the same names as a walk over encoding/json's tokens.
func FuzzModelsBelow(f *testing.F) {
	for _, s := range []string{
		`{"model":"a"}`, `{"x":{"model":"a","models":["b",["c",{"d":"e"}],1,null]}}`, `["model","models",{"models":"x"}]`, `{"model":{"x":"y"},"z":["w"]}`,
		`{"models":[{"model":"a","x":"b"},"c",[]],"x":["d"]}`, `{"a\"":"model","model\u0073":["x"],"MODEL" : "y"}`, `{"model":1,"x":"y"}`, `[[[["a"]]],{"models":[[["b"]]]}]`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var r Request
		if r.Parse([]byte(`{"body":`+text+`}`)) != nil || !json.Valid([]byte(text)) {
			return
		}
		var want []string
		d := json.NewDecoder(strings.NewReader(text))
		var walk func(key string, names bool)
		walk = func(key string, names bool) {
			switch v, _ := d.Token(); v {
			case json.Delim('{'):
				for d.More() {
					k, _ := d.Token()
					walk(k.(string), false)
				}
				_, _ = d.Token()
			case json.Delim('['):
				for d.More() {
					walk("", names || strings.EqualFold(key, "models"))
				}
				_, _ = d.Token()
			default:
				if s, ok := v.(string); ok && (names || strings.EqualFold(key, "model") || strings.EqualFold(key, "models")) {
					want = append(want, s)
				}
			}
		}
		walk("", false)
		if slices.ContainsFunc(want, func(s string) bool { return len(s) > MaxModel || strings.ContainsRune(s, '\ufffd') }) {
			return // no name that could be allowed
		}
		var got []string
		w := modelWalk{[]byte(text), func(model []byte) bool { got = append(got, string(model)); return true }}
		if !w.below(span{0, len(text)}) || !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	})
}
