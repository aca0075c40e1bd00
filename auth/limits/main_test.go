package limits

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"net"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a redis-server of a test.
type server struct {
	addr string
	cmd  *exec.Cmd
}

func startRedis(t testing.TB) *server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("REQUIRE_SERVERS") == "1" {
			t.Fatal("no redis-server, and REQUIRE_SERVERS=1")
		}
		t.Skip("no redis-server: install Debian's redis-server")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	dir := t.TempDir()
	s := &server{addr: "127.0.0.1:" + strconv.Itoa(port)}
	s.cmd = exec.Command(path, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--logfile", filepath.Join(dir, "log"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.addr); err == nil {
			c.Close()
			return s
		}
		if time.Now().After(deadline) {
			t.Fatal("redis-server does not listen")
		}
	}
}

func (s *server) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

func (s *server) client(t testing.TB) rueidis.Client {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.addr}, DisableCache: true, DisableRetry: true, PipelineMultiplex: -1,
		RingScaleEachConn: 8, ReadBufferEachConn: 16 << 10, WriteBufferEachConn: 16 << 10, ConnWriteTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// relays are limiters that share one Redis, as n relays do.
func relays(t testing.TB, s *server, n int, o Options) []*Limiter {
	t.Helper()
	list := make([]*Limiter, n)
	for i := range list {
		c := s.client(t)
		o := o
		o.Client, o.Prefix, o.Instance = func() rueidis.Client { return c }, "test:", "relay"+strconv.Itoa(i)
		list[i] = New(o)
		list[i].SetInstances(int64(n))
		t.Cleanup(list[i].Close)
	}
	return list
}

// own is a limiter without Redis, whose time stands still until it is moved.
type own struct {
	*Limiter
	now int64
}

func newOwn(t testing.TB, o Options) *own {
	t.Helper()
	l := &own{now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).UnixNano()}
	o.Now = func() int64 { return l.now }
	l.Limiter = New(o)
	close(l.stop) // no ticks: they would read the time beside the test
	<-l.stopped
	l.stop, l.stopped = make(chan struct{}), make(chan struct{})
	return l
}

func (l *own) pass(d time.Duration) { l.now += int64(d) }
