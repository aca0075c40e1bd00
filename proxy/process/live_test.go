package process

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"streamrelay/telemetry/live"
)

func TestTheLivePageAgreesWithTheMetrics(t *testing.T) {
	t.Parallel()
	r := startRelay(t, simulate(t, "--ttft", "1ms", "--gap", "1ms", "--events", "4"), "")
	for i := range 20 {
		key := r.key
		if i%5 == 0 {
			key = "sk-nobody"
		}
		res, err := r.do("POST", "/v1/chat/completions", key, streamBody)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	var s live.Snapshot
	eventually(t, "the second of the last request", func() bool {
		_, body := get(t, r.admin, "/live/state")
		s = live.Snapshot{}
		if err := json.Unmarshal(body, &s); err != nil {
			t.Fatal(err)
		}
		return s.Totals.Requests == 20
	})
	_, series := r.scrape()
	for end, n := range map[string]uint64{"completed": 16, "denied": 4} {
		if got := series[fmt.Sprintf("relay_end_reasons_total{reason=%q}", end)]; got != float64(n) || s.Totals.Ends[end] != n {
			t.Errorf("%s: %v in the metrics, %d on the page, want %d", end, got, s.Totals.Ends[end], n)
		}
	}
	var tokens float64
	for name, v := range series {
		if strings.HasPrefix(name, "relay_tokens_total{") && strings.Contains(name, `type="output"`) {
			tokens += v
		}
	}
	if float64(s.Totals.TokensOut) != tokens || tokens == 0 {
		t.Errorf("tokens out: %d on the page, %v in the metrics", s.Totals.TokensOut, tokens)
	}
	if s.Log.Kind != "files" || s.Log.Appended != 20 || s.Keys.Store != "file" || s.Keys.Keys != 1 || len(s.Upstreams) != 1 || s.Upstreams[0].Name != "sim" ||
		s.Upstreams[0].TotalRequests != 16 || s.Upstreams[0].Connections == 0 || !s.Relay.Ready || !s.Relay.Reload.OK || len(s.Requests) != 20 || s.Requests[19].Upstream != "sim" {
		t.Errorf("the page has %+v", s)
	}
	if header, body := get(t, r.admin, "/"); !bytes.Contains(body, []byte("<title>Stream Relay</title>")) || header.Get("Content-Security-Policy") == "" {
		t.Errorf("/ is %.100s", body)
	}
	text := run(t, r.dir, "top", "--url", "http://"+r.admin, "--once")
	if text.code != 0 || !strings.Contains(text.stdout, "Requests 20") || strings.Contains(text.stdout, upstreamKey) {
		t.Errorf("relay top prints %s%s", text.stdout, text.stderr)
	}
}

// get asks the admin listener.
func get(t testing.TB, admin, path string) (http.Header, []byte) {
	t.Helper()
	res, err := http.Get("http://" + admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%s: status %d, %v: %s", path, res.StatusCode, err, body)
	}
	return res.Header, body
}

func TestAnOpenLivePageDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	r := startRelay(t, simulate(t), "shutdown: {lame_duck: 0s}\n")
	res, err := http.Get("http://" + r.admin + "/live/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if first, err := eventsOf(res.Body).next(); err != nil || !strings.HasPrefix(first, `{"seq":`) {
		t.Fatalf("the first event is %.80s, %v", first, err)
	}
	r.signal(syscall.SIGTERM)
	r.mustExit(0)
	if _, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Error("the page's stream has a clean end, which a client would take for the relay's word")
	}
}

func TestTopPutsTheTerminalBack(t *testing.T) {
	t.Parallel()
	r := startRelay(t, simulate(t), "")
	for how, end := range map[string]func(*process, *os.File){
		"q":       func(_ *process, keys *os.File) { _, _ = keys.WriteString("q") },
		"Ctrl-C":  func(_ *process, keys *os.File) { _, _ = keys.WriteString("\x03") },
		"SIGTERM": func(p *process, _ *os.File) { p.signal(syscall.SIGTERM) },
	} {
		t.Run(how, func(t *testing.T) {
			keys, terminal := openTerminal(t)
			before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			p := start(t, r.dir, func(c *exec.Cmd) {
				c.Stdin, c.Stdout = terminal, terminal
				c.Env = environment("TERM=xterm", "NO_COLOR=1")
				c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			}, binary, "top", "--url", "http://"+r.admin)
			shown := newOutput()
			go func() { _, _ = io.Copy(shown, keys) }() // ends with the terminal
			p.await(shown, "q quit")
			end(p, keys)
			p.mustExit(0)
			eventually(t, "the screen of before", func() bool { return strings.HasSuffix(shown.String(), "\x1b[?7h\x1b[?25h\x1b[?1049l") })
			after, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
			if err != nil || *after != *before {
				t.Errorf("the terminal is %+v, was %+v (%v)", after, before, err)
			}
			if text := shown.String(); !strings.HasPrefix(text, "\x1b[?1049h") || strings.Contains(text, "\x1b[1m") {
				t.Errorf("with NO_COLOR it writes %.200q", text)
			}
		})
	}
}

// openTerminal returns the two ends of a pseudo-terminal: keyboard and screen,
// and what a program gets.
func openTerminal(t *testing.T) (keys, terminal *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(keys.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		terminal.Close()
		keys.Close()
	})
	return keys, terminal
}
