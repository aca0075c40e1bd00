package auth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"streamrelay/auth/redistest"
)

func TestAKeyIsRevokedThoughRedisIsFull(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	k := keeperAt(t, o)
	key, _ := makeKey(t, k, grant{name: "leaked"})
	other, _ := makeKey(t, k, grant{name: "other"})
	relay := openRelay(t, o)
	if got := relay.ask(key); got != Found {
		t.Fatalf("before: %v", got)
	}
	b := k.client.B()
	if err := k.client.Do(t.Context(), b.ConfigSet().ParameterValue().ParameterValue("maxmemory", "1").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := createKey(t.Context(), k, grant{name: "new"}, time.Now()); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("a key was made in a Redis that is full: %v", err)
	}
	if _, _, _, err := revokeKey(t.Context(), k, "leaked", time.Now()); err != nil {
		t.Fatalf("revoke: %v", err)
	}
	if _, _, err := switchKey(t.Context(), k, "other", true); err != nil {
		t.Fatalf("disable: %v", err)
	}
	eventually(t, "the revoked key is refused", func() bool { return relay.ask(key) == Revoked })
	eventually(t, "the disabled key is refused", func() bool { return relay.ask(other) == Disabled })
	// A relay that comes now hears of changes, too.
	late := openRelay(t, o)
	eventually(t, "a relay is ready on a Redis that is full", func() bool { h := late.Health(); return h.Ready && h.Phase == "ready" })
	if got := late.ask(key); got != Revoked {
		t.Errorf("at a relay that came later: %v", got)
	}
}

func TestCommandsSayWhatToDoAboutRedis(t *testing.T) {
	plain := redistest.Start(t)
	user := "\n  username: relay\n  password: pw"
	for _, test := range []struct {
		name, more string
		args       []string // the server's; nil: plain's, which speaks no TLS
		command    string
		want       string
	}{
		{"full", "", []string{"--maxmemory", "1"}, "create --name a", "raise maxmemory"},
		{"a replica", "", []string{"--replicaof", "127.0.0.1 1"}, "create --name a", "it is a replica"},
		{"too few replicas", "", []string{"--min-replicas-to-write", "1"}, "create --name a", "min-replicas-to-write"},
		{"few rights to write", user, aclArgs("+evalsha"), "create --name a", "ACL SETUSER relay on ~relay:*"},
		{"few rights to read", user, aclArgs("+hscan"), "list", "ACL SETUSER relay on ~relay:*"},
		{"another password", "\n  password: other", []string{"--requirepass", "right"}, "list", "do not fit: correct them"},
		{"no TLS there", "\n  tls: true", nil, "list", "it does not speak TLS there"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := plain
			if test.args != nil {
				server = redistest.Start(t, test.args...)
			}
			path := filepath.Join(t.TempDir(), "relay.yaml")
			yaml := "keys: {store: redis}\nredis:\n  addresses: [" + server.Addr() + "]" + test.more + "\nupstreams:\n  - {name: a, base_url: http://127.0.0.1:1/v1}\n"
			if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			r := keysCommand(t, "", append(strings.Fields(test.command), "--config", path)...)
			if r.err == nil || !strings.Contains(r.err.Error(), test.want) || strings.Contains(r.err.Error(), "user_script") {
				t.Errorf("want %q:\n%v", test.want, r.err)
			}
		})
	}
}
