package peek

import "testing"

func TestStripQuery(t *testing.T) {
	tests := []struct{ name, query, want, val string }{
		{"nothing", ``, ``, ``},
		{"none", `alt=sse&x=1`, `alt=sse&x=1`, ``},
		{"alone", `key=s`, ``, `s`},
		{"first", `key=s&alt=sse`, `alt=sse`, `s`},
		{"in the middle", `a=1&key=s&b=2`, `a=1&b=2`, `s`},
		{"last", `a=1&key=s`, `a=1`, `s`},
		{"the other name", `a=1&api_key=s`, `a=1`, `s`},
		{"both, the first counts", `api_key=s&a=1&key=t`, `a=1`, `s`},
		{"twice", `key=s&key=t`, ``, `s`},
		{"the rest as it came", `b=%zz&a=1;c=2&key=s&&+=%20%&a`, `b=%zz&a=1;c=2&&+=%20%&a`, `s`},
		{"value as written", `key=a%2Fb%3d=+c`, ``, `a%2Fb%3d=+c`},
		{"empty value", `key=&a`, `a`, ``},
		{"name in escapes", `k%65y=s&a`, `a`, `s`},
		{"name in other case", `Key=s`, `Key=s`, ``},
		{"longer names", `keys=s&akey=t&key2=u`, `keys=s&akey=t&key2=u`, ``},
		{"no value", `key&a`, `key&a`, ``},
		{"after a semicolon", `a=1;key=s`, `a=1;key=s`, ``},
		{"as a value", `a=key=s`, `a=key=s`, ``},
		{"ampersands", `&&`, `&&`, ``},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, val := StripQuery([]byte("/p?"), []byte(tt.query), "key", "api_key")
			if string(out) != "/p?"+tt.want || string(val) != tt.val {
				t.Errorf("StripQuery(%q) = %q, %q; want %q, %q", tt.query, out, val, "/p?"+tt.want, tt.val)
			}
		})
	}
}

func TestQueryValue(t *testing.T) {
	tests := []struct {
		query, val string
		start, end int
		ok         bool
	}{
		{`a=1&key=s&b`, `s`, 4, 9, true},
		{`key=`, ``, 0, 4, true},
		{`key=s&key=t`, `s`, 0, 5, true},
		{`%6bey=s`, `s`, 0, 7, true},
		{`a=1`, ``, 0, 0, false},
		{``, ``, 0, 0, false},
	}
	for _, tt := range tests {
		val, start, end, ok := QueryValue([]byte(tt.query), "key")
		if string(val) != tt.val || start != tt.start || end != tt.end || ok != tt.ok {
			t.Errorf("QueryValue(%q) = %q, %d, %d, %t", tt.query, val, start, end, ok)
		}
	}
}

func TestQueryAgrees(t *testing.T) {
	tests := []struct {
		query string
		want  bool
	}{
		{``, true}, {`key=a`, true}, {`key=a&api_key=a`, true}, {`key=a&x=b&key=a`, true},
		{`key=a&key=b`, false}, {`key=a&api_key=b`, false}, {`key=&key=b`, false},
	}
	for _, tt := range tests {
		if got := QueryAgrees([]byte(tt.query), "key", "api_key"); got != tt.want {
			t.Errorf("QueryAgrees(%q) = %t, want %t", tt.query, got, tt.want)
		}
	}
}

func TestAppendUnescaped(t *testing.T) {
	for val, want := range map[string]string{
		``: ``, `sk-relay-x`: `sk-relay-x`, `a%2Fb%3d+c`: `a/b=+c`, `%`: `%`, `a%2`: `a%2`, `%zz`: `%zz`, `%25`: `%`, `%2b`: `+`,
	} {
		if got := AppendUnescaped(nil, []byte(val)); string(got) != want {
			t.Errorf("AppendUnescaped(%q) = %q, want %q", val, got, want)
		}
	}
}
