package limits

import (
	"encoding/json"
	"testing"
)

func FuzzLimitsJSON(f *testing.F) {
	f.Add(`{"requests_per_minute":60,"tokens_per_minute":1000,"concurrent":2,"budget_day":12.5,"budget_month":100,"burst":"1s"}`)
	f.Add(`{"budget_day":null}`)
	f.Add(`{"burst":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		var l Limits
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			return
		}
		if err := l.Check(); err != nil {
			t.Fatalf("accepted %+v: %v", l, err)
		}
		data, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		var again Limits
		if err := json.Unmarshal(data, &again); err != nil || again != l {
			t.Fatalf("%s became %+v, %v; was %+v", data, again, err, l)
		}
	})
}

func TestLimitsJSONIsStrict(t *testing.T) {
	for _, text := range []string{`{"rpm":1}`, `{"requests_per_minute":-1}`, `{"requests_per_minute":1.5}`, `{"burst":"2m"}`, `{"burst":"1ms"}`, `[]`, `{"budget_day":"x"}`, `{"concurrent":1e3}`} {
		var l Limits
		if err := json.Unmarshal([]byte(text), &l); err == nil {
			t.Errorf("%s is %+v", text, l)
		}
	}
}
