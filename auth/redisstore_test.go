package auth

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"streamrelay/auth/limits"

	"streamrelay/auth/redistest"
)

var clientAddr = netip.MustParseAddr("192.0.2.1")

func TestRelaysFollowKeysInRedis(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	k := keeperAt(t, o)
	early, _ := makeKey(t, k, grant{name: "early", tenants: []string{"acme"}, models: []string{"gpt-*"}, paths: []string{"/v1/chat/*"}})
	a, b := openRelay(t, o), openRelay(t, o)
	late, lateRecord := makeKey(t, k, grant{name: "late"})
	for _, r := range []*relayOf{a, b} {
		if got := r.ask(early); got != Found {
			t.Fatalf("a key of before: %v", got)
		}
		if got := r.ask(late); got != Found { // asked for, or told of
			t.Fatalf("a key of a moment ago: %v", got)
		}
		if h := r.Health(); !h.Ready || !h.Tracking || h.Phase != "ready" {
			t.Errorf("health: %+v", h)
		}
	}
	r, _ := a.Table().LookupFrom([]byte(early), clientAddr, time.Now().Unix())
	if r.Name != "early" || !r.AllowsModel([]byte("gpt-4o")) || r.AllowsModel([]byte("o1")) || !r.AllowsPath([]byte("/v1/chat/completions")) || r.AllowsPath([]byte("/v1/models")) {
		t.Errorf("record: %+v", r)
	}
	ended := make(chan struct{}, 8)
	a.OnEnd(func() { ended <- struct{}{} })
	if _, _, _, err := revokeKey(t.Context(), k, "early", time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, relay := range []*relayOf{a, b} {
		eventually(t, "the revoked key is refused", func() bool { return relay.ask(early) == Revoked })
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("nobody was told that a key ended")
	}
	if !r.Ended() {
		t.Error("the record that a stream holds does not say that its key was revoked")
	}
	if _, _, err := switchKey(t.Context(), k, lateRecord.ID, true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the disabled key is refused", func() bool { return b.ask(late) == Disabled })
	if _, _, err := switchKey(t.Context(), k, "late", false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the enabled key is accepted", func() bool { return b.ask(late) == Found })
	if _, _, err := switchKey(t.Context(), k, "early", false); err == nil {
		t.Error("a revoked key was enabled")
	}
	// By hand: the record is gone, the store is not.
	server.Do("DEL", namesFor("relay:").records+subjectOfDigest(&lateRecord.Digest))
	eventually(t, "a key that was taken out is refused", func() bool { return a.ask(late) == Unknown })
}

func TestNamesAndKeysAreUniqueInRedis(t *testing.T) {
	server := redistest.Start(t)
	k := keeperAt(t, redisConfig(server.Addr()))
	key, first := makeKey(t, k, grant{name: "first"})
	_, second := makeKey(t, k, grant{name: "second"})
	for name, try := range map[string]func() error{
		"a name that is taken": func() error { _, _, err := createKey(t.Context(), k, grant{name: "first"}, time.Now()); return err },
		"a name that is an id": func() error { _, _, err := createKey(t.Context(), k, grant{name: first.ID}, time.Now()); return err },
		"a key that is there": func() error {
			_, err := importKeys(t.Context(), k, []string{"other", key}, grant{}, time.Now())
			return err
		},
		"an id that is taken": func() error {
			r := grant{name: "third"}.record(Generate(), nil, time.Now())
			r.ID = first.ID
			return k.add(t.Context(), []*Record{r}, true)
		},
		"another's name": func() error {
			_, _, err := k.change(t.Context(), second.ID, func(r *Record) error { r.Name = "first"; return nil })
			return err
		},
	} {
		if err := try(); err == nil || strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if records, _, err := k.read(t.Context()); err != nil || len(records) != 2 {
		t.Errorf("%d records, %v: a refused batch left something", len(records), err)
	}
	if _, _, err := k.change(t.Context(), "second", func(r *Record) error { r.Name = "renamed"; return nil }); err != nil {
		t.Fatal(err)
	}
	makeKey(t, k, grant{name: "second"}) // the name is free again
	if r, err := k.get(t.Context(), "renamed"); err != nil || r.ID != second.ID {
		t.Errorf("%v, %v", r, err)
	}
}

func TestKnownKeysGoOnWhileRedisIsAway(t *testing.T) {
	for name, away := range map[string]struct {
		begin, end func(*redistest.Server, *blackhole)
	}{
		"killed":     {func(s *redistest.Server, b *blackhole) { s.Do("SAVE"); s.Kill() }, func(s *redistest.Server, b *blackhole) { s.Again() }},
		"frozen":     {func(s *redistest.Server, b *blackhole) { s.Signal(syscall.SIGSTOP) }, func(s *redistest.Server, b *blackhole) { s.Signal(syscall.SIGCONT) }},
		"cut off":    {func(s *redistest.Server, b *blackhole) { b.hole.Store(true); b.cut() }, func(s *redistest.Server, b *blackhole) { b.hole.Store(false) }},
		"blackholed": {func(s *redistest.Server, b *blackhole) { b.hole.Store(true) }, func(s *redistest.Server, b *blackhole) { b.hole.Store(false); b.cut() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, "--save", "3600 1")
			hole := newBlackhole(t, server.Addr())
			k := keeperAt(t, redisConfig(server.Addr()))
			known, record := makeKey(t, k, grant{name: "known"})
			relay := openRelay(t, redisConfig(hole.addr()))
			if got := relay.ask(known); got != Found {
				t.Fatal(got)
			}
			away.begin(server, hole)
			eventually(t, "the relay notices", func() bool { return relay.Health().Phase == "away" })
			other := Generate()
			for range 100 {
				if got := relay.ask(known); got != Found {
					t.Fatalf("a known key while Redis is away: %v", got)
				}
				if got := relay.ask(other); got != Unavailable {
					t.Fatalf("an unknown key while Redis is away: %v", got)
				}
			}
			away.end(server, hole)
			if _, _, _, err := revokeKey(context.Background(), keeperAt(t, redisConfig(server.Addr())), record.ID, time.Now()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the relay is back and refuses the revoked key", func() bool {
				got := relay.ask(known)
				if got != Found && got != Revoked {
					t.Fatalf("the known key: %v", got)
				}
				return got == Revoked && relay.Health().Phase == "ready"
			})
			if got := relay.ask(other); got != Unknown {
				t.Errorf("an unknown key when Redis is back: %v", got)
			}
		})
	}
}

func TestStaleKeysAreUnavailableAfterStaleMax(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	o.Redis.StaleMax = 0
	key, _ := makeKey(t, keeperAt(t, o), grant{})
	relay := openRelay(t, o)
	if got := relay.ask(key); got != Found {
		t.Fatal(got)
	}
	server.Kill()
	eventually(t, "a known key is no longer believed", func() bool { return relay.ask(key) == Unavailable })
	if h := relay.Health(); h.Ready || h.Error == "" {
		t.Errorf("health: %+v", h)
	}
}

func TestARedisThatCameBackEmptyWipesNothing(t *testing.T) {
	for _, name := range []string{"restarted", "FLUSHALL", "FLUSHALL ASYNC"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			o := redisConfig(server.Addr())
			k := keeperAt(t, o)
			key, _ := makeKey(t, k, grant{name: "kept"})
			gone, _ := makeKey(t, k, grant{name: "revoked"})
			relay := openRelay(t, o)
			if _, _, _, err := revokeKey(t.Context(), k, "revoked", time.Now()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the revocation", func() bool { return relay.ask(gone) == Revoked })
			backup := exported(t, k)
			if name == "restarted" {
				server.Kill()
				server.Again()
			} else {
				server.Do(strings.Fields(name)...)
			}
			eventually(t, "the relay sees the loss", func() bool { return relay.Health().Phase == "lost" })
			if a, b, c := relay.ask(key), relay.ask(gone), relay.ask(Generate()); a != Found || b != Revoked || c != Unavailable {
				t.Errorf("known %v, revoked %v, unknown %v", a, b, c)
			}
			eventually(t, "it is said once", func() bool { return strings.Count(relay.log.String(), "came back without the keys") == 1 })
			// A new key is taken up, and does not make the others go away.
			k = keeperAt(t, o)
			fresh, freshRecord := makeKey(t, k, grant{name: "fresh"})
			eventually(t, "the new key", func() bool { return relay.ask(fresh) == Found })
			if got := relay.ask(key); got != Found {
				t.Errorf("the known key: %v", got)
			}
			if name == "FLUSHALL" { // it is meant
				if err := k.adopt(t.Context()); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the old key is gone", func() bool { return relay.ask(key) == Unknown && relay.Health().Phase == "ready" })
				if got := relay.ask(fresh); got != Found {
					t.Errorf("%s: %v", freshRecord.ID, got)
				}
				return
			}
			if _, err := importExport(t.Context(), k, strings.NewReader(backup), false); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the relay is at ease again", func() bool { return relay.Health().Phase == "ready" })
			if a, b, c := relay.ask(key), relay.ask(gone), relay.ask(Generate()); a != Found || b != Revoked || c != Unknown {
				t.Errorf("restored: known %v, revoked %v, unknown %v", a, b, c)
			}
		})
	}
}

// A server that was killed comes back with what it had saved last.
func TestARedisThatCameBackOlderIsSaid(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	k := keeperAt(t, o)
	old, _ := makeKey(t, k, grant{name: "old"})
	relay := openRelay(t, o)
	if err := server.Do("SAVE").Error(); err != nil {
		t.Fatal(err)
	}
	saved := relay.redis.seq.Load()
	young, _ := makeKey(t, k, grant{name: "young"})
	eventually(t, "the new key", func() bool { return relay.ask(young) == Found && relay.redis.seq.Load() > saved })
	server.Kill()
	server.Again()
	eventually(t, "the relay sees it", func() bool { return relay.ask(young) == Unknown })
	if got := relay.ask(old); got != Found {
		t.Errorf("the key that was saved: %v", got)
	}
	eventually(t, "it is said", func() bool {
		return relay.Health().Phase == "ready" && strings.Contains(relay.log.String(), "older state")
	})
	if log := relay.log.String(); strings.Count(log, "older state") != 1 || !strings.Contains(log, `"changes_lost":1,"keys_before":2,"keys":1`) {
		t.Errorf("%s", log)
	}
}

func exported(t *testing.T, k keeper) string {
	t.Helper()
	records, tenants, err := k.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := exportFile{Format: exportFormat, Pepper: pepperMark(k.pepper())}
	for _, r := range records {
		file.Keys = append(file.Keys, jsonOf(r))
	}
	for _, x := range tenants {
		file.Tenants = append(file.Tenants, tenantJSON{x.Name, x.Limits, x.Version})
	}
	return string(mustJSON(file))
}

func TestARestartDuringAnOutageGoesOn(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	o.Keys.StateFile = filepath.Join(t.TempDir(), "state", "keys.state")
	k := keeperAt(t, o)
	key, record := makeKey(t, k, grant{name: "known", limits: limits.Limits{Requests: 60}})
	if err := k.setTenant(t.Context(), "acme", &Tenant{Name: "acme", Limits: limits.Limits{Concurrent: 3}}); err != nil {
		t.Fatal(err)
	}
	first := openRelay(t, o)
	if got := first.ask(key); got != Found {
		t.Fatal(got)
	}
	first.Close()
	if info, err := os.Stat(o.Keys.StateFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	if data, err := os.ReadFile(o.Keys.StateFile); err != nil || strings.Contains(string(data), key) {
		t.Fatalf("the state file holds the key, or %v", err)
	}
	server.Kill()
	second := openRelay(t, o)
	if a, b := second.ask(key), second.ask(Generate()); a != Found || b != Unavailable {
		t.Errorf("known %v, unknown %v", a, b)
	}
	if second.tenants.account([]byte("acme")) == nil {
		t.Error("the tenant's limits are forgotten")
	}
	r, _ := second.Table().lookup([]byte(key), time.Now().Unix())
	if r == nil || r.ID != record.ID || r.Limits.Requests != 60 {
		t.Errorf("%+v", r)
	}
	second.Close()

	// One that is too old is not believed.
	st, err := readState(o.Keys.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	st.Proof = st.Proof.Add(-25 * time.Hour)
	if err := writeState(o.Keys.StateFile, st); err != nil {
		t.Fatal(err)
	}
	third := openRelay(t, o)
	if got := third.ask(key); got != Unavailable {
		t.Errorf("known 25 hours ago: %v", got)
	}
}

func TestABrokenStateFileIsNoState(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.state")
	r := grant{name: "x"}.record("k", nil, time.Now())
	whole := &state{At: time.Now().UTC(), Proof: time.Now().UTC(), Marker: "m", Seq: 7, Pepper: "none", Records: []*Record{r}, Tenants: []*Tenant{{Name: "a"}}}
	if err := writeState(path, whole); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := readState(path); err != nil || st.Seq != 7 || len(st.Records) != 1 || len(st.Tenants) != 1 || st.Records[0].ID != r.ID {
		t.Fatalf("%+v, %v", st, err)
	}
	for n := range data {
		write(t, path, string(data[:n]))
		if st, err := readState(path); err == nil {
			t.Fatalf("the first %d of %d bytes are taken for a state: %+v", n, len(data), st)
		}
	}
}

func TestAServerWithoutTrackingIsAsked(t *testing.T) {
	for name, args := range map[string][]string{
		"no CLIENT command": {"--rename-command", "CLIENT", ""},
		"RESP2 alone":       {"--rename-command", "HELLO", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, args...)
			o := redisConfig(server.Addr())
			k := keeperAt(t, o)
			key, _ := makeKey(t, k, grant{name: "a"})
			relay := openRelay(t, o)
			if h := relay.Health(); h.Tracking || !h.Ready {
				t.Fatalf("%+v", h)
			}
			if got := relay.ask(key); got != Found {
				t.Fatal(got)
			}
			if _, _, _, err := revokeKey(t.Context(), k, "a", time.Now()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the revoked key is refused", func() bool { return relay.ask(key) == Revoked })
			if n := strings.Count(relay.log.String(), "does not tell of changes"); n != 1 {
				t.Errorf("said %d times:\n%s", n, relay.log)
			}
		})
	}
}

func TestAnotherPepperIsRefused(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	o.Keys.Pepper = secretOf("first pepper")
	key, _ := makeKey(t, keeperAt(t, o), grant{})
	if got := openRelay(t, o).ask(key); got != Found {
		t.Fatalf("with the pepper: %v", got)
	}
	for name, pepper := range map[string]string{"another": "second pepper", "none": ""} {
		o.Keys.Pepper = secretOf(pepper)
		if _, _, err := createKey(t.Context(), keeperAt(t, o), grant{}, time.Now()); exitCode(err) != 78 || !strings.Contains(err.Error(), "pepper") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
