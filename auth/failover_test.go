package auth

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"streamrelay/auth/redistest"
)

// startCluster starts three primaries and three replicas.
func startCluster(t *testing.T) []*redistest.Server {
	t.Helper()
	var nodes []*redistest.Server
	args := []string{"--cluster", "create"}
	for range 6 {
		s := redistest.Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")
		nodes, args = append(nodes, s), append(args, s.Addr())
	}
	out, err := exec.Command("redis-cli", append(args, "--cluster-replicas", "1", "--cluster-yes")...).CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli: %v\n%s", err, out)
	}
	for _, s := range nodes {
		eventually(t, "the cluster is well", func() bool {
			info, err := s.Do("CLUSTER", "INFO").ToString()
			return err == nil && strings.Contains(info, "cluster_state:ok")
		})
	}
	return nodes
}

// keysPrimary returns the node that has the slot of the keys.
func keysPrimary(t *testing.T, nodes []*redistest.Server) *redistest.Server {
	t.Helper()
	var found *redistest.Server
	eventually(t, "a node has the keys", func() bool {
		for _, s := range nodes {
			if !s.Killed() && s.Do("GET", namesFor("relay:").marker).Error() == nil {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

// traffic asks relays for valid and revoked keys without a pause, and keeps
// what must not be: a valid known key refused, a revoked one accepted again by a
// relay that has refused it.
type traffic struct {
	asked atomic.Int64
	mu    sync.Mutex
	wrong []string
	stop  chan struct{}
	done  sync.WaitGroup
}

// revocation is a key and whether its revocation was acknowledged.
type revocation struct {
	key  string
	done atomic.Bool
}

func startTraffic(relays []*relayOf, valid []string, revoked []*revocation) *traffic {
	tr := &traffic{stop: make(chan struct{})}
	report := func(format string, args ...any) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		if len(tr.wrong) < 20 {
			tr.wrong = append(tr.wrong, fmt.Sprintf(format, args...))
		}
	}
	for n, r := range relays {
		tr.done.Go(func() {
			refused := make([]bool, len(revoked))
			for i := 0; ; i++ {
				select {
				case <-tr.stop:
					return
				default:
				}
				if i%1000 == 0 {
					time.Sleep(time.Millisecond) // the servers need the cores, too
				}
				tr.asked.Add(1)
				key := valid[i%len(valid)]
				if got := r.ask(key); got != Found {
					report("relay %d: a valid known key was refused: %v", n, got)
				}
				if len(revoked) == 0 {
					continue
				}
				j := i % len(revoked)
				got := r.ask(revoked[j].key)
				switch {
				case got == Revoked:
					refused[j] = true
				case got != Found && !revoked[j].done.Load():
					report("relay %d: a valid key was refused: %v", n, got)
				case got == Found && refused[j]:
					report("relay %d: a revoked key was accepted again", n)
				}
			}
		})
	}
	return tr
}

func (tr *traffic) end(t *testing.T) {
	t.Helper()
	close(tr.stop)
	tr.done.Wait()
	for _, w := range tr.wrong {
		t.Error(w)
	}
	t.Logf("%d pairs of requests", tr.asked.Load())
	if tr.asked.Load() < 1000 {
		t.Errorf("only %d requests", tr.asked.Load())
	}
}

// revokeAlong tries until the store takes it: during a failover it does not.
func revokeAlong(t *testing.T, o Options, v *revocation, name string) {
	t.Helper()
	eventually(t, "the revocation is acknowledged", func() bool {
		k, err := openRedisKeeper(context.Background(), &o.Keys, &o.Redis)
		if err != nil {
			return false
		}
		defer k.close()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if _, _, _, err := revokeKey(ctx, k, name, time.Now()); err != nil {
			if errors.Is(err, errNoSuchKey) {
				t.Fatal(err)
			}
			return false
		}
		v.done.Store(true)
		return true
	})
}

// outlive has two relays serve while a primary is taken away, keys are revoked
// before, during and after, and everything comes back.
func outlive(t *testing.T, o Options, fail func(), heal func()) {
	t.Helper()
	k := keeperAt(t, o)
	var valid []string
	for _, name := range names(20, "valid-") {
		key, _ := makeKey(t, k, grant{name: name})
		valid = append(valid, key)
	}
	revoked := make([]*revocation, 3)
	for i := range revoked {
		key, _ := makeKey(t, k, grant{name: "victim-" + strconv.Itoa(i)})
		revoked[i] = &revocation{key: key}
	}
	// What no replica has yet may be lost with the primary.
	eventually(t, "a replica has the keys", func() bool {
		_, said, err := k.change(t.Context(), "valid-0", func(r *Record) error { return nil })
		return err == nil && strings.Contains(said, "replicas confirmed")
	})
	relays := []*relayOf{openRelay(t, o), openRelay(t, o)}
	tr := startTraffic(relays, valid, revoked)
	revokeAlong(t, o, revoked[0], "victim-0")
	fail()
	revokeAlong(t, o, revoked[1], "victim-1")
	for i, r := range relays {
		for j, v := range revoked[:2] {
			eventually(t, fmt.Sprintf("relay %d refuses key %d", i, j), func() bool { return r.ask(v.key) == Revoked })
		}
	}
	heal()
	revokeAlong(t, o, revoked[2], "victim-2")
	for i, r := range relays {
		eventually(t, fmt.Sprintf("relay %d refuses the last key", i), func() bool { return r.ask(revoked[2].key) == Revoked })
		eventually(t, "the relay is ready", func() bool { return r.Health().Phase == "ready" && r.Health().Tracking })
	}
	key, _ := makeKey(t, keeperAt(t, o), grant{name: "after"})
	for _, r := range relays {
		eventually(t, "a key of after", func() bool { return r.ask(key) == Found })
	}
	tr.end(t)
}

func TestAClusterFailsOverUnderTraffic(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "frozen": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			if size(1, 0) == 0 && sig == syscall.SIGSTOP {
				t.Skip("with RELAY_TEST_LONG=1; by default a cluster's primary is killed, a sentinel set's frozen")
			}
			nodes := startCluster(t)
			var addresses []string
			for _, s := range nodes {
				addresses = append(addresses, s.Addr())
			}
			var primary *redistest.Server
			outlive(t, redisConfig(addresses...), func() {
				primary = keysPrimary(t, nodes)
				if sig == syscall.SIGKILL {
					primary.Kill()
				} else {
					primary.Signal(sig)
				}
			}, func() {
				if sig == syscall.SIGKILL {
					primary.Again()
				} else {
					primary.Signal(syscall.SIGCONT)
				}
			})
		})
	}
}

func TestASlotThatMovesIsFollowed(t *testing.T) {
	nodes := startCluster(t)
	var addresses []string
	for _, s := range nodes {
		addresses = append(addresses, s.Addr())
	}
	o := redisConfig(addresses...)
	k := keeperAt(t, o)
	key, _ := makeKey(t, k, grant{name: "a"})
	relay := openRelay(t, o)
	from := keysPrimary(t, nodes)
	// A replica takes over by hand: the connection to the old primary stays open.
	for _, s := range nodes {
		role, _ := s.Do("ROLE").ToArray()
		if kind, _ := role[0].ToString(); kind == "slave" {
			if port, _ := role[2].AsInt64(); int(port) == from.Port {
				eventually(t, "the replica is in step", func() bool { return s.Do("CLUSTER", "FAILOVER").Error() == nil })
			}
		}
	}
	eventually(t, "another node has the keys", func() bool {
		return from.Do("GET", namesFor("relay:").marker).Error() != nil
	})
	var v revocation
	revokeAlong(t, o, &v, "a")
	eventually(t, "the key is refused", func() bool { return relay.ask(key) == Revoked })
}

// startSentinels starts a primary, two replicas and three sentinels.
func startSentinels(t *testing.T) (servers []*redistest.Server, addresses []string) {
	t.Helper()
	primary := redistest.Start(t, "--repl-diskless-sync-delay", "0", "--requirepass", "secret", "--masterauth", "secret")
	servers = append(servers, primary)
	for range 2 {
		servers = append(servers, redistest.Start(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(primary.Port), "--repl-diskless-sync-delay", "0", "--requirepass", "secret", "--masterauth", "secret"))
	}
	for range 3 {
		s := redistest.StartSentinel(t, fmt.Sprintf(`sentinel monitor relayset 127.0.0.1 %d 2
sentinel auth-pass relayset secret
sentinel down-after-milliseconds relayset 1000
sentinel failover-timeout relayset 3000
sentinel parallel-syncs relayset 1
`, primary.Port))
		addresses = append(addresses, s.Addr())
	}
	for _, at := range addresses {
		eventually(t, "the sentinels know each other and the replicas", func() bool {
			m, err := redistest.Do(t, at, "SENTINEL", "MASTER", "relayset").AsStrMap()
			return err == nil && m["num-other-sentinels"] == "2" && m["num-slaves"] == "2"
		})
	}
	return servers, addresses
}

func TestASentinelSetFailsOverUnderTraffic(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "frozen": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			if size(1, 0) == 0 && sig == syscall.SIGKILL {
				t.Skip("with RELAY_TEST_LONG=1; by default a cluster's primary is killed, a sentinel set's frozen")
			}
			servers, sentinels := startSentinels(t)
			o := redisConfig(sentinels...)
			o.Redis.Sentinel.Master = "relayset"
			o.Redis.Password = secretOf("secret")
			outlive(t, o, func() { servers[0].Signal(sig) }, func() {
				if sig == syscall.SIGKILL {
					servers[0].Kill()
					servers[0].Again()
				} else {
					servers[0].Signal(syscall.SIGCONT)
				}
			})
		})
	}
}
