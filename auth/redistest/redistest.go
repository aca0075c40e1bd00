// Package redistest starts redis-servers for tests, processes of their own that
// may be frozen, killed and started again. Only tests import it.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"streamrelay/configs/porttest"
)

// Server is one redis-server, which ends with its test.
type Server struct {
	Port int
	Dir  string // its working directory, with its log

	tb   testing.TB
	args []string
	cmd  *exec.Cmd // nil: killed
}

// Start starts a server, in memory only unless args say otherwise. It skips the
// test where there is no redis-server; with REQUIRE_SERVERS=1 that is a failure.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	s := &Server{tb: tb, Port: porttest.Free(tb), Dir: tb.TempDir()}
	s.args = append([]string{"--port", strconv.Itoa(s.Port), "--bind", "127.0.0.1", "--dir", s.Dir, "--save", "", "--appendonly", "no", "--logfile", s.log()}, args...)
	s.begin()
	return s
}

// StartSentinel starts a sentinel, which keeps its state in its configuration:
// monitor is what this has besides its address and folder.
func StartSentinel(tb testing.TB, monitor string) *Server {
	tb.Helper()
	s := &Server{tb: tb, Port: porttest.Free(tb), Dir: tb.TempDir()}
	conf := filepath.Join(s.Dir, "sentinel.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "port %d\nbind 127.0.0.1\ndir %s\nlogfile %s\n%s", s.Port, s.Dir, s.log(), monitor), 0o600); err != nil {
		tb.Fatal(err)
	}
	s.args = []string{conf, "--sentinel"}
	s.begin()
	return s
}

func (s *Server) begin() {
	s.tb.Helper()
	s.Again()
	s.tb.Cleanup(s.Kill)
}

// Again starts a killed server, with what it kept, at its address of before.
func (s *Server) Again() {
	s.tb.Helper()
	s.cmd = exec.Command(program(s.tb), s.args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not outlive the test's process
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !s.answers(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			log, _ := os.ReadFile(s.log())
			s.tb.Fatalf("redis-server does not answer: %s", log)
		}
	}
}

// answers tells whether the server answers, be it with an error. It does so
// once it listens everywhere, on its TLS port and its unix socket as well, of
// which a connection to one of them says nothing.
func (s *Server) answers() bool {
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	n, _ := c.Read(make([]byte, 64))
	return n > 0
}

// Addr is host:port.
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.Port) }

func (s *Server) log() string { return filepath.Join(s.Dir, "log") }

// Do runs one command over a connection of its own.
func (s *Server) Do(args ...string) rueidis.RedisResult {
	s.tb.Helper()
	return Do(s.tb, s.Addr(), args...)
}

// Do runs one command at addr, host:port, over a connection of its own.
func Do(tb testing.TB, addr string, args ...string) rueidis.RedisResult {
	tb.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true, DisableCache: true, PipelineMultiplex: -1, RingScaleEachConn: 8, ReadBufferEachConn: 16 << 10, WriteBufferEachConn: 16 << 10})
	if err != nil {
		tb.Fatalf("%s: %v", addr, err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.Do(ctx, c.B().Arbitrary(args...).Build())
}

// Killed tells whether the server was killed and not started again.
func (s *Server) Killed() bool { return s.cmd == nil }

// Signal sends a signal to the server, as SIGSTOP, which freezes it.
func (s *Server) Signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

// Kill ends the server as kill -9 does, frozen or not.
func (s *Server) Kill() {
	if s.Killed() {
		return
	}
	s.Signal(syscall.SIGKILL)
	_ = s.cmd.Wait()
	s.cmd = nil
}

func program(tb testing.TB) string {
	tb.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		const text = "no redis-server: install Debian's redis-server"
		if os.Getenv("REQUIRE_SERVERS") == "1" {
			tb.Fatal(text)
		}
		tb.Skip(text)
	}
	return path
}
