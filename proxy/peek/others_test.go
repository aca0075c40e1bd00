package peek

import (
	"slices"
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
	if OtherModels([]byte(`{"models":["\ud800"]}`), false, func([]byte) bool { return true }) {
		t.Error("what is no text is allowed")
	}
}
