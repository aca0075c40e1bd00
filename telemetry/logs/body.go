package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"streamrelay/telemetry"
	"streamrelay/telemetry/requestlog"
	"streamrelay/telemetry/spool"
)

func (c *command) body() *cobra.Command {
	request, answer := false, false
	cmd := &cobra.Command{
		Use:   "body ID",
		Short: "Print what a request and its answer said, where the log keeps that",
		Long: `Body prints the bodies of one request, by the id that its client sees or by the
relay's own (the field id of --json). They are there where request_log.bodies
kept them, for request_log.body_retention. --request and --answer print one of
them byte for byte; without, control characters and what is not UTF-8 are
replaced, so that a terminal is safe.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if request && answer {
				return usageError{errors.New("--request and --answer: want one of them, or neither for both")}
			}
			return c.read(cmd, func(ctx context.Context, s source) error {
				b, err := findBody(ctx, s, args[0])
				if err != nil {
					return err
				}
				out := buffered(cmd.OutOrStdout())
				switch {
				case request:
					_, err = out.Write(b.Request)
				case answer:
					_, err = out.Write(b.Answer)
				default:
					err = printBody(out, b)
				}
				return errors.Join(err, out.Flush())
			})
		},
	}
	cmd.Flags().BoolVar(&request, "request", false, "print the request's body alone, as it came")
	cmd.Flags().BoolVar(&answer, "answer", false, "print the answer's body alone, as it went")
	return cmd
}

// findBody returns the bodies of the newest request that id names.
func findBody(ctx context.Context, s source, id string) (*requestlog.Body, error) {
	rows, err := s.newest(ctx, &filter{RequestID: id}, 1)
	if err != nil && !errors.Is(err, errNoLog) {
		return nil, err
	}
	own, isID := parseID(id) // its row may be gone already
	if len(rows) == 1 {
		own, isID = rows[0].ID, true
	}
	if isID {
		b, err := s.body(ctx, own)
		if b != nil || err != nil {
			return b, err
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("the log has no request %q", id)
	}
	r := &rows[0]
	return nil, fmt.Errorf("the log has no bodies of request %q (tenant %q, ended with %d %s): request_log.bodies says whose are kept, request_log.body_retention for how long", id, clean(r.Tenant), r.Status, r.EndReason)
}

func printBody(w io.Writer, b *requestlog.Body) error {
	for _, part := range []struct {
		name  string
		text  []byte
		bytes uint64
		cut   bool
	}{{"request", b.Request, b.RequestBytes, b.RequestCut()}, {"answer", b.Answer, b.AnswerBytes, b.AnswerCut()}} {
		size := fmt.Sprintf("%d bytes", part.bytes)
		if part.cut {
			size = fmt.Sprintf("the first %d of %d bytes", len(part.text), part.bytes)
		}
		if _, err := fmt.Fprintf(w, "--- %s of %s: %s\n%s\n", part.name, telemetry.AppendID(nil, b.ID), size, safe(part.text)); err != nil {
			return err
		}
	}
	return nil
}

// safe is text for a terminal: lines stay, other control characters go.
func safe(text []byte) string {
	return strings.TrimSuffix(strings.Map(func(c rune) rune {
		if commands(c) && c != '\n' && c != '\t' && c != '\r' || c == utf8.RuneError {
			return '?'
		}
		if c == '\r' {
			return -1
		}
		return c
	}, string(text)), "\n")
}

// body reads the files of bodies for those of the request with this id.
func (d *folder) body(ctx context.Context, id [16]byte) (*requestlog.Body, error) {
	relist := func() ([]spool.File, error) { return spool.Files(filepath.Join(d.dir, requestlog.BodyFolder)) }
	list, err := relist()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the request log: %w", err)
	}
	r, err := newReader()
	if err != nil {
		return nil, err
	}
	defer r.zstd.Close()
	began, known := idTime(id)
	var found *requestlog.Body
	err = eachFile(list, relist, func(file spool.File) error {
		if found != nil {
			return nil
		}
		_, err := spool.Blocks(file.Path, func(h *spool.Header) bool {
			return found == nil && (!known || h.Sealed >= began)
		}, func(_ *spool.Header, frame []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.block.Unpack(frame); err != nil {
				return err
			}
			for i := range r.block.Rows() {
				var b requestlog.Body
				if r.block.Body(i, &b); b.ID == id {
					found = &b
					return nil
				}
			}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the request log: %w", err)
	}
	return found, nil
}

// body asks for the bodies of the request with this id.
func (t *table) body(ctx context.Context, id [16]byte) (*requestlog.Body, error) {
	if _, err := t.conn.Describe(ctx, "request_bodies"+t.suffix); err != nil {
		return nil, &unavailable{err}
	}
	where := fmt.Sprintf(" WHERE id = toUUID('%s')", telemetry.AppendID(nil, id))
	if ms, v7 := idTime(id); v7 {
		where += fmt.Sprintf(" AND ts >= fromUnixTimestamp64Milli(%d, 'UTC') AND ts <= fromUnixTimestamp64Milli(%d, 'UTC')", ms-1, ms+1)
	}
	var block requestlog.Block
	var found *requestlog.Body
	err := t.conn.Select(ctx, "SELECT "+strings.Join(requestlog.BodyColumns(), ", ")+" FROM "+t.name("request_bodies")+where+" LIMIT 1", block.Results().Auto(), func(rows int) error {
		block.Bind(rows)
		if rows > 0 {
			found = new(requestlog.Body)
			block.Body(0, found)
			found.Request, found.Answer = append([]byte(nil), found.Request...), append([]byte(nil), found.Answer...)
		}
		return nil
	})
	return found, err
}
