package auth

import (
	"testing"
)

func TestTheHotPathAllocatesNothing(t *testing.T) {
	key, tenant, model := []byte(Generate()), []byte("beta"), []byte("gpt-4o-mini")
	unknown, other := []byte(Generate()), []byte("somebody")
	record := func(pepper []byte) *Record {
		return &Record{Digest: DigestOf(pepper, key), Tenants: []string{"acme", "beta", "*"}, Models: []string{"o1", "gpt-*-mini"}}
	}
	plain, pepper := NewStatic(record(nil)), []byte("0123456789abcdef")
	peppered := NewTable(pepper)
	peppered.Put(record(pepper))
	r, _ := plain.Lookup(key, 0)

	for _, test := range []struct {
		name string
		run  func() bool
	}{
		{"hit", func() bool { _, s := plain.Lookup(key, 0); return s == Found }},
		{"miss", func() bool { _, s := plain.Lookup(unknown, 0); return s == Unknown }},
		{"hit with pepper", func() bool { _, s := peppered.Lookup(key, 0); return s == Found }},
		{"own tenant", func() bool { _, ok := r.Tenant(tenant); return ok }},
		{"any tenant", func() bool { _, ok := r.Tenant(other); return ok }},
		{"model", func() bool { return r.AllowsModel(model) }},
		{"form", func() bool { _, ok := CheckForm(key); return ok }},
	} {
		if !test.run() {
			t.Errorf("%s: not the case that was meant", test.name)
		}
		if n := testing.AllocsPerRun(1000, func() { test.run() }); n != 0 {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
}
