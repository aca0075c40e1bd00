package process

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"streamrelay/configs/porttest"
)

// onSocket is a relay whose standard output the test has to itself, so that its
// address must be known beforehand: a socket. It has no admin listener.
func onSocket(t testing.TB, provider, sections string, change func(*exec.Cmd)) *relay {
	t.Helper()
	dir, key := setUp(t, provider, "listen: unix:relay.sock\nadmin: {listen: \"\"}\n"+sections)
	r := &relay{dir: dir, key: key, addr: "unix:" + filepath.Join(dir, "relay.sock")}
	r.process = start(t, dir, change, binary, "serve")
	r.client = clientOf(t, r.addr)
	eventually(t, "it serves", func() bool {
		res, err := r.do("GET", "/readyz", "", "")
		if err == nil {
			res.Body.Close()
		}
		return err == nil && res.StatusCode == 200
	})
	return r
}

// publicMetrics scrapes a relay without an admin listener.
func (r *relay) publicMetrics() map[string]float64 {
	r.t.Helper()
	res, err := r.do("GET", "/metrics", "", "")
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return parseMetrics(r.t, string(text))
}

const dropped = "relay_log_lines_dropped_total"

// TestFullDiskUnderTheLogDoesNotStopForwarding: lines that cannot be written
// are counted.
func TestFullDiskUnderTheLogDoesNotStopForwarding(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("no /dev/full on this system: %v", err)
	}
	defer full.Close()
	r := onSocket(t, simulate(t), "", stdoutTo(full))
	eventually(t, "lines are counted as dropped", func() bool {
		if got := r.status(r.key); got != 200 {
			t.Fatalf("status %d", got)
		}
		return r.publicMetrics()[dropped] > 3
	})
	r.signal(sigterm)
	r.mustExit(0)
}

// TestClosedStdoutDoesNotEndTheRelay: whoever read the log has gone.
func TestClosedStdoutDoesNotEndTheRelay(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	up := holdStreams(t)
	r := onSocket(t, up.addr, "", stdoutTo(writer))
	writer.Close()
	res := r.stream()
	defer res.Body.Close()
	reader.Close() // the relay's is the only end left
	eventually(t, "lines are counted as dropped", func() bool {
		got, err := r.do("GET", "/v1/models", r.key, "")
		if err != nil {
			t.Fatalf("after its standard output was closed: %v; running: %t, %v", err, r.running(), r.cmd.ProcessState)
		}
		got.Body.Close()
		return r.publicMetrics()[dropped] > 0
	})
	up.letGo()
	if data, err := eventsOf(res.Body).rest(); err != errEnd || len(data) != 3 {
		t.Errorf("the stream that was open: %q, then %v", data, err)
	}
	r.signal(sigterm)
	r.mustExit(0)
}

// TestStuckStdoutDoesNotStopForwarding: nobody reads the log, and the pipe and
// the buffers before it are full.
func TestStuckStdoutDoesNotStopForwarding(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	r := onSocket(t, simulate(t), "", stdoutTo(writer))
	path := "/v1/models/" + strings.Repeat("x", 500) // makes lines long
	for n := 0; r.publicMetrics()[dropped] == 0; n++ {
		if n == 100 {
			t.Fatal("no line was dropped")
		}
		for range 200 {
			res, err := r.do("GET", path, "", "") // refused: needs no upstream
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != 401 {
				t.Fatalf("status %d", res.StatusCode)
			}
		}
	}
	if got := r.status(r.key); got != 200 {
		t.Errorf("status %d", got)
	}
	r.signal(sigterm)
	go io.Copy(io.Discard, reader) // ends with reader's close
	r.mustExit(0)
}

// TestKill9BreaksStreamsAndLeavesNothingInTheWay: the client must see that its
// answer was cut, and the next relay takes the place.
func TestKill9BreaksStreamsAndLeavesNothingInTheWay(t *testing.T) {
	t.Parallel()
	up := holdStreams(t)
	r := startRelay(t, up.addr, "listen: "+porttest.FreeAddress(t)+"\n")
	res := r.stream()
	defer res.Body.Close()
	ev := eventsOf(res.Body)
	if _, err := ev.next(); err != nil {
		t.Fatal(err)
	}
	r.signal(syscall.SIGKILL)
	if data, err := ev.rest(); err == errEnd || len(data) > 0 {
		t.Errorf("after kill -9 the stream goes on with %q and ends with %v", data, err)
	}
	if code := r.exit(); code != -1 {
		t.Errorf("exit code %d", code)
	}
	if err := <-up.ended; err == nil {
		t.Error("the provider was let finish")
	}
	again := serve(t, r.dir, r.key)
	if got := again.status(r.key); got != 200 {
		t.Errorf("after the restart: status %d", got)
	}
	up.letGo()
	second := again.stream()
	defer second.Body.Close()
	if _, err := eventsOf(second.Body).rest(); err != errEnd {
		t.Errorf("a stream after the restart ends with %v", err)
	}
}

// TestSurvivesWithFewDescriptors: many more clients than 64 descriptors can
// take, with the limit that follows from them and with one that promises too
// much. Whoever is turned away is told so, and when they have gone the relay
// serves as before.
func TestSurvivesWithFewDescriptors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ limits, counter string }{
		"own limit":            {"", `relay_rejected_total{reason="connections"}`},
		"limit above the real": {"limits: {max_connections: 100000}\n", "relay_accept_errors_total"},
	} {
		t.Run(name, func(t *testing.T) {
			up := holdStreams(t)
			dir, key := setUp(t, up.addr, "listen: unix:relay.sock\nadmin: {listen: \"\"}\n"+c.limits)
			sh, args := shell(`ulimit -n 64; exec "$1" serve`)
			r := &relay{dir: dir, key: key, addr: "unix:" + filepath.Join(dir, "relay.sock"), process: start(t, dir, nil, sh, args...)}
			r.await(r.stdout, `"message":"serving"`)
			r.client = clientOf(t, r.addr)

			const clients = 200
			var wg sync.WaitGroup
			var mu sync.Mutex
			outcomes := map[string]int{}
			first := make(chan struct{}, clients)
			for range clients {
				wg.Go(func() {
					outcome := r.oneStream(t, first)
					mu.Lock()
					outcomes[outcome]++
					mu.Unlock()
				})
			}
			<-first // a stream is open
			eventually(t, "clients are turned away", func() bool {
				for _, line := range r.log() {
					if strings.Contains(fmt.Sprint(line["error"]), "too many open files") {
						return true
					}
				}
				mu.Lock()
				defer mu.Unlock()
				return outcomes["503"] > 0
			})
			up.letGo()
			wg.Wait()
			t.Logf("outcomes: %v", outcomes)
			if outcomes["whole"] == 0 {
				t.Error("not one stream came through")
			}
			for outcome, n := range outcomes {
				switch outcome {
				case "whole", "503", "502", "broken before an answer":
				default:
					t.Errorf("%d streams ended as: %s", n, outcome)
				}
			}
			if !r.running() {
				t.Fatalf("the process has ended: %v", r.cmd.ProcessState)
			}
			eventually(t, "it serves as before", func() bool { return r.oneStream(t, nil) == "whole" })
			if m := r.publicMetrics(); m[c.counter] == 0 {
				t.Errorf("%s is 0", c.counter)
			}
			r.signal(sigterm)
			r.mustExit(0)
			r.checkOutput()
		})
	}
}

// oneStream opens a stream on a connection of its own and says how it went. A
// token goes to first with the first event.
func (r *relay) oneStream(t testing.TB, first chan<- struct{}) string {
	path := strings.TrimPrefix(r.addr, "unix:")
	client := http.Client{Timeout: 3 * patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	req, err := http.NewRequest("POST", "http://relay/v1/chat/completions", strings.NewReader(streamBody))
	if err != nil {
		t.Error(err)
		return "no request"
	}
	req.Header.Set("Authorization", "Bearer "+r.key)
	res, err := client.Do(req)
	if err != nil {
		return "broken before an answer"
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		_, _ = io.Copy(io.Discard, res.Body)
		return fmt.Sprint(res.StatusCode)
	}
	ev := eventsOf(res.Body)
	if data, err := ev.next(); err != nil {
		return fmt.Sprintf("200 without an event: %q, %v", data, err)
	}
	if first != nil {
		select {
		case first <- struct{}{}:
		default:
		}
	}
	if data, err := ev.rest(); err != errEnd || len(data) != 2 {
		return fmt.Sprintf("cut after the first event: %q, %v", data, err)
	}
	return "whole"
}
