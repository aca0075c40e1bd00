package auth

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"streamrelay/auth/redistest"
)

// size is n, or a part of it where the proofs do not run at full size
// (RELAY_TEST_LONG).
func size(n, small int) int {
	if os.Getenv("RELAY_TEST_LONG") != "" {
		return n
	}
	return small
}

func quantile(list []time.Duration, q float64) time.Duration {
	slices.Sort(list)
	return list[min(int(q*float64(len(list))), len(list)-1)]
}

// What it reports is from the begin of the command's write to the first refusal
// at the slower of two relays. Nothing here depends on how fast the machine is.
func TestRevocationReachesTwoRelays(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	k := keeperAt(t, o)
	n := size(1000, 50)
	keys := make([]string, n)
	for i := range keys {
		keys[i], _ = makeKey(t, k, grant{name: "k" + strconv.Itoa(i)})
	}
	relays := []*relayOf{openRelay(t, o), openRelay(t, o)}
	var toRefusal []time.Duration
	for i, key := range keys {
		var last atomic.Int64
		var wg sync.WaitGroup
		for _, r := range relays {
			if got := r.ask(key); got != Found {
				t.Fatal(got)
			}
		}
		began := time.Now()
		for _, r := range relays {
			wg.Go(func() {
				for r.ask(key) == Found {
					if time.Since(began) > 5*time.Second {
						t.Errorf("key %d is still accepted", i)
						return
					}
					time.Sleep(20 * time.Microsecond)
				}
				if now := int64(time.Since(began)); now > last.Load() {
					last.Store(now)
				}
			})
		}
		if _, _, _, err := revokeKey(t.Context(), k, "k"+strconv.Itoa(i), time.Now()); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		toRefusal = append(toRefusal, time.Duration(last.Load()))
	}
	t.Logf("%d revocations, from the command to the refusal at both relays: p50 %v, p99 %v, max %v", n, quantile(toRefusal, 0.5), quantile(toRefusal, 0.99), quantile(toRefusal, 1))
}

// The same with the built command, as an operator sees it: process start,
// connection and all.
func TestTheCommandRevokesOverTwoRelays(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	path := t.TempDir() + "/relay.yaml"
	write(t, path, "keys: {store: redis}\nredis: {addresses: ['"+server.Addr()+"']}\n")
	relays := []*relayOf{openRelay(t, o), openRelay(t, o)}
	n := size(100, 5)
	var fromExit []time.Duration
	late := 0
	for i := range n {
		key := strings.TrimSpace(output(t, process(t, "keys", "create", "--config", path, "--name", "k"+strconv.Itoa(i))))
		for _, r := range relays {
			if got := r.ask(key); got != Found {
				t.Fatalf("key %d right after its creation: %v", i, got)
			}
		}
		output(t, process(t, "keys", "revoke", "--config", path, "k"+strconv.Itoa(i)))
		ended := time.Now()
		for _, r := range relays {
			if r.ask(key) == Found {
				late++
			}
			eventually(t, "the key is refused", func() bool { return r.ask(key) == Revoked })
		}
		fromExit = append(fromExit, time.Since(ended))
	}
	t.Logf("%d times: accepted when the command had ended: %d; refused by both relays after p50 %v, p99 %v", n, late, quantile(fromExit, 0.5), quantile(fromExit, 0.99))
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return string(out)
}

func TestAFloodOfUnknownKeysReachesNeitherRedisNorMemory(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	k := keeperAt(t, o)
	var valid []string
	for i := range 100 {
		key, _ := makeKey(t, k, grant{name: "v" + strconv.Itoa(i)})
		valid = append(valid, key)
	}
	relay := openRelay(t, o)
	n := size(200_000, 20_000)
	unknown := make([]string, n)
	for i := range unknown {
		switch i % 3 {
		case 0:
			unknown[i] = Generate() // well formed: worth a question
		case 1:
			unknown[i] = valid[0][:len(valid[0])-1] + string(base62[(strings.IndexByte(base62, valid[0][len(valid[0])-1])+1+i%61)%62]) // of our form, with a wrong checksum
		default:
			unknown[i] = fmt.Sprintf("sk-somebody-%d", i)
		}
	}
	quiet := latencies(relay, valid, nil)
	before := heapInUse()
	fetches := relay.Health().Fetches
	var statuses [len(statuses)]atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(done)
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := w; i < n; i += 4 {
					addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
					_, s := relay.Table().LookupFrom([]byte(unknown[i]), addr, time.Now().Unix())
					statuses[s].Add(1)
				}
			})
		}
		wg.Wait()
		close(stop)
	}()
	loud := latencies(relay, valid, stop)
	<-done
	took := time.Since(began)
	grown := int64(heapInUse()) - int64(before)
	asked := relay.Health().Fetches - fetches
	t.Logf("%d unknown keys in %v (%.0f a second): unknown %d, too many misses %d, unavailable %d; %d questions to Redis; heap %+d bytes; valid keys' p99 %v, without the flood %v (ratio %.2f)",
		n, took.Round(time.Millisecond), float64(n)/took.Seconds(), statuses[Unknown].Load(), statuses[TooManyMisses].Load(), statuses[Unavailable].Load(),
		asked, grown, quantile(loud, 0.99), quantile(quiet, 0.99), float64(quantile(loud, 0.99))/float64(quantile(quiet, 0.99)))
	if most := int64(missBurst + missRate*(took.Seconds()+1)); asked > most {
		t.Errorf("%d questions, at most %d are allowed", asked, most)
	}
	if grown > 1<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}
	if statuses[Found].Load() != 0 {
		t.Error("an unknown key was found")
	}
	runtime.KeepAlive(unknown)
	// One address alone, without the others.
	time.Sleep(50 * time.Millisecond)
	fetches = relay.Health().Fetches
	for range 5000 {
		relay.Table().LookupFrom([]byte(Generate()), netip.MustParseAddr("2001:db8::1"), time.Now().Unix())
	}
	if asked := relay.Health().Fetches - fetches; asked > missBurstPerIP*3 {
		t.Errorf("one address had %d questions asked", asked)
	}
}

// latencies asks for valid keys until stop closes, or for a while.
func latencies(relay *relayOf, valid []string, stop <-chan struct{}) (list []time.Duration) {
	deadline := time.Now().Add(300 * time.Millisecond)
	for {
		select {
		case <-stop:
			return list
		default:
		}
		if stop == nil && time.Now().After(deadline) {
			return list
		}
		for range 50 {
			key := valid[rand.IntN(len(valid))]
			began := time.Now()
			if got := relay.ask(key); got != Found {
				panic(got)
			}
			list = append(list, time.Since(began))
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func TestOneQuestionForManyRequestsOfOneNewKey(t *testing.T) {
	server := redistest.Start(t, "--rename-command", "CLIENT", "") // so that nothing tells of it
	o := redisConfig(server.Addr())
	k := keeperAt(t, o)
	relay := openRelay(t, o)
	key, _ := makeKey(t, k, grant{})
	before := relay.Health().Fetches
	var wg sync.WaitGroup
	var found atomic.Int64
	for range 50 {
		wg.Go(func() {
			if relay.ask(key) == Found {
				found.Add(1)
			}
		})
	}
	wg.Wait()
	if found.Load() != 50 {
		t.Errorf("%d of 50 found", found.Load())
	}
	if n := relay.Health().Fetches - before; n > 3 { // a beat may add one
		t.Errorf("%d questions", n)
	}
}

// An answer that was asked for before a change must not undo it.
func TestAnAnswerThatAChangeOvertookIsVoid(t *testing.T) {
	s := newRedisStore(redisConfig("127.0.0.1:1").Redis, nil, newTenants(nil), zerolog.Nop())
	defer s.stop()
	r := grant{name: "a"}.record("key", nil, time.Now())
	r.Version = 1
	old := string(encodeRecord(r))
	generation := s.gens[genOf(&r.Digest)].Load()
	s.changed(subjectOfDigest(&r.Digest)) // the change is heard of while the answer is on its way
	if _, current := s.apply(r.Digest, old, generation); current || s.table.Len() != 0 {
		t.Error("the overtaken answer was taken")
	}
	r.Version, r.Disabled = 2, true
	if _, current := s.apply(r.Digest, string(encodeRecord(r)), s.gens[genOf(&r.Digest)].Load()); !current {
		t.Error("the answer after it was not taken")
	}
	if got, _ := s.apply(r.Digest, old, s.gens[genOf(&r.Digest)].Load()); got.Version != 2 || !got.Disabled {
		t.Error("an older version of the record, from a server that lost the newer one, was taken")
	}
	if got := s.table.get(&r.Digest); got.Version != 2 {
		t.Errorf("version %d", got.Version)
	}
}

func TestManyKeysAreReadAtOnce(t *testing.T) {
	server := redistest.Start(t)
	o := redisConfig(server.Addr())
	o.Keys.StateFile = t.TempDir() + "/state"
	k := keeperAt(t, o)
	n := size(1_000_000, 5000)
	var keys []string
	for from := 0; from < n; from += 50_000 {
		batch := make([]string, min(50_000, n-from))
		for i := range batch {
			batch[i] = fmt.Sprintf("key-%d", from+i)
		}
		if _, err := importKeys(context.Background(), k, batch, grant{tenants: []string{"acme"}}, time.Now()); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, batch...)
	}
	before := heapInUse()
	began := time.Now()
	relay := openRelay(t, o)
	eventually(t, "all keys are there", func() bool { return relay.Health().Phase == "ready" && relay.Table().Len() == n })
	first := time.Since(began)
	perKey := float64(heapInUse()-before) / float64(n)
	for range 1000 {
		if got := relay.ask(keys[rand.IntN(n)]); got != Found {
			t.Fatal(got)
		}
	}
	began = time.Now()
	relay.Close()
	saved := time.Since(began)
	info, err := os.Stat(o.Keys.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	again := openRelay(t, o)
	t.Logf("%d keys: read from Redis in %v, %.0f bytes each in memory; state of %d bytes written in %v; with it in step after %v", n, first, perKey, info.Size(), saved, time.Since(began))
	if got := again.ask(keys[n-1]); got != Found {
		t.Error(got)
	}
}
