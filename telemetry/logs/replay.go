package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/requestlog"
	"streamrelay/telemetry/spool"
)

func (c *command) replay() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay [FILE…]",
		Short: "Send files of the request log to ClickHouse",
		Long: `Replay sends files of the request log to the configured ClickHouse: those given,
or all of request_log.dir (or --dir) but those in quarantine, bodies included. Rows that are there
already are passed over, whatever sent them, so that it can be run again and
beside a running relay. The files stay.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			return c.runReplay(cmd, args)
		},
	}
	return cmd
}

func (c *command) runReplay(cmd *cobra.Command, args []string) error {
	dir := c.dir
	c.dir = "" // the configuration says where ClickHouse is
	config, err := c.config()
	if err != nil {
		return err
	}
	if dir == "" {
		dir = config.RequestLog.Dir
	}
	if !config.ClickHouse.Enabled() {
		return usageError{fmt.Errorf("%s names no ClickHouse to send to: set clickhouse.address", c.path)}
	}
	var list []spool.File
	for _, path := range args {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, errors.Unwrap(err))
		}
		list = append(list, spool.File{Path: path, Bytes: info.Size()})
	}
	if len(args) == 0 {
		if list, err = spool.Files(dir); err != nil {
			return fmt.Errorf("read the request log: %w", err)
		}
		bodies, err := spool.Files(filepath.Join(dir, requestlog.BodyFolder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read the request log: %w", err)
		}
		list = append(list, bodies...)
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second one ends the process, whatever it waits for
	conn, err := clickhouse.DialAny(ctx, &config.ClickHouse)
	if err != nil {
		return &unavailable{err}
	}
	defer conn.Close()
	tables := make(map[bool]*requestlog.Replay) // true: of bodies
	bar := newProgress(cmd.ErrOrStderr())
	bar.start(list)
	defer bar.end()
	sent, there := 0, 0
	for _, file := range list {
		bodies := strings.HasPrefix(filepath.Base(file.Path), "request_bodies.")
		to := tables[bodies]
		if to == nil {
			if to, err = requestlog.NewReplay(ctx, conn, bodies); err != nil {
				return &unavailable{err}
			}
			tables[bodies] = to
		}
		damaged, err := spool.Blocks(file.Path, nil, func(h *spool.Header, frame []byte) error {
			s, t, err := to.Block(ctx, h.Token, frame)
			sent, there = sent+s, there+t
			return err
		})
		bar.add(file.Bytes)
		for _, x := range damaged {
			if !(file.Open && x.Torn) {
				fmt.Fprintf(cmd.ErrOrStderr(), "relay: %s: %d damaged bytes at %d are left out (%d rows of them known)\n", file.Path, x.Bytes, x.Offset, x.Rows)
			}
		}
		if err != nil && !(errors.Is(err, os.ErrNotExist) && len(args) == 0) {
			return fmt.Errorf("replay %s (%d rows sent before, %d were there; run it again): %w", filepath.Base(file.Path), sent, there, err)
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d rows sent, %d were there already, %d files\n", sent, there, len(list))
	return nil
}
