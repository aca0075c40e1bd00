package auth

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"streamrelay/auth/limits"
)

func FuzzDecodeRecord(f *testing.F) {
	full := grant{name: "a", tenants: []string{"acme", "*"}, models: []string{"gpt-*"}, paths: []string{"/v1/*"}, limits: allLimits, expires: time.Unix(2e9, 0), metadata: map[string]string{"a": "b"}}.
		record("key", nil, time.Unix(1.7e9, 0))
	f.Add(encodeRecord(full))
	f.Add(encodeRecord(grant{}.record("key", nil, time.Unix(0, 0))))
	f.Add([]byte(`{"id":"a","digest":"` + subjectOfDigest(&full.Digest) + `","revoked":"2026-01-01T00:00:00+02:00","version":-1}`))
	f.Add([]byte(`{"id":"a","name":null,"digest":"","limits":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRecord(data)
		if err != nil {
			return
		}
		if err := r.check(); err != nil {
			t.Fatalf("accepted: %v", err)
		}
		again, err := decodeRecord(encodeRecord(r))
		if err != nil || string(encodeRecord(again)) != string(encodeRecord(r)) {
			t.Fatalf("%s became %v, %v", encodeRecord(r), again, err)
		}
		table := NewStatic(r) // whatever was accepted can be used
		if _, status := table.LookupDigest(&r.Digest, 0); status == Unknown {
			t.Fatal("not found")
		}
	})
}

func FuzzDecodeTenant(f *testing.F) {
	f.Add(encodeTenant(&Tenant{Name: "acme", Limits: allLimits, Version: 7}))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := decodeTenant(data)
		if err != nil {
			return
		}
		if again, err := decodeTenant(encodeTenant(x)); err != nil || *again != *x {
			t.Fatalf("%+v became %+v, %v", x, again, err)
		}
	})
}

func FuzzReadState(f *testing.F) {
	st := &state{At: time.Unix(1.7e9, 0).UTC(), Proof: time.Unix(1.7e9, 0).UTC(), Marker: "m", Seq: 3, Pepper: "none", Spent: []limits.Spent{{Scope: "key:a", Day: 20261124, DaySpent: 5}},
		Tenants: []*Tenant{{Name: "acme", Limits: allLimits}}, Records: []*Record{grant{name: "a"}.record("key", nil, time.Unix(1.7e9, 0))}}
	var whole bytes.Buffer
	if err := st.encode(&whole); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add([]byte("{\"relay_keys_state\":1,\"records\":-1,\"tenants\":1000000}\nend\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		st, err := decodeState(bytes.NewReader(data))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := st.encode(&out); err != nil {
			t.Fatal(err)
		}
		again, err := decodeState(&out)
		if err != nil || len(again.Records) != len(st.Records) || !reflect.DeepEqual(again.Spent, st.Spent) || again.Marker != st.Marker {
			t.Fatalf("%+v became %+v, %v", st, again, err)
		}
	})
}
