package auth

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"streamrelay/configs"
)

// blackhole stands between a relay and Redis, and can become a black hole: it then
// takes everything, tells nothing and closes nothing.
type blackhole struct {
	ln   net.Listener
	to   string
	open sync.Map
	hole atomic.Bool
}

func newBlackhole(t testing.TB, to string) *blackhole {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &blackhole{ln: ln, to: to}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			b.open.Store(c, up)
			for _, pair := range [][2]net.Conn{{c, up}, {up, c}} {
				all.Go(func() {
					defer pair[0].Close()
					defer pair[1].Close()
					buf := make([]byte, 16<<10)
					for {
						n, err := pair[0].Read(buf)
						if n > 0 && !b.hole.Load() {
							if _, err := pair[1].Write(buf[:n]); err != nil {
								return
							}
						}
						if err != nil {
							if b.hole.Load() {
								continueUntilClosed(pair[0])
							}
							return
						}
					}
				})
			}
		}
	})
	t.Cleanup(func() {
		b.close()
		all.Wait()
	})
	return b
}

func continueUntilClosed(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func (b *blackhole) addr() string { return b.ln.Addr().String() }

// cut closes every connection, as a reset would.
func (b *blackhole) cut() {
	b.open.Range(func(c, up any) bool {
		c.(net.Conn).Close()
		up.(net.Conn).Close()
		b.open.Delete(c)
		return true
	})
}

func (b *blackhole) close() {
	b.ln.Close()
	b.cut()
}

// logged keeps what a store logs.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// relayOf is what a relay has of keys: a Store over Redis at addresses.
type relayOf struct {
	*Store
	log *logged
}

func redisConfig(addresses ...string) Options {
	keys, redis := configs.Default().Keys, configs.Default().Redis
	keys.Store, keys.StateFile, redis.Addresses = "redis", "", addresses
	return Options{Keys: keys, Redis: redis}
}

func openRelay(t testing.TB, o Options) *relayOf {
	t.Helper()
	log := &logged{}
	o.Log = zerolog.New(log)
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of a relay:\n%s", log)
		}
	})
	return &relayOf{s, log}
}

// ask looks a key up as a request does.
func (r *relayOf) ask(key string) Status {
	_, status := r.Table().LookupFrom([]byte(key), clientAddr, time.Now().Unix())
	return status
}

// keeperAt is what the commands use.
func keeperAt(t testing.TB, o Options) *redisKeeper {
	t.Helper()
	k, err := openRedisKeeper(context.Background(), &o.Keys, &o.Redis)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.close)
	return k
}

func makeKey(t testing.TB, k keeper, g grant) (key string, r *Record) {
	t.Helper()
	key, r, err := createKey(context.Background(), k, g, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return key, r
}

// eventually waits for a condition that is bound to come true.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func names(n int, prefix string) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return list
}
