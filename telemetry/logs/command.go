package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"streamrelay/configs"
	"streamrelay/telemetry/requestlog"
)

// command is what all of `relay logs` have in common.
type command struct {
	path  string // of the configuration
	dir   string // instead of the configuration's
	files bool
	flags flags
}

// Command is `relay logs`.
func Command() *cobra.Command {
	c := new(command)
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Read the request log",
		Long: `Logs reads the request log: ClickHouse where the configuration names one, else
the files of request_log.dir. With --files, or --dir, it reads the files in any
case: with ClickHouse those are the rows that wait for it.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			const want = "want one of: tail, query, usage, export, body, replay"
			if len(args) == 0 {
				return usageError{errors.New(want)}
			}
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				return usageError{fmt.Errorf("unknown command %.12q: did you mean %q? %s", args[0], like[0], want)}
			}
			return usageError{fmt.Errorf("unknown command %.12q: %s", args[0], want)}
		},

		SuggestionsMinimumDistance: 2,
	}
	cmd.PersistentFlags().StringVarP(&c.path, "config", "c", "relay.yaml", "the configuration `file`")
	cmd.PersistentFlags().StringVar(&c.dir, "dir", "", "read the files of this `folder`, and no configuration")
	cmd.PersistentFlags().BoolVar(&c.files, "files", false, "read files also where ClickHouse is configured")
	cmd.AddCommand(c.tail(), c.query(), c.usage(), c.export(), c.body(), c.replay())
	return cmd
}

// config reads the configuration, or stands in for it with --dir.
func (c *command) config() (*configs.Config, error) {
	if c.dir != "" {
		config := configs.Default()
		config.RequestLog.Dir = c.dir
		return config, nil
	}
	config, _, err := configs.Load(c.path, nil)
	return config, err
}

// read opens the log and calls f with it; Ctrl-C ends f's context.
func (c *command) read(cmd *cobra.Command, f func(ctx context.Context, s source) error) error {
	cmd.SilenceUsage = true
	if err := c.flags.parse(time.Now()); err != nil {
		return err
	}
	config, err := c.config()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second one ends the process, whatever it waits for
	warn := func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), "relay: "+text) }
	s, end, err := open(ctx, config, c.files, newProgress(cmd.ErrOrStderr()), warn)
	if err != nil {
		return err
	}
	defer end()
	err = f(ctx, s)
	if errors.Is(err, syscall.EPIPE) { // `relay logs query | head`
		return nil
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

func (c *command) query() *cobra.Command {
	asJSON, limit := false, 100
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Print the newest requests that match",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 100_000 {
				return usageError{errors.New("--limit: want 1 to 100000; `relay logs export` has no limit")}
			}
			return c.read(cmd, func(ctx context.Context, s source) error {
				rows, err := s.newest(ctx, &c.flags.filter, limit)
				if err != nil {
					return err
				}
				return printRows(cmd.OutOrStdout(), rows, asJSON)
			})
		},
	}
	c.flags.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.Flags().IntVarP(&limit, "limit", "n", limit, "how many at most, the newest")
	return cmd
}

func printRows(w io.Writer, rows []requestlog.Row, asJSON bool) error {
	out := buffered(w)
	p := rowPrinter(out, asJSON)
	for i := range rows {
		if err := p.row(&rows[i]); err != nil {
			return err
		}
	}
	return out.Flush()
}

func rowPrinter(w io.Writer, asJSON bool) printer {
	if asJSON {
		return newJSONLines(w)
	}
	return &lines{w: w}
}

func (c *command) tail() *cobra.Command {
	asJSON, follow, n := false, false, 10
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the last requests, and with --follow those that come",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 0 || n > 100_000 {
				return usageError{errors.New("--lines: want 0 to 100000")}
			}
			return c.read(cmd, func(ctx context.Context, s source) error {
				out := buffered(cmd.OutOrStdout())
				p := rowPrinter(out, asJSON)
				err := tail(ctx, s, &c.flags.filter, n, follow, func(r *requestlog.Row) error { return p.row(r) }, out.Flush)
				if follow && ctx.Err() != nil { // Ctrl-C is how it ends
					return nil
				}
				return err
			})
		},
	}
	c.flags.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until Ctrl-C")
	cmd.Flags().IntVarP(&n, "lines", "n", n, "how many of those that are there")
	return cmd
}

func (c *command) usage() *cobra.Command {
	asJSON, by := false, []string{"tenant", "model", "day"}
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "Sum tokens, cost, requests and errors",
		Long: `Usage sums requests into groups. Tokens and cost are sums of what is known;
USAGE UNKNOWN counts the answers of a model for which the provider named no
tokens, COST UNKNOWN the requests with tokens whose model has no price in the
configuration. ERRORS are requests that did not end with completed or
client_gone. In ClickHouse the hourly rollup is read where it knows enough;
--since and --until are then widened to whole hours; with --model, requests for
a model that the relay did not know count for as long as their rows are kept. TTFT quantiles are good to
1 % over files, and as ClickHouse's t-digest has them otherwise.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, field := range by {
				if groupFields[field] == "" {
					return usageError{errors.New("--by: want some of tenant, key, model, upstream, day, hour")}
				}
			}
			return c.read(cmd, func(ctx context.Context, s source) error {
				groups, err := s.usage(ctx, &c.flags.filter, by)
				if err != nil {
					return err
				}
				return printUsage(cmd.OutOrStdout(), by, groups, asJSON)
			})
		},
	}
	c.flags.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.Flags().StringSliceVar(&by, "by", by, "what to group by: tenant, key, model, upstream, day, hour")
	return cmd
}

func (c *command) export() *cobra.Command {
	format, path := "", ""
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write all requests that match as JSON lines, CSV or Parquet",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format == "" {
				format = "jsonl"
				if ext := strings.TrimPrefix(filepath.Ext(path), "."); ext == "csv" || ext == "parquet" {
					format = ext
				}
			}
			if _, err := newPrinter(format, io.Discard); err != nil {
				return err
			}
			return c.read(cmd, func(ctx context.Context, s source) error {
				if path == "" {
					return export(ctx, s, &c.flags.filter, format, cmd.OutOrStdout())
				}
				return exportFile(ctx, s, &c.flags.filter, format, path)
			})
		},
	}
	c.flags.add(cmd)
	cmd.Flags().StringVar(&format, "format", "", "jsonl, csv or parquet (default: by the ending of --output, else jsonl)")
	cmd.Flags().StringVarP(&path, "output", "o", "", "write to this `file` instead of standard output")
	return cmd
}

func export(ctx context.Context, s source, f *filter, format string, w io.Writer) error {
	out := buffered(w)
	p, err := newPrinter(format, out)
	if err != nil {
		return err
	}
	if err := s.scan(ctx, f, p.row); err != nil {
		return err
	}
	if err := p.end(); err != nil {
		return err
	}
	return out.Flush()
}

// exportFile writes beside path and renames, so that the file is whole or not
// there.
func exportFile(ctx context.Context, s source, f *filter, format, path string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}()
	if err := export(ctx, s, f, format, tmp); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	return os.Rename(tmp.Name(), path)
}
