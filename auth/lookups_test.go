package auth

import (
	"sync"
	"testing"

	"streamrelay/auth/redistest"
)

func TestLookupsAreCountedByWhatTheyMeet(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	k := keeperAt(t, o)
	key, _ := makeKey(t, k, grant{name: "a"})
	off, _ := makeKey(t, k, grant{name: "off"})
	if _, _, err := switchKey(t.Context(), k, "off", true); err != nil {
		t.Fatal(err)
	}
	mistyped := Generate()
	mistyped = mistyped[:12] + map[bool]string{true: "A", false: "B"}[mistyped[12] == 'B'] + mistyped[13:] // its checksum is wrong
	relay := openRelay(t, o)
	for _, step := range []struct {
		key  string
		want Lookups
	}{
		{key, Lookups{Hit: 1}},
		{off, Lookups{Hit: 1}},
		{"", Lookups{Negative: 1}},
		{mistyped, Lookups{Negative: 1}},
		{"sk-nobody", Lookups{Miss: 1}},
		{"sk-nobody", Lookups{Negative: 1}},
	} {
		was := relay.Health().Lookups
		relay.ask(step.key)
		now := relay.Health().Lookups
		got := Lookups{now.Hit - was.Hit, now.Stale - was.Stale, now.Negative - was.Negative, now.Miss - was.Miss}
		if got != step.want {
			t.Errorf("%.12q: %+v, want %+v", step.key, got, step.want)
		}
	}
	server.Kill()
	eventually(t, "Redis is missed", func() bool { return relay.Health().Phase == "away" })
	was := relay.Health().Lookups
	relay.ask(key)
	if now := relay.Health().Lookups; now.Stale != was.Stale+1 || now.Hit != was.Hit {
		t.Errorf("while Redis is away: %+v, was %+v", now, was)
	}
}

func TestNoLookupIsCountedTwiceOrNotAtAll(t *testing.T) {
	key := []byte(Generate())
	table := NewStatic(&Record{Digest: DigestOf(nil, key)})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				table.LookupFrom(key, clientAddr, 0)
			}
			table.LookupFrom([]byte("sk-nobody"), clientAddr, 0)
		})
	}
	all.Wait()
	if got := table.lookups.sum(); got != (Lookups{Hit: 8000, Miss: 8}) {
		t.Errorf("%+v", got)
	}
}
