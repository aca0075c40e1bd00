package proxy

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"streamrelay/telemetry"
)

// supervisor is systemd, where the process runs under it: sockets that it
// hands over, and what it is told (sd_notify(3)). Without it nothing happens.
type supervisor struct {
	log       *telemetry.Log
	inherited map[string][]net.Listener // by FileDescriptorName
}

// newSupervisor takes over the sockets that were handed over.
func newSupervisor(log *telemetry.Log) (*supervisor, error) {
	inherited, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("take over sockets (LISTEN_FDS): %w", err)
	}
	return &supervisor{log: log, inherited: inherited}, nil
}

// listener returns the socket of a name that was handed over, nil for none.
// The public one may have any name but admin's.
func (s *supervisor) listener(name string) net.Listener {
	if list := s.inherited[name]; len(list) > 0 && list[0] != nil {
		return list[0]
	}
	if name == "admin" {
		return nil
	}
	for other, list := range s.inherited {
		if other != "admin" && len(list) > 0 && list[0] != nil {
			return list[0]
		}
	}
	return nil
}

// tell sends a state; what goes wrong is a warning.
func (s *supervisor) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.WarnEvery("sd_notify", time.Minute).Err(err).Msg("tell systemd")
	}
}

// ready says that the relay serves.
func (s *supervisor) ready(status string) { s.tell(daemon.SdNotifyReady + "\nSTATUS=" + status) }

// reloading says that a reload has begun; ready ends it.
func (s *supervisor) reloading() {
	s.tell(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// drainBeat is how often systemd hears that a drain goes on, and for how long
// it then waits at least, so that TimeoutStopSec need not be as long.
const drainBeat = 5 * time.Second

// drainingUntil says that the relay stops and how many streams are left, until
// ctx is done.
func (s *supervisor) drainingUntil(ctx context.Context, left func() int64) {
	tick := time.NewTicker(drainBeat)
	defer tick.Stop()
	s.tell(daemon.SdNotifyStopping)
	for {
		s.tell("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(2*drainBeat.Microseconds(), 10) + fmt.Sprintf("\nSTATUS=draining, %d requests left", left()))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// watchdog tells systemd that the process is alive as long as probe says so,
// until ctx is done.
func (s *supervisor) watchdog(ctx context.Context, probe func() error) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		if err := probe(); err != nil {
			s.log.WarnEvery("watchdog", time.Minute).Err(err).Msg("the self-probe failed; systemd will restart the relay")
		} else {
			s.tell(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// probe sends a request for /healthz through the server, over a socket of its
// own: the public one may be shared with another process.
func (s *Server) probe() error {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("make a pair of sockets: %w", err)
	}
	ours, err := fileConn(pair[0])
	if err != nil {
		_ = syscall.Close(pair[1])
		return err
	}
	defer ours.Close()
	theirs, err := fileConn(pair[1])
	if err != nil {
		return err
	}
	s.open.Add(1)
	c, err := s.newClientConn(theirs, nil)
	if err != nil {
		s.open.Add(-1)
		_ = theirs.Close()
		return err
	}
	go func() {
		_ = s.http.ServeConn(c)
		_ = c.Close()
	}()
	if err := ours.SetDeadline(time.Now().Add(probeTime)); err != nil {
		return err
	}
	if _, err := ours.Write([]byte("GET " + pathHealth + " HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	var answer [12]byte
	if n, err := ours.Read(answer[:]); err != nil || string(answer[:n]) != "HTTP/1.1 200" {
		return fmt.Errorf("probe: answered %q: %v", answer[:n], err)
	}
	return nil
}

const probeTime = 2 * time.Second

func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "probe")
	defer f.Close()
	return net.FileConn(f)
}
