package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// with starts a provider and a peer, runs a command with their addresses in its
// environment, and ends them.
func with(ctx context.Context, s *settings, dir string) error {
	e := &env{settings: s, dir: dir}
	defer e.stop()
	if err := e.startProvider(ctx); err != nil {
		return err
	}
	p, err := peers[s.with](ctx, e)
	if err != nil {
		return fmt.Errorf("start %s: %w", s.with, err)
	}
	cmd := exec.CommandContext(ctx, s.command[0], s.command[1:]...)
	cmd.Env = append(os.Environ(), "URL=http://"+p.addr, "KEY="+clientKey, "RELAY_BENCH_KEY="+clientKey, "DIRECT="+e.providerURL(), "PID="+strconv.Itoa(p.pid), "ADMIN="+p.admin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", s.command[0], err)
	}
	return nil
}
