package auth

import (
	"testing"
)

func published(r *Record) *Record {
	r.publish()
	return r
}

func TestTenantIsTheKeysOwn(t *testing.T) {
	for _, test := range []struct {
		name    string
		tenants []string
		header  string
		want    string
		ok      bool
	}{
		{"none named: the first", []string{"acme", "beta"}, "", "acme", true},
		{"one of the key's", []string{"acme", "beta"}, "beta", "beta", true},
		{"another's", []string{"acme"}, "beta", "", false},
		{"case matters", []string{"acme"}, "Acme", "", false},
		{"a part of the key's", []string{"acme"}, "acm", "", false},
		{"the star is no name", []string{"acme"}, "*", "", false},
		{"no tenant given", nil, "", "default", true},
		{"no tenant given, another named", nil, "acme", "", false},
		{"any, none named", []string{"*"}, "", "default", true},
		{"any, one named", []string{"*"}, "Some.Tenant_1-a", "Some.Tenant_1-a", true},
		{"any, the star named", []string{"*"}, "*", "", false},
		{"any, ill-formed", []string{"*"}, "a b", "", false},
		{"any, line end", []string{"*"}, "a\r\nx: y", "", false},
		{"any, not ASCII", []string{"*"}, "é", "", false},
		{"any, 64 characters", []string{"*"}, name(64), name(64), true},
		{"any, 65 characters", []string{"*"}, name(65), "", false},
		{"any and one of its own, none named", []string{"*", "acme"}, "", "acme", true},
		{"one of its own and any, none named", []string{"acme", "*"}, "", "acme", true},
		{"one of its own and any, another named", []string{"acme", "*"}, "beta", "beta", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := published(&Record{Tenants: test.tenants}).Tenant([]byte(test.header))
			if string(got) != test.want || ok != test.ok {
				t.Errorf("Tenant(%q) of %q = %q, %v; want %q, %v", test.header, test.tenants, got, ok, test.want, test.ok)
			}
		})
	}
}

func TestTenantOfTheKeyOutlivesTheHeader(t *testing.T) {
	header := []byte("acme")
	got, _ := published(&Record{Tenants: []string{"beta", "acme"}}).Tenant(header)
	copy(header, "xxxx")
	if string(got) != "acme" {
		t.Errorf("the tenant became %q with the header's buffer", got)
	}
}

func TestRecordOutsideATableActsForNobody(t *testing.T) {
	if _, ok := (&Record{Tenants: []string{"acme"}}).Tenant(nil); ok {
		t.Error("an unpublished record gave a tenant")
	}
}

func name(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a'
	}
	return string(b)
}

func TestModelsAreMatchedByGlobs(t *testing.T) {
	for _, test := range []struct {
		models []string
		model  string
		want   bool
	}{
		{nil, "anything", true},
		{nil, "", true},
		{[]string{"gpt-4o"}, "gpt-4o", true},
		{[]string{"gpt-4o"}, "gpt-4o-mini", false},
		{[]string{"gpt-4o"}, "GPT-4o", false},
		{[]string{"gpt-4o"}, "", false},
		{[]string{"gpt-*"}, "gpt-", true},
		{[]string{"gpt-*"}, "xgpt-4", false},
		{[]string{"Qwen/*"}, "Qwen/Qwen2.5-7B-Instruct", true},
		{[]string{"*-mini"}, "gpt-4o-mini", true},
		{[]string{"*-mini"}, "gpt-4o-mini-2", false},
		{[]string{"a*b*c"}, "abbc", true},
		{[]string{"a*b*c"}, "acbbc", true},
		{[]string{"a*b*c"}, "acb", false},
		{[]string{"*"}, "", true},
		{[]string{"**"}, "x", true},
		{[]string{"a?"}, "ab", false},
		{[]string{"a", "b*"}, "bc", true},
		{[]string{"[ab]"}, "a", false},
	} {
		if got := published(&Record{Models: test.models}).AllowsModel([]byte(test.model)); got != test.want {
			t.Errorf("%q allows %q: %v, want %v", test.models, test.model, got, test.want)
		}
	}
}
