package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"streamrelay/telemetry/requestlog"
	"streamrelay/telemetry/spool"
)

// The times between two looks at what has come.
const (
	followFiles = 200 * time.Millisecond
	followTable = time.Second
)

// tail prints the last n rows and, with follow, those that come until ctx ends.
func tail(ctx context.Context, s source, f *filter, n int, follow bool, print func(*requestlog.Row) error, flush func() error) error {
	var next func() error // prints what has come
	if follow {
		var err error
		if next, err = s.follow(ctx, f, print); err != nil {
			return err
		}
	}
	if n > 0 {
		rows, err := s.newest(ctx, f, n)
		if err != nil && !(follow && errors.Is(err, errNoLog)) {
			return err
		}
		for i := range rows {
			if err := print(&rows[i]); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil || !follow {
		return err
	}
	pause := followTable
	if _, ok := s.(*folder); ok {
		pause = followFiles
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := next(); err != nil {
			return err
		}
		if err := flush(); err != nil {
			return err
		}
	}
}

// follow remembers the last block of each file by its number. A file that is
// renamed, as when it is closed, keeps its base name.
func (d *folder) follow(ctx context.Context, f *filter, print func(*requestlog.Row) error) (func() error, error) {
	r, err := newReader()
	if err != nil {
		return nil, err
	}
	seen := make(map[string]uint64) // by base name: the highest block number
	sizes := make(map[string]int64) // by path, to pass over what has not grown
	look := func(print func(*requestlog.Row) error) error {
		list, err := spool.Files(d.dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // no relay has begun a log there yet
		}
		if err != nil {
			return fmt.Errorf("read the request log: %w", err)
		}
		present := make(map[string]bool, len(list))
		for _, file := range list {
			base, _, _ := strings.Cut(filepath.Base(file.Path), ".native.")
			present[base] = true
			if sizes[file.Path] == file.Bytes {
				continue
			}
			sizes[file.Path] = file.Bytes
			after := seen[base]
			_, err := spool.Blocks(file.Path, func(h *spool.Header) bool {
				if h.Seq <= after {
					return false
				}
				seen[base] = max(seen[base], h.Seq)
				return print != nil
			}, func(_ *spool.Header, frame []byte) error { return r.rows(frame, f, print) })
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		for base := range seen {
			if !present[base] {
				delete(seen, base)
			}
		}
		for path := range sizes {
			if base, _, _ := strings.Cut(filepath.Base(path), ".native."); !present[base] {
				delete(sizes, path)
			}
		}
		return ctx.Err()
	}
	if err := look(nil); err != nil {
		return nil, err
	}
	return func() error { return look(print) }, nil
}

// followBack is how far back a new row may have ended and still be seen: rows
// reach the table later than they end, most of them by a second.
const followBack = time.Minute

// follow asks for what ended lately, and passes over what it has printed.
func (t *table) follow(ctx context.Context, f *filter, print func(*requestlog.Row) error) (func() error, error) {
	columns, err := t.columns(ctx)
	if err != nil {
		return nil, err
	}
	printed := make(map[[16]byte]time.Time)
	look := func(print func(*requestlog.Row) error) error {
		now := time.Now()
		for id, at := range printed {
			if now.Sub(at) > 2*followBack {
				delete(printed, id)
			}
		}
		ended := fmt.Sprintf("ts >= now64(3) - INTERVAL 1 DAY AND addMicroseconds(ts, duration_us) >= fromUnixTimestamp64Milli(%d, 'UTC')", now.Add(-followBack).UnixMilli())
		where := f.where()
		if where == "" {
			where = " WHERE " + ended
		} else {
			where += " AND " + ended
		}
		return t.read(ctx, "SELECT "+columns+" FROM "+t.name("request_log")+where+" ORDER BY ts, id", func(r *requestlog.Row) error {
			if _, ok := printed[r.ID]; ok {
				return nil
			}
			printed[r.ID] = now
			if print == nil {
				return nil
			}
			return print(r)
		})
	}
	if err := look(nil); err != nil {
		return nil, err
	}
	return func() error { return look(print) }, nil
}
