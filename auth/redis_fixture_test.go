package auth

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/rs/zerolog"

	"streamrelay/configs"
)

// redisServer is a redis-server of a test: a process of its own, which may be
// frozen, killed and started again.
type redisServer struct {
	t    testing.TB
	port int
	dir  string
	args []string
	cmd  *exec.Cmd
}

func (s *redisServer) addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// needRedis skips a test where there is no redis-server.
func needRedis(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("REQUIRE_SERVERS") == "1" {
			t.Fatal("no redis-server, and REQUIRE_SERVERS=1")
		}
		t.Skip("no redis-server: install Debian's redis-server")
	}
	return path
}

// freePort returns a port that nobody has at the moment; its bus port of a
// cluster (10,000 above) fits, too.
func freePort(t testing.TB) int {
	t.Helper()
	for {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := ln.Addr().(*net.TCPAddr).Port
		ln.Close()
		if port < 55_000 {
			return port
		}
	}
}

// startRedis starts a server, in memory only unless args say otherwise.
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	s := &redisServer{t: t, port: freePort(t), dir: t.TempDir(), args: args}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *redisServer) start() {
	s.t.Helper()
	path := needRedis(s.t)
	args := append([]string{}, "--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "no", "--logfile", filepath.Join(s.dir, "log"))
	s.cmd = exec.Command(path, append(args, s.args...)...)
	s.run()
}

func (s *redisServer) run() {
	s.t.Helper()
	// It does not outlive the test's process.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.addr()); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.t.Fatalf("redis-server does not listen: %s", log)
		}
	}
}

func (s *redisServer) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

func (s *redisServer) kill() {
	if s.cmd == nil {
		return
	}
	s.signal(syscall.SIGKILL)
	_ = s.cmd.Wait()
	s.cmd = nil
}

// do runs one command over a connection of its own.
func (s *redisServer) do(args ...string) rueidis.RedisResult {
	s.t.Helper()
	return doAt(s.t, s.addr(), args...)
}

func doAt(t testing.TB, addr string, args ...string) rueidis.RedisResult {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true, DisableCache: true, PipelineMultiplex: -1, RingScaleEachConn: 8, ReadBufferEachConn: 16 << 10, WriteBufferEachConn: 16 << 10})
	if err != nil {
		t.Fatalf("%s: %v", addr, err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.Do(ctx, c.B().Arbitrary(args...).Build())
}

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
func eventually(t testing.TB, within time.Duration, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
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
