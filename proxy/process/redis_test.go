package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"streamrelay/auth/redistest"
)

// TestTwoRelaysShareTheKeysOfRedis makes a key by the command, uses it at two
// relays, revokes it, and lets the relays go on without Redis, one of them
// over a restart.
func TestTwoRelaysShareTheKeysOfRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	provider := simulate(t)
	a := startRelay(t, provider, fmt.Sprintf("keys: {store: redis, state_file: state}\nredis: {addresses: [\"%s\"]}\n", redis.Addr()))
	config, err := os.ReadFile(filepath.Join(a.dir, "relay.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	second := tempDir(t)
	writeFile(t, filepath.Join(second, "relay.yaml"), string(config))
	b := serve(t, second, a.key)
	create := func(name string, more ...string) string {
		t.Helper()
		r := run(t, a.dir, append([]string{"keys", "create", "--name", name}, more...)...)
		if r.code != 0 {
			t.Fatalf("create: %s", r.stderr)
		}
		return firstLine(r.stdout)
	}
	status := func(r *relay, key string) int { t.Helper(); return r.status(key) }
	kept, revoked, narrow := create("kept"), create("revoked"), create("narrow", "--requests-per-minute", "3")
	for _, r := range []*relay{a, b} {
		for _, key := range []string{kept, revoked} {
			if s := status(r, key); s != 200 {
				t.Errorf("a new key: status %d", s)
			}
		}
	}
	// One limit over both.
	got := map[int]int{}
	for i := range 8 {
		got[status([]*relay{a, b}[i%2], narrow)]++
	}
	if got[200] > 3 || got[200] < 2 || got[200]+got[429] != 8 {
		t.Errorf("of a limit of 3: %v", got)
	}
	if r := run(t, a.dir, "keys", "revoke", "revoked"); r.code != 0 {
		t.Fatalf("revoke: %s", r.stderr)
	}
	for _, r := range []*relay{a, b} {
		limit := time.Now().Add(30 * time.Second)
		for status(r, revoked) != 401 {
			if time.Now().After(limit) {
				t.Fatal("a revoked key is accepted")
			}
		}
	}
	// Without Redis.
	redis.Kill()
	b.end()
	b = serve(t, b.dir, b.key)
	for i, r := range []*relay{a, b} {
		if s := status(r, kept); s != 200 {
			t.Errorf("relay %d without Redis: a known key: status %d", i, s)
		}
		if s := status(r, revoked); s != 401 {
			t.Errorf("relay %d without Redis: a revoked key: status %d", i, s)
		}
		if s := status(r, "sk-somebody-elses"); s != 503 {
			t.Errorf("relay %d without Redis: an unknown key: status %d", i, s)
		}
	}
	_, series := a.scrape()
	if series["relay_redis_up"] != 0 {
		t.Error("relay_redis_up is 1")
	}
	for _, r := range []*relay{a, b} {
		if text, err := os.ReadFile(filepath.Join(r.dir, "state")); err == nil && strings.Contains(string(text), kept) {
			t.Error("the state holds a key")
		}
	}
}
