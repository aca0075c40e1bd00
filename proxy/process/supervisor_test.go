package process

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUnderASupervisor plays systemd: it hands the public socket over, listens
// to what it is told, and lets a stream outlive its own patience.
func TestUnderASupervisor(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	said := make(chan string, 1000)
	go func() {
		defer close(said)
		buf := make([]byte, 4096)
		for {
			n, err := notify.Read(buf)
			if err != nil {
				return
			}
			said <- string(buf[:n])
		}
	}()
	hear := func(what string) string {
		t.Helper()
		limit := time.After(20 * time.Second)
		for {
			select {
			case s := <-said:
				if strings.Contains(s, what) {
					return s
				}
			case <-limit:
				t.Fatalf("not heard: %s", what)
			}
		}
	}

	// A provider that streams until it is told to end.
	end := make(chan struct{})
	provider := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")
		w.(http.Flusher).Flush()
		<-end
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})}
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = provider.Serve(at) }()
	defer provider.Close()

	config := "listen: 127.0.0.1:1\nadmin: {listen: \"\"}\nshutdown: {lame_duck: 100ms}\nupstreams:\n  - {name: p, base_url: \"http://" + at.Addr().String() + "/v1\", dialect: openai}\n"
	writeFile(t, filepath.Join(dir, "relay.yaml"), config)
	key := firstLine(run(t, dir, "keys", "create", "--name", "k").stdout)
	cmd := exec.Command("/bin/sh", "-c", `export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$0" serve`, binary)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=public", "WATCHDOG_USEC=200000", "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer cmd.Process.Kill()

	hear("READY=1")
	hear("WATCHDOG=1")
	hear("WATCHDOG=1")
	req, err := http.NewRequest("POST", "http://"+ln.Addr().String()+"/v1/chat/completions", strings.NewReader(`{"model":"m","stream":true,"messages":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r := bufio.NewReader(res.Body)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, `"a"`) {
		t.Fatalf("%d %q %v", res.StatusCode, line, err)
	}

	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if s := hear("RELOADING=1"); !strings.Contains(s, "MONOTONIC_USEC=") {
		t.Errorf("said %q", s)
	}
	hear("READY=1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	hear("STOPPING=1")
	for range 2 { // it goes on saying so
		if s := hear("EXTEND_TIMEOUT_USEC="); !strings.Contains(s, "STATUS=draining, 1 requests left") {
			t.Errorf("said %q", s)
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("ended within a stream: %v", err)
	default:
	}
	close(end)
	rest, err := io.ReadAll(r)
	if err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not end")
	}
	// The socket is the supervisor's still: another relay can serve it.
	if c, err := net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Errorf("the socket was closed for all: %v", err)
	} else {
		_ = c.Close()
	}
}
