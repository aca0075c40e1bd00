package auth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"streamrelay/auth/redistest"
)

const staysRevokedHere = "it stays revoked here"

func TestAnOlderBackupUndoesNoRevocationThatARelayKnows(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	k := keeperAt(t, o)
	kept, _ := makeKey(t, k, grant{name: "kept"})
	leaked, _ := makeKey(t, k, grant{name: "leaked"})
	relay := openRelay(t, o)
	backup := exported(t, k)
	if _, _, _, err := revokeKey(t.Context(), k, "leaked", time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the revocation", func() bool { return relay.ask(leaked) == Revoked })
	server.Do("FLUSHALL")
	eventually(t, "the relay sees the loss", func() bool { return relay.Health().Phase == "lost" })
	k = keeperAt(t, o)
	if _, err := importExport(t.Context(), k, strings.NewReader(backup), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the relay is at ease again", func() bool { return relay.Health().Phase == "ready" })
	if a, b := relay.ask(kept), relay.ask(leaked); a != Found || b != Revoked {
		t.Errorf("kept %v, revoked %v", a, b)
	}
	if log := relay.log.String(); strings.Count(log, staysRevokedHere) != 1 {
		t.Errorf("said %d times", strings.Count(log, staysRevokedHere))
	}
	// It is done again in Redis, and other relays know it, too.
	if _, _, _, err := revokeKey(t.Context(), k, "leaked", time.Now()); err != nil {
		t.Fatal(err)
	}
	other := openRelay(t, o)
	eventually(t, "another relay", func() bool { return other.ask(leaked) == Revoked })
}

func TestAChangeAfterAnOlderStateUndoesNoRevocation(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	k := keeperAt(t, o)
	leaked, made := makeKey(t, k, grant{name: "leaked"})
	relay := openRelay(t, o)
	if err := server.Do("SAVE").Error(); err != nil {
		t.Fatal(err)
	}
	saved := relay.redis.seq.Load()
	if _, _, _, err := revokeKey(t.Context(), k, "leaked", time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the revocation", func() bool { return relay.ask(leaked) == Revoked && relay.redis.seq.Load() > saved })
	server.Kill()
	server.Again()
	eventually(t, "the older state", func() bool {
		return relay.Health().Phase == "ready" && strings.Contains(relay.log.String(), "older state")
	})
	k = keeperAt(t, o)
	if _, _, err := k.change(t.Context(), "leaked", func(r *Record) error { r.Name = "renamed"; return nil }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change", func() bool { return relay.table.get(&made.Digest).Name == "renamed" })
	if got := relay.ask(leaked); got != Revoked {
		t.Errorf("the revoked key: %v", got)
	}
	if !strings.Contains(relay.log.String(), staysRevokedHere) {
		t.Error("nothing is said")
	}
}

func TestARevocationOutlivesTheKillOfARelay(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	o.Keys.StateFile = filepath.Join(t.TempDir(), "keys.state")
	k := keeperAt(t, o)
	leaked, made := makeKey(t, k, grant{name: "leaked"})
	first := openRelay(t, o)
	eventually(t, "the key", func() bool { return first.ask(leaked) == Found })
	(&stateKeeper{Store: first.Store}).write() // as once a minute
	if _, _, _, err := revokeKey(t.Context(), k, "leaked", time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the state has the revocation", func() bool {
		st, err := readState(o.Keys.StateFile)
		return err == nil && len(st.Records) == 1 && st.Records[0].ID == made.ID && !st.Records[0].Revoked.IsZero()
	})
	left, err := os.ReadFile(o.Keys.StateFile) // by a relay that is killed now
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	o.Keys.StateFile = filepath.Join(t.TempDir(), "keys.state")
	write(t, o.Keys.StateFile, string(left))
	second := openRelay(t, o)
	if got := second.ask(leaked); got != Revoked {
		t.Errorf("the revoked key: %v", got)
	}
}
