package process

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience ends a test that would otherwise hang. No test asserts a time.
const patience = 30 * time.Second

// process is a started binary. Its methods may be called from the test's
// goroutine alone.
type process struct {
	t              testing.TB
	cmd            *exec.Cmd
	stdout, stderr *output
	ended          chan struct{} // closed when it has ended and all that it printed is there
}

// environment is what every child gets: nothing that could lead it out of the
// machine, such as a provider's key.
func environment(more ...string) []string {
	env := []string{"NO_PROXY=*"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCACHE", "GOMODCACHE", "GOPATH", "GOFLAGS", "GOPROXY", "GOSUMDB", "GOTOOLCHAIN", "PGO"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	if raceEnabled { // a race ends the child, and so fails the test
		env = append(env, "GORACE=halt_on_error=1 atexit_sleep_ms=20")
	}
	return append(env, more...)
}

// start runs a command in dir. change may alter it before it starts; nil:
// nothing. The process is killed with the test, if it still runs.
func start(t testing.TB, dir string, change func(*exec.Cmd), name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, stdout: newOutput(), stderr: newOutput(), ended: make(chan struct{})}
	p.cmd = exec.Command(name, args...)
	p.cmd.Dir, p.cmd.Env = dir, environment()
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if change != nil {
		change(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s %s: %v", name, strings.Join(args, " "), err)
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState has it
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// signal sends sig.
func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("send %v: %v", sig, err)
	}
}

// running reports whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// exit waits for the process's end and returns its code, -1 where a signal
// ended it.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("the process has not ended; stdout:\n%s\nstderr:\n%s", p.stdout, p.stderr)
	}
	return p.cmd.ProcessState.ExitCode()
}

// mustExit fails the test where the process ends with another code.
func (p *process) mustExit(code int) {
	p.t.Helper()
	if got := p.exit(); got != code {
		p.t.Errorf("exit code %d (%v), want %d; stdout:\n%s\nstderr:\n%s", got, p.cmd.ProcessState, code, p.stdout, p.stderr)
	}
}

// await waits until o holds text.
func (p *process) await(o *output, text string) {
	p.t.Helper()
	limit := time.After(patience)
	for {
		more := o.more()
		if strings.Contains(o.String(), text) {
			return
		}
		select {
		case <-more:
		case <-p.ended:
			if !strings.Contains(o.String(), text) {
				p.t.Fatalf("ended (%v) without %q; stdout:\n%s\nstderr:\n%s", p.cmd.ProcessState, text, p.stdout, p.stderr)
			}
		case <-limit:
			p.t.Fatalf("not in time: %q; stdout:\n%s\nstderr:\n%s", text, p.stdout, p.stderr)
		}
	}
}

// result is what a command that has ended left behind.
type result struct {
	code           int
	stdout, stderr string
}

// run runs the relay in dir to its end.
func run(t testing.TB, dir string, args ...string) result {
	t.Helper()
	return runIn(t, dir, nil, nil, args...)
}

// runIn is run with standard input and further variables.
func runIn(t testing.TB, dir string, stdin io.Reader, env []string, args ...string) result {
	t.Helper()
	p := start(t, dir, func(c *exec.Cmd) { c.Stdin, c.Env = stdin, environment(env...) }, binary, args...)
	code := p.exit()
	return result{code, p.stdout.String(), withoutLibrary(p.stderr.String())}
}

// withoutLibrary takes out the one line that is not the relay's: the metrics
// library prints it before main where the kernel has no pressure information.
func withoutLibrary(stderr string) string {
	var b strings.Builder
	for line := range strings.Lines(stderr) {
		if !strings.Contains(line, "INFO: metrics: disable exposing PSI metrics") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// firstLine is the first line of s.
func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// output is what a process prints; safe for concurrent use.
type output struct {
	mu   sync.Mutex
	b    bytes.Buffer
	came chan struct{} // closed and made anew with each write
}

func newOutput() *output { return &output{came: make(chan struct{})} }

const maxOutput = 16 << 20

var errTooMuch = errors.New("the process prints too much")

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.b.Len()+len(p) > maxOutput {
		return 0, errTooMuch
	}
	close(o.came)
	o.came = make(chan struct{})
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// more is closed with the next write.
func (o *output) more() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.came
}

// eventually polls ok until it holds; what names it in the failure.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// tempDir is a folder with a path short enough for a socket in it.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "relay-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
