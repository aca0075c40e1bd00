package auth

import (
	"testing"
	"time"

	"streamrelay/auth/limits"

	"streamrelay/auth/redistest"
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
	r, _ := plain.lookup(key, 0)

	for _, test := range []struct {
		name string
		run  func() bool
	}{
		{"hit", func() bool { _, s := plain.lookup(key, 0); return s == Found }},
		{"miss", func() bool { _, s := plain.lookup(unknown, 0); return s == Unknown }},
		{"hit with pepper", func() bool { _, s := peppered.lookup(key, 0); return s == Found }},
		{"own tenant", func() bool { _, ok := r.Tenant(tenant); return ok }},
		{"any tenant", func() bool { _, ok := r.Tenant(other); return ok }},
		{"model", func() bool { return r.AllowsModel(model) }},
		{"hit from an address", func() bool { _, s := plain.LookupFrom(key, clientAddr, 0); return s == Found }},
		{"path", func() bool { return r.AllowsPath(model) }},
		{"ended", func() bool { return !r.Ended() }},
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

func TestAHitOfAStoreInRedisAllocatesNothing(t *testing.T) {
	o := redisConfig(redistest.Start(t).Addr())
	key, _ := makeKey(t, keeperAt(t, o), grant{tenants: []string{"acme"}})
	relay := openRelay(t, o)
	presented, now := []byte(key), time.Now().Unix()
	var g limits.Grant
	ask := limits.Ask{BodyBytes: 100, MaxTokens: -1}
	run := func() {
		r, status := relay.Table().LookupFrom(presented, clientAddr, now)
		tenant, _ := r.Tenant(nil)
		if _, ok := relay.Admit(&g, r, tenant, &ask); status != Found || !ok || r.Ended() {
			t.Fatal(status)
		}
		g.Settle(&limits.Outcome{Sent: true})
	}
	run()
	// The store's own goroutine beats now and then.
	if n := testing.AllocsPerRun(10_000, run); n > 0.5 {
		t.Errorf("%v allocations", n)
	}
}
