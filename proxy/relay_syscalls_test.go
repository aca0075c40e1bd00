package proxy

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The environment of a test binary that is to be the relay, see TestMain.
const (
	envUpstream = "STREAMRELAY_TEST_UPSTREAM"
	envCarrier  = "STREAMRELAY_TEST_CARRIER"
)

// TestWritesPerEvent counts the writes to the client's socket: one for each
// event, the head with the first, the end with the last, and one for whatever
// came together.
func TestWritesPerEvent(t *testing.T) {
	for _, c := range []struct {
		name    string
		pace    pace
		carrier string
		request []byte
		writes  int64
	}{
		{"an event at a time", lockstep, "reader", streamRequest, streamEvents + 1},
		{"an event at a time, the head alone", headFirst, "reader", streamRequest, streamEvents + 2},
		{"all together", burst, "reader", streamRequest, 1},
		{"JSON", oneDocument, "reader", jsonRequest, 1},
		{"JSON, whatever the carrier", oneDocument, "writer", jsonRequest, 1},
		// The writer carrier's head and end are fasthttp's, by themselves.
		{"an event at a time, writer", lockstep, "writer", streamRequest, streamEvents + 1 + 2},
		{"an event at a time, the head alone, writer", headFirst, "writer", streamRequest, streamEvents + 1 + 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newProvider(t, c.pace)
			l := relayTo(t, v, c.carrier)
			u := newUser(t, l.Addr().String())
			for range 3 {
				writes, reads := l.writes.Load(), v.reads.Load()
				u.ask(t, c.request, v)
				if got := l.writes.Load() - writes; got != c.writes {
					t.Errorf("%d writes to the client, want %d", got, c.writes)
				}
				if got := v.reads.Load() - reads; got != 1 {
					t.Errorf("the upstream read the request in %d pieces", got)
				}
			}
		})
	}
}

// TestSystemCallsPerEvent runs the relay as a process of its own under strace
// and counts its reads and writes on TCP sockets, each with the side it was on.
func TestSystemCallsPerEvent(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed: apt-get install strace to have the relay's system calls counted")
	}
	if raceEnabled || testing.Short() {
		t.Skip("strace makes it slow, and the race detector slower: run go test without -race and -short")
	}
	for _, c := range []struct {
		name             string
		pace             pace
		request          []byte
		times            int
		down, up, events int // writes of each exchange, and its events
	}{
		{"stream, an event at a time", lockstep, streamRequest, 5, streamEvents + 1, 1, streamEvents + 1},
		{"stream, all together", burst, streamRequest, 20, 1, 1, 1},
		{"JSON", oneDocument, jsonRequest, 50, 1, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newProvider(t, c.pace)
			r := traced(t, strace, v.addr)
			u := newUser(t, r.addr)
			u.ask(t, c.request, v) // the connections are there
			before := r.calls(t)   // but for what strace has not written yet
			for range c.times - 1 {
				u.ask(t, c.request, v)
			}
			u.nc.Close()
			r.end(t)
			got := r.calls(t) // it reads and writes no socket at its start
			got.startedWith(before)
			if got.down != c.times*c.down || got.up != c.times*c.up {
				t.Errorf("%d writes to the client and %d to the upstream in %d exchanges, want %d and %d", got.down, got.up, c.times, c.times*c.down, c.times*c.up)
			}
			n := float64(c.times * c.events)
			t.Logf("per event: %.2f writes down, %.2f up; reads of sockets %.2f, of which %.2f found nothing; other calls: %s",
				float64(got.down)/n, float64(got.up)/n, float64(got.reads)/n, float64(got.empty)/n, got.others(n))
		})
	}
}

// tracedRelay is a relay under strace.
type tracedRelay struct {
	addr, upstream, log string
	cmd                 *exec.Cmd
	stdin               io.WriteCloser
	done                chan error
	ended               bool
}

// traced starts one in front of upstream; it ends with the test.
func traced(t *testing.T, strace, upstream string) *tracedRelay {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &tracedRelay{upstream: upstream, log: filepath.Join(t.TempDir(), "strace"), done: make(chan error, 1)}
	r.cmd = exec.Command(strace, "-f", "-yy", "-s", "0", "-o", r.log, self)
	r.cmd.Env = append(os.Environ(), envUpstream+"="+upstream, envCarrier+"=reader")
	r.cmd.Stderr = os.Stderr
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Skipf("strace does not start here: %v", err)
	}
	lines := make(chan string, 1)
	go func() {
		b := bufio.NewReader(out)
		for {
			line, err := b.ReadString('\n')
			if addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on "); ok {
				lines <- addr
			}
			if err != nil {
				close(lines)
				r.done <- r.cmd.Wait()
				return
			}
		}
	}()
	t.Cleanup(func() { r.end(t) })
	select {
	case addr, ok := <-lines:
		if !ok {
			r.ended = true
			t.Skipf("strace cannot trace here: %v", <-r.done)
		}
		r.addr = addr
	case <-time.After(patience):
		t.Fatal("the relay does not start under strace")
	}
	return r
}

// end lets the relay end; then all its calls are in the log.
func (r *tracedRelay) end(t *testing.T) {
	if r.ended {
		return
	}
	r.ended = true
	r.stdin.Close()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("the relay ended with %v", err)
		}
	case <-time.After(patience):
		_ = r.cmd.Process.Kill()
		<-r.done
		t.Error("the relay did not end")
	}
}

// calls are system calls as strace saw them.
type calls struct {
	down, up     int // writes to the client and to the upstream
	reads, empty int // of sockets; those that found nothing
	other        map[string]int
}

var (
	callLine = regexp.MustCompile(`^\d+ +(?:[\d.]+ )?([a-z_0-9]+)\((.*)$`)
	socketFD = regexp.MustCompile(`^\d+<(?:TCP|TCPv6):\[([^\]]*|\[.*\].*)\]>`)
)

// calls reads the log so far.
func (r *tracedRelay) calls(t *testing.T) (c calls) {
	t.Helper()
	f, err := os.Open(r.log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c.other = make(map[string]int)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		m := callLine.FindStringSubmatch(lines.Text())
		if m == nil { // a result, a signal, a thread that ends
			if strings.Contains(lines.Text(), "read resumed") && strings.Contains(lines.Text(), "EAGAIN") {
				c.empty++
			}
			continue
		}
		name, args := m[1], m[2]
		ends := socketFD.FindStringSubmatch(args)
		switch {
		case ends == nil || name != "read" && name != "write":
			c.other[name]++
		case name == "read":
			c.reads++
			if strings.Contains(args, "EAGAIN") {
				c.empty++
			}
		case strings.Contains(ends[1], r.upstream):
			c.up++
		default:
			c.down++
		}
	}
	return c
}

// startedWith takes out the other calls that were before.
func (c *calls) startedWith(before calls) {
	for name, n := range before.other {
		c.other[name] -= n
	}
}

// others lists the other calls that there is at least one of in ten events.
func (c calls) others(events float64) string {
	var list []string
	for name, n := range c.other {
		if per := float64(n) / events; per >= 0.1 {
			list = append(list, fmt.Sprintf("%s %.2f", name, per))
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
