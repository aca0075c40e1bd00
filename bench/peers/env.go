package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"streamrelay/bench/load"
)

// The key that clients present, and the one that the provider takes: a peer
// that does not swap them gets nothing but 401.
const (
	clientKey   = "sk-relay-bench-client-key-0123456789"
	providerKey = "sk-provider-0123456789"
)

// env is what one turn started.
type env struct {
	settings *settings
	dir      string
	tls      bool
	provider *child
	upstream string // the provider's address
	ca       string // file with the provider's certificate, under tls
	children []*child
}

// peer is a proxy that is ready; the direct one has no process.
type peer struct {
	addr      string
	ca        string // certificate of one that speaks TLS, which is the provider itself; "": HTTP
	admin     string // the relay's admin listener, a socket; "": another peer
	pid       int
	asksUsage bool // it asks the provider for usage by itself and takes the usage event out
}

// child is a process of ours.
type child struct {
	cmd  *exec.Cmd
	log  string // file with both output streams
	done chan struct{}
	err  error
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// start runs a program in the turn's folder. It ends with the turn.
func (e *env) start(path string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(path, args...), done: make(chan struct{})}
	c.cmd.Dir = e.dir
	// A file, not a pipe: a log line must not wake this process.
	c.log = filepath.Join(e.dir, fmt.Sprintf("%d-%s.log", len(e.children), filepath.Base(path)))
	out, err := os.Create(c.log)
	if err != nil {
		return nil, fmt.Errorf("make a log file: %w", err)
	}
	defer out.Close()
	c.cmd.Stdout, c.cmd.Stderr = out, out
	// Nothing is left behind should this process be killed.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	e.children = append(e.children, c)
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// stop ends what was started, the last first: SIGTERM, and after 3 s SIGKILL to
// the whole group.
func (e *env) stop() {
	for i := len(e.children) - 1; i >= 0; i-- {
		c := e.children[i]
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-c.done:
		case <-time.After(3 * time.Second):
			_ = syscall.Kill(-c.pid(), syscall.SIGKILL)
			<-c.done
		}
	}
}

// ready waits until something answers at addr, or the child has ended.
func (c *child) ready(ctx context.Context, addr string) error {
	for {
		nc, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return nc.Close()
		}
		select {
		case <-c.done:
			said, _ := os.ReadFile(c.log)
			return fmt.Errorf("%s ended at once (%v): %s", c.cmd.Path, c.err, bytes.TrimSpace(said))
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s: %w", c.cmd.Path, addr, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// freeAddr is an address that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (e *env) startProvider(ctx context.Context) (err error) {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if e.upstream, err = freeAddr(); err != nil {
		return err
	}
	args := []string{"as-provider", "--listen", e.upstream, "--ttft", "0", "--gap", "0"}
	if e.tls {
		e.ca = filepath.Join(e.dir, "ca.pem")
		args = append(args, "--tls", "--tls-ca-out", e.ca)
	}
	if e.provider, err = e.start(self, args...); err != nil {
		return err
	}
	return e.provider.ready(ctx, e.upstream)
}

func (e *env) providerURL() string {
	if e.tls {
		return "https://" + e.upstream
	}
	return "http://" + e.upstream
}

// load runs a job in a process of its own.
func (e *env) load(ctx context.Context, job load.Job) (res load.Result, err error) {
	self, err := os.Executable()
	if err != nil {
		return res, fmt.Errorf("find this program: %w", err)
	}
	in, err := json.Marshal(job)
	if err != nil {
		return res, fmt.Errorf("encode the job: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, "as-load")
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
		}
		return res, fmt.Errorf("load generator: %w", err)
	}
	if err := json.Unmarshal(out, &res); err != nil {
		return res, fmt.Errorf("load generator's result: %w", err)
	}
	return res, nil
}
