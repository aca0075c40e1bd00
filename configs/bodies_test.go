package configs

import "testing"

func TestBodiesAreCapturedWhereTheyAreOnAndTheTenantMatches(t *testing.T) {
	for _, c := range []struct {
		bodies  string
		tenants []string
		tenant  string
		want    int
	}{
		{"off", nil, "acme", 0},
		{"off", []string{"acme"}, "acme", 0},
		{"errors", nil, "acme", 2048},
		{"all", nil, "", 2048},
		{"all", []string{"acme", "test-*"}, "test-7", 2048},
		{"all", []string{"acme", "test-*"}, "acme", 2048},
		{"all", []string{"acme", "test-*"}, "acme2", 0},
		{"all", []string{"acme"}, "", 0},
	} {
		l := RequestLog{Bodies: c.bodies, BodyMax: 2 * KiB, BodyTenants: c.tenants}
		if got := l.CapturesBody([]byte(c.tenant)); got != c.want {
			t.Errorf("%s, %q, tenant %q: %d, want %d", c.bodies, c.tenants, c.tenant, got, c.want)
		}
	}
	l := Default().RequestLog
	l.Bodies, l.BodyTenants = "all", []string{"a", "b*"}
	tenant := []byte("beta")
	if n := testing.AllocsPerRun(100, func() { l.CapturesBody(tenant) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
