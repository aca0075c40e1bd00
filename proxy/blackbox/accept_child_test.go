package blackbox

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"streamrelay/auth"
	"streamrelay/configs"
	"streamrelay/proxy"
	"streamrelay/telemetry"
)

// A test that needs a process of its own runs this test binary again, with
// childMode saying what it is to be.
const (
	childMode   = "RELAY_BLACKBOX_CHILD"
	childConfig = "RELAY_BLACKBOX_CONFIG"
	childFiles  = "RELAY_BLACKBOX_NOFILE"
)

// TestChildProcess is that process; in any other it does nothing.
func TestChildProcess(t *testing.T) {
	mode := os.Getenv(childMode)
	if mode == "" {
		return
	}
	if n, _ := strconv.ParseUint(os.Getenv(childFiles), 10, 64); n > 0 {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			t.Fatal(err)
		}
	}
	switch mode {
	case "serve":
		cmd := proxy.ServeCommand(proxy.Build{Version: "test", Revision: "test"})
		cmd.SetArgs([]string{"--config", os.Getenv(childConfig)})
		if err := cmd.Execute(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		servePanicking(t, mode)
	}
	os.Exit(0)
}

// servePanicking serves with something that panics in a place without a net
// under it: the key table, which is asked for before any handler runs, or the
// readiness function.
func servePanicking(t *testing.T, mode string) {
	cfg, err := configs.Parse("child", []byte("admin: {listen: \"\"}\nupstreams: [{name: a, dialect: openai, base_url: \"http://127.0.0.1:1/v1\", credentials: [{value: k}]}]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	log := telemetry.NewLog(os.Stdout, "info")
	o := proxy.Options{
		Config: cfg, Keys: auth.NewStatic(key("k1", testKey, "acme")), Log: log,
		Telemetry: telemetry.New(telemetry.Options{Endpoints: proxy.EndpointNames(), Upstreams: []string{"a"}, Access: true, Log: log}),
	}
	switch mode {
	case "panic in admission":
		o.Keys = nil
	case "panic in readiness":
		o.Ready = func() error { panic("readiness") }
	}
	srv, err := proxy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log.Info().Stringer("listen", ln.Addr()).Msg("serving")
	_ = srv.Serve(ln)
}

// child is such a process.
type child struct {
	relay
	admin string
	cmd   *exec.Cmd
	ended chan error
}

// startChild starts a child and waits until it serves. files 0: the limit on
// descriptors stays.
func startChild(t *testing.T, mode, config string, files int) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChildProcess$", "-test.v=false")
	cmd.Env = append(os.Environ(), childMode+"="+mode, childConfig+"="+config, childFiles+"="+strconv.Itoa(files))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{relay: relay{t: t, log: new(logBuffer)}, cmd: cmd, ended: make(chan error, 1)}
	cmd.Stderr = c.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	serving := make(chan [2]string, 1)
	go func() {
		lines := bufio.NewScanner(io.TeeReader(out, c.log))
		for lines.Scan() {
			var line struct{ Message, Listen, Admin string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Message == "serving" {
				serving <- [2]string{line.Listen, line.Admin}
			}
		}
		c.ended <- cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-c.ended:
		case <-time.After(patience):
			t.Error("the child does not end")
			_ = cmd.Process.Kill()
			<-c.ended
		}
		if t.Failed() {
			t.Logf("the child's output:\n%s", c.log)
		}
	})
	select {
	case a := <-serving:
		c.addr, c.admin = a[0], a[1]
	case err := <-c.ended:
		c.ended <- err
		t.Fatalf("the child ended: %v\n%s", err, c.log)
	case <-time.After(patience):
		t.Fatalf("the child does not serve:\n%s", c.log)
	}
	return c
}

// alive fails the test when the child has ended.
func (c *child) alive() {
	c.t.Helper()
	select {
	case err := <-c.ended:
		c.ended <- err
		c.t.Fatalf("the child ended: %v", err)
	default:
	}
}

// childFile writes a configuration with a keys file that holds testKey, and
// returns its path. more is YAML with %s for the folder.
func childFile(t *testing.T, up *upstream, more string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := auth.KeysCommand()
	cmd.SetArgs([]string{"import", "-", "--name", "k1", "--tenant", "acme", "--file", filepath.Join(dir, "keys.yaml")})
	cmd.SetIn(strings.NewReader(testKey + "\n"))
	cmd.SetOut(io.Discard)
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "relay.yaml")
	yaml := "listen: 127.0.0.1:0\nrequest_log: {dir: " + strconv.Quote(filepath.Join(dir, "request-log")) + "}\nkeys: {state_file: \"\", file: " + strconv.Quote(filepath.Join(dir, "keys.yaml")) + "}\n" + upstreamsYAML(up, "") + strings.ReplaceAll(more, "%s", dir)
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRelayOutlivesALackOfDescriptors(t *testing.T) {
	up := newUpstream(t, func(rq *received) { rq.reply(200, "{}") })
	c := startChild(t, "serve", childFile(t, up, "admin: {listen: \"\"}\nlimits: {max_connections: 100000}\n"), 64)
	first := c.dial()
	get := func(cl *client, path string) *answer {
		cl.send(request("GET", path, ""))
		return cl.answer()
	}
	if a := get(first, "/v1/models"); a.status != 200 {
		t.Fatalf("status %d", a.status)
	}
	var crowd []net.Conn
	for range 200 {
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, conn)
	}
	eventually(t, "accepts fail", func() bool {
		return strings.Contains(string(get(first, "/metrics").body), "\nrelay_accept_errors_total ") && !strings.Contains(string(get(first, "/metrics").body), "\nrelay_accept_errors_total 0\n")
	})
	c.alive()
	if a := get(first, "/healthz"); a.status != 200 {
		t.Errorf("status %d while there are no descriptors", a.status)
	}
	// The upstream's connection is kept, but a second at once cannot be had.
	if a := get(first, "/v1/models"); a.status != 200 && a.status != 502 {
		t.Errorf("status %d while there are no descriptors", a.status)
	}
	for _, conn := range crowd {
		_ = conn.Close()
	}
	eventually(t, "a new connection is served", func() bool {
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			return false
		}
		defer conn.Close()
		cl := newClient(t, conn)
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := io.WriteString(conn, request("GET", "/v1/models", "")); err != nil {
			return false
		}
		a, err := cl.tryBegin("GET")
		return err == nil && a.status == 200
	})
	c.alive()
}

func TestConnectionsAreBoundedByTheDescriptorsThereAre(t *testing.T) {
	up := untouched(t)
	c := startChild(t, "serve", childFile(t, up, "admin: {listen: \"\"}\n"), 100) // 45 of them
	var open []*client
	served, shed := 0, 0
	for range 60 {
		cl := c.dial()
		open = append(open, cl)
		cl.send(request("GET", "/healthz", ""))
		a := cl.answer()
		switch {
		case a.status == 200:
			served++
		case a.status == 503 && a.get("Retry-After") == "1":
			shed++
		default:
			t.Fatalf("%s", a.head)
		}
	}
	if served != 45 || shed != 15 {
		t.Errorf("%d served and %d shed, want 45 and 15", served, shed)
	}
	for _, cl := range open {
		_ = cl.Close()
	}
}

func TestAPanicEndsOneExchangeAndNotTheProcess(t *testing.T) {
	for mode, raw := range map[string]string{
		"panic in admission": post("/v1/chat/completions", chatPlain),
		"panic in readiness": "GET /readyz HTTP/1.1\r\nHost: relay\r\n\r\n",
	} {
		t.Run(mode, func(t *testing.T) {
			c := startChild(t, mode, "", 0)
			for range 3 {
				_, a := c.speak(t, raw)
				if a == nil || a.status != 500 {
					t.Errorf("%+v, want 500", a)
				} else if mode == "panic in admission" {
					checkError(t, a, "openai", wantError{status: 500, typ: "server_error", code: "internal_error", close: true})
				}
			}
			c.alive()
			if n := c.metrics()["relay_panics_total"]; n < 3 {
				t.Errorf("%v panics counted", n)
			}
			// The answer can overtake the log, which comes through a pipe.
			eventually(t, "a stack is in the log", func() bool {
				log := c.log.String()
				return strings.Contains(log, "panic") && strings.Contains(log, ".go:")
			})
		})
	}
}
