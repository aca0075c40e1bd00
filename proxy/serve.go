package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"streamrelay/auth"
	"streamrelay/configs"
	"streamrelay/telemetry"
)

// Build says what binary this is.
type Build struct{ Version, Revision string }

// exitError carries the process's exit code (sysexits.h).
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }
func (e *exitError) ExitCode() int { return e.code }

const exitConfig = 78

// ServeCommand is `relay serve`.
func ServeCommand(b Build) *cobra.Command {
	path := "relay.yaml"
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve clients as the configuration says",
		Long: `Serve authenticates clients, forwards their requests to the configured upstreams
and streams the answers back. SIGTERM or Ctrl-C lets streams under way end; a
second one ends them at once. SIGHUP reads the configuration again.`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE:         func(*cobra.Command, []string) error { return serve(path, b) },
	}
	cmd.Flags().StringVar(&path, "config", path, "the configuration `file`")
	return cmd
}

func serve(path string, b Build) error {
	cfg, warnings, err := configs.Load(path, nil)
	if err != nil {
		return err
	}
	ignoreBrokenPipes()
	collectSoon()
	log := telemetry.NewLog(os.Stdout, cfg.Log.Level)
	defer log.Close()
	logWarnings(log, warnings)
	times := &redisTimes{}
	store, err := auth.Open(auth.Options{Keys: cfg.Keys, Redis: cfg.Redis, Prices: cfg.Prices, Log: log.Zerolog(), RedisCall: times.observe})
	if err != nil {
		return &exitError{exitConfig, fmt.Errorf("open the keys: %w", err)}
	}
	defer store.Close()
	p, err := newProcess(cfg, keyring{store.Table(), store, times}, log, b)
	if err != nil {
		if errors.As(err, new(*listenError)) {
			return err // the file is right, the machine is not
		}
		return &exitError{exitConfig, err}
	}
	p.path = path
	event := log.Info().Str("version", b.Version).Stringer("listen", p.public.Addr()).Int("upstreams", len(cfg.Upstreams)).Int("keys", store.Table().Len())
	if p.admin != nil {
		event = event.Stringer("admin", p.admin.ln.Addr())
	}
	event.Msg("serving")
	if err := untilSignal(p, nil); err != nil {
		return err
	}
	log.Info().Msg("stopped")
	return nil
}

func logWarnings(log *telemetry.Log, warnings []configs.Problem) {
	for _, w := range warnings {
		log.Warn().Str("at", fmt.Sprintf("%s:%d", w.File, w.Line)).Str("key", w.Path).Msg(w.Message)
	}
}

// ignoreBrokenPipes keeps a reader of our output that goes away from ending the
// process: the runtime would, by SIGPIPE; now such a line is dropped and counted.
func ignoreBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }

// collectSoon bounds what ended connections leave behind. Requests allocate
// nothing, so the collector has work by new connections alone, and may come
// four times as often as by default: it keeps a quarter of what lives beyond
// it, not as much again, at no CPU time that could be measured. GOGC has the
// last word.
func collectSoon() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
}

// untilSignal runs p until SIGTERM or SIGINT, or until stop closes; the second
// signal ends it at once.
func untilSignal(p *process, stop <-chan struct{}) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	force, done := make(chan struct{}), make(chan struct{})
	defer close(done)
	go func() {
		for _, act := range []func(){cancel, func() { close(force) }} {
			select {
			case <-signals:
				act()
			case <-stop:
				act()
				return
			case <-done:
				return
			}
		}
	}()
	return p.run(ctx, force, hup)
}
