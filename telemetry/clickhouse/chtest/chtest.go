// Package chtest starts a ClickHouse server for tests: the real engine behind
// a small server whose faults can be switched. Only tests import it.
package chtest

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"streamrelay/configs/porttest"
)

// Server is one server, which ends with its test.
type Server struct {
	Native string // host:port
	HTTP   string // host:port
	Dir    string

	tb    testing.TB
	tool  string
	flags []string
	cmd   *exec.Cmd
}

// Start starts a server, or skips the test where there is none; with
// REQUIRE_SERVERS=1 that is a failure.
func Start(tb testing.TB, flags ...string) *Server {
	tb.Helper()
	tool := os.Getenv("RELAY_TEST_CHTESTD")
	if tool == "" {
		const text = "no ClickHouse engine for tests: set RELAY_TEST_CHTESTD to the program that starts one (. .ci/servers does)"
		if os.Getenv("REQUIRE_SERVERS") == "1" {
			tb.Fatal(text)
		}
		tb.Skip(text)
	}
	s := &Server{tb: tb, Dir: tb.TempDir(), tool: tool, flags: flags}
	s.start(strconv.Itoa(porttest.Free(tb)), strconv.Itoa(porttest.Free(tb))) // to be had again
	tb.Cleanup(s.stop)
	return s
}

// Kill ends the server as kill -9 does.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// Again starts a killed server with its data, at the addresses of before.
func (s *Server) Again() {
	s.tb.Helper()
	_, http, _ := net.SplitHostPort(s.HTTP)
	s.start(s.Port(), http)
}

func (s *Server) start(native, http string) {
	s.tb.Helper()
	info := filepath.Join(s.Dir, "address.json")
	_ = os.Remove(info) // of the one of before
	log, err := os.Create(filepath.Join(s.Dir, "log"))
	if err != nil {
		s.tb.Fatal(err)
	}
	s.cmd = exec.Command(s.tool, append([]string{"start", native, http, filepath.Join(s.Dir, "data"), "-info", info}, s.flags...)...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	log.Close()
	// Long enough for the first start ever, which fetches the engine.
	for end := time.Now().Add(10 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var at struct{ Native, HTTP string }
		if data, err := os.ReadFile(info); err == nil && json.Unmarshal(data, &at) == nil {
			s.Native, s.HTTP = at.Native, at.HTTP
			return
		}
		if exited := s.cmd.Process.Signal(syscall.Signal(0)); exited != nil || time.Now().After(end) {
			text, _ := os.ReadFile(log.Name())
			s.tb.Fatalf("the ClickHouse engine did not start: %s", text)
		}
	}
}

func (s *Server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-done
	}
}

// Port is the native port.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.Native)
	return port
}

// Query runs a statement over HTTP, past every fault, and returns its answer
// as TabSeparated.
func (s *Server) Query(statement string) string {
	s.tb.Helper()
	text, err := s.Try(statement)
	if err != nil {
		s.tb.Fatal(err)
	}
	return text
}

// Try is Query with an error.
func (s *Server) Try(statement string) (string, error) {
	res, err := http.Post("http://"+s.HTTP+"/", "text/plain", strings.NewReader(statement))
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", &queryError{statement, strings.TrimSpace(string(body))}
	}
	return strings.TrimRight(string(body), "\n"), nil
}

type queryError struct{ statement, text string }

func (e *queryError) Error() string { return e.text + "\nof: " + e.statement }

// Count is Query for one number.
func (s *Server) Count(statement string) uint64 {
	s.tb.Helper()
	text := s.Query(statement)
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		s.tb.Fatalf("%s: %q is no number", statement, text)
	}
	return n
}

// Fault switches a fault on; settings are name and value in turn.
func (s *Server) Fault(mode string, settings ...string) {
	s.tb.Helper()
	q := url.Values{"mode": {mode}}
	for i := 0; i+1 < len(settings); i += 2 {
		q.Set(settings[i], settings[i+1])
	}
	res, err := http.Post("http://"+s.HTTP+"/chtestd/fault?"+q.Encode(), "", nil)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		s.tb.Fatalf("fault %s: %s: %s", mode, res.Status, text)
	}
}

// Hits is how many statements the fault has hit.
func (s *Server) Hits() int {
	s.tb.Helper()
	res, err := http.Get("http://" + s.HTTP + "/chtestd/fault")
	if err != nil {
		s.tb.Fatal(err)
	}
	defer res.Body.Close()
	var f struct{ Hit int }
	if err := json.NewDecoder(res.Body).Decode(&f); err != nil {
		s.tb.Fatal(err)
	}
	return f.Hit
}
