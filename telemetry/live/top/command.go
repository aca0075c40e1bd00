package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// options are the flags.
type options struct {
	url, tokenFile string
	once, json     bool
	interval       time.Duration
}

// usageError is a mistake in how the command was called.
type usageError struct{ error }

func (usageError) ExitCode() int { return 2 }

// Command is `relay top`.
func Command() *cobra.Command {
	o := options{url: "http://127.0.0.1:9090", interval: time.Second}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what a running relay does, on a terminal",
		Long: `Top shows what the live page of the admin listener shows: requests, streams,
times, upstreams, the busiest tenants and models, and the last requests. Keys: q
ends, / filters by words (-word leaves out), e shows failures alone, s changes the
order, p pauses. Where standard output is no terminal it prints once. With --json
it prints what the relay says: one object with --once, else one a second.`,
		Example: `  relay top
  relay top --url unix:/run/relay/admin.sock
  relay top --url https://relay.internal:9090 --token-file admin.token
  relay top --once --json | jq .totals`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.interval < 100*time.Millisecond || o.interval > time.Hour {
				return usageError{errors.New("--interval: want 100ms to 1h")}
			}
			token := ""
			if o.tokenFile != "" {
				b, err := os.ReadFile(o.tokenFile)
				if err != nil {
					return usageError{fmt.Errorf("--token-file: %w", err)}
				}
				token = strings.TrimSpace(string(b))
			}
			c, err := newClient(o.url, token)
			if err != nil {
				return usageError{err}
			}
			cmd.SilenceUsage = true
			defer c.http.CloseIdleConnections()
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return o.run(ctx, c, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&o.url, "url", o.url, "the admin listener: http://`host:port`, https://… or unix:/path")
	cmd.Flags().StringVar(&o.tokenFile, "token-file", "", "`file` that holds the admin listener's token")
	cmd.Flags().BoolVar(&o.once, "once", false, "print once and end")
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON")
	cmd.Flags().DurationVar(&o.interval, "interval", o.interval, "time between two pictures")
	return cmd
}

func (o *options) run(ctx context.Context, c *client, out io.Writer) error {
	screen := terminalOf(out)
	switch {
	case o.json && !o.once:
		return printEvents(ctx, c, out)
	case o.once || screen == nil:
		return printOnce(ctx, c, out, o.json)
	}
	return o.watch(ctx, c, screen)
}

// terminalOf returns out where it and standard input are terminals.
func terminalOf(out io.Writer) *os.File {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil
	}
	return f
}

func printOnce(ctx context.Context, c *client, out io.Writer, asJSON bool) error {
	raw, err := c.state(ctx)
	if err != nil {
		return fmt.Errorf("ask the relay: %w", err)
	}
	if asJSON {
		_, err = out.Write(append(raw, '\n'))
		return err
	}
	b := new(board)
	if err := b.take(event{name: "state", raw: raw}); err != nil {
		return err
	}
	width, height := 140, 40
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n >= 40 {
		width = n
	}
	picture := render(b, width, height, false)
	lines := strings.SplitAfter(strings.TrimSuffix(picture, "\n"), "\n")
	_, err = io.WriteString(out, strings.Join(lines[:len(lines)-1], "")) // without the keys
	return err
}

func printEvents(ctx context.Context, c *client, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, ended := make(chan event), make(chan error, 1)
	go func() { ended <- c.follow(ctx, events) }()
	for {
		select {
		case e := <-events:
			if e.lost != nil {
				continue
			}
			if _, err := out.Write(append(e.raw, '\n')); err != nil {
				if errors.Is(err, syscall.EPIPE) { // `relay top --json | head`
					return nil
				}
				return err
			}
		case err := <-ended:
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return fmt.Errorf("ask the relay: %w", err)
		}
	}
}
