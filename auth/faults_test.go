package auth

import (
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"streamrelay/auth/redistest"
)

// Two relays serve without a pause while Redis is killed, frozen, cut off,
// emptied and restored, and keys are revoked before, during and after. What is
// promised: a valid known key is never refused, and a revoked one is refused
// once Redis is reachable again, and from then on.
func TestFaultsOfRedisUnderTraffic(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	hole := newBlackhole(t, server.Addr())
	direct, through := redisConfig(server.Addr()), redisConfig(hole.addr())
	k := keeperAt(t, direct)
	var valid []string
	for i := range 50 {
		key, _ := makeKey(t, k, grant{name: "valid-" + strconv.Itoa(i)})
		valid = append(valid, key)
	}
	rounds := 1
	if os.Getenv("RELAY_TEST_LONG") != "" {
		rounds = 20
	}
	victims := make([]*revocation, rounds*5*2)
	for i := range victims {
		key, _ := makeKey(t, k, grant{name: "victim-" + strconv.Itoa(i)})
		victims[i] = &revocation{key: key}
	}
	relays := []*relayOf{openRelay(t, through), openRelay(t, through)}
	tr := startTraffic(relays, valid, victims)
	next := 0
	revoke := func() {
		t.Helper()
		eventually(t, "the revocation is acknowledged", func() bool {
			o := direct
			k, err := openRedisKeeper(context.Background(), &o.Keys, &o.Redis)
			if err != nil {
				return false
			}
			defer k.close()
			_, _, _, err = revokeKey(context.Background(), k, "victim-"+strconv.Itoa(next), time.Now())
			return err == nil
		})
		victims[next].done.Store(true)
		next++
	}
	var backup string
	for range rounds {
		for _, fault := range []struct {
			name       string
			begin, end func()
			reachable  bool // for changes, while the relays have nothing of it
		}{
			{"killed", server.Kill, server.Again, false},
			{"frozen", func() { server.Signal(syscall.SIGSTOP) }, func() { server.Signal(syscall.SIGCONT) }, false},
			{"blackholed", func() { hole.hole.Store(true) }, func() { hole.hole.Store(false); hole.cut() }, true},
			{"cut off", hole.cut, func() {}, true},
			{"emptied", func() {
				backup = exported(t, keeperAt(t, direct))
				server.Do("FLUSHALL")
			}, func() {
				if _, err := importExport(t.Context(), keeperAt(t, direct), strings.NewReader(backup), false); err != nil {
					t.Fatal(err)
				}
			}, false},
		} {
			revoke()
			fault.begin()
			time.Sleep(time.Duration(size(1500, 700)) * time.Millisecond)
			if fault.reachable {
				revoke()
			}
			fault.end()
			if !fault.reachable {
				revoke()
			}
			for _, r := range relays {
				eventually(t, fault.name+": the relay is in step again", func() bool { return r.Health().Phase == "ready" })
				for _, v := range victims[:next] {
					eventually(t, fault.name+": a revoked key is refused", func() bool { return r.ask(v.key) == Revoked })
				}
			}
		}
	}
	tr.end(t)
}
