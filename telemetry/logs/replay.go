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

	"streamrelay/configs"
	"streamrelay/telemetry/requestlog"
	"streamrelay/telemetry/spool"
)

func (c *command) replay() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay [FILE…]",
		Short: "Send files of the request log to ClickHouse",
		Long: `Replay sends files of the request log to the configured ClickHouse: those given,
or all of request_log.dir (or --dir) but those in quarantine, bodies included.
Rows that any shard has already are passed over, whatever sent them, so that it
can be run again and beside a running relay. The files stay. Where the
hourly rollup lacks some of the rows that were there, as after a view that
failed, it prints the statements that make those hours of it anew.`,
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
	list := func() ([]spool.File, error) { return replayFiles(dir) }
	if len(args) > 0 {
		list = func() ([]spool.File, error) { return namedFiles(args) }
	}
	files, err := list()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second one ends the process, whatever it waits for
	tables, end, err := openShards(ctx, &config.ClickHouse)
	if err != nil {
		return err
	}
	defer end()
	warn := func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), "relay: "+text) }
	p := &replayer{config: &config.ClickHouse, tables: tables, to: make(map[bool]*requestlog.Replay), progress: newProgress(cmd.ErrOrStderr()), warn: warn}
	p.progress.start(files)
	defer p.progress.end()
	if len(args) > 0 { // those and no others, also where two have one name
		for _, file := range files {
			if err := p.file(ctx, file); err != nil {
				return err
			}
		}
	} else if err := eachFile(files, list, func(file spool.File) error { return p.file(ctx, file) }); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d rows sent, %d were there already, %d files\n", p.sent, p.there, p.files)
	if to := p.to[false]; to != nil {
		checkRollup(ctx, p.config, tables, to.Hours(), warn)
	}
	return nil
}

// namedFiles are the files at paths.
func namedFiles(paths []string) ([]spool.File, error) {
	var list []spool.File
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, errors.Unwrap(err))
		}
		list = append(list, spool.File{Path: path, Bytes: info.Size()})
	}
	return list, nil
}

// replayFiles are those of a log, of its bodies too.
func replayFiles(dir string) ([]spool.File, error) {
	list, err := spool.Files(dir)
	if err != nil {
		return nil, fmt.Errorf("read the request log: %w", err)
	}
	bodies, err := spool.Files(filepath.Join(dir, requestlog.BodyFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the request log: %w", err)
	}
	return append(list, bodies...), nil
}

// replayer sends files to ClickHouse.
type replayer struct {
	config   *configs.ClickHouse
	tables   []*table                    // one server of each shard
	to       map[bool]*requestlog.Replay // true: of bodies
	progress *progress
	warn     func(string)

	sent, there, files int
}

// table returns where rows go, or bodies, which a server need not have a table
// for before there are any.
func (p *replayer) table(ctx context.Context, bodies bool) (*requestlog.Replay, error) {
	if to := p.to[bodies]; to != nil {
		return to, nil
	}
	var all []requestlog.ReplayShard
	for i, replicas := range p.config.Servers() {
		all = append(all, requestlog.ReplayShard{Conn: p.tables[i].conn, Addresses: replicas})
	}
	to, err := requestlog.NewReplay(ctx, all, p.config.Cluster != "", bodies)
	if err != nil {
		return nil, &unavailable{err}
	}
	p.to[bodies] = to
	return to, nil
}

// file sends what is not acknowledged of one file.
func (p *replayer) file(ctx context.Context, file spool.File) error {
	to, err := p.table(ctx, strings.HasPrefix(filepath.Base(file.Path), "request_bodies."))
	if err != nil {
		return err
	}
	acked := spool.Acknowledged(file.Path)
	damaged, err := spool.Blocks(file.Path, func(h *spool.Header) bool {
		if acked[h.Seq] {
			p.there += h.Rows
		}
		return !acked[h.Seq]
	}, func(h *spool.Header, frame []byte) error {
		s, t, err := to.Block(ctx, h, frame)
		p.sent, p.there = p.sent+s, p.there+t
		return err
	})
	for _, x := range damaged {
		if !(file.Open && x.Torn) {
			p.warn(fmt.Sprintf("%s: %d damaged bytes at %d are left out (%d rows of them known)", file.Path, x.Bytes, x.Offset, x.Rows))
		}
	}
	if err != nil {
		return fmt.Errorf("replay %s (%d rows sent before, %d were there; run it again): %w", filepath.Base(file.Path), p.sent, p.there, err)
	}
	p.progress.add(file.Bytes)
	p.files++
	return nil
}
