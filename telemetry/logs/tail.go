package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
// Rows that come between the mark that follow sets and the look for the last
// ones are found by both, and printed once.
func tail(ctx context.Context, s source, f *filter, n int, follow bool, print func(*requestlog.Row) error, flush func() error) error {
	var next func() error // prints what has come
	printed := make(map[[16]byte]bool)
	if follow {
		var err error
		if next, err = s.follow(ctx, f, func(r *requestlog.Row) error {
			if printed[r.ID] {
				return nil
			}
			return print(r)
		}); err != nil {
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
			if follow {
				printed[rows[i].ID] = true
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

// forgetAfter is in how many listings in a row a file is missing before it is
// taken for deleted: a listing may miss one that is renamed meanwhile.
const forgetAfter = 50

// follow remembers the last block of each file by its number. A file that is
// renamed, as when it is closed, keeps its base name.
func (d *folder) follow(ctx context.Context, f *filter, print func(*requestlog.Row) error) (func() error, error) {
	r, err := newReader()
	if err != nil {
		return nil, err
	}
	type mark struct {
		seq     uint64 // the highest block number
		path    string // where it was
		bytes   int64  // of it then, to pass over what has not grown
		missing int    // listings in a row
	}
	seen := make(map[string]*mark) // by base name
	list := func() ([]spool.File, error) {
		list, err := spool.Files(d.dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // no relay has begun a log there yet
		}
		if err != nil {
			return nil, fmt.Errorf("read the request log: %w", err)
		}
		return list, nil
	}
	look := func(print func(*requestlog.Row) error) error {
		for _, m := range seen {
			m.missing++
		}
		files, err := list()
		if err != nil {
			return err
		}
		err = eachFile(files, list, func(file spool.File) error {
			m := seen[baseName(file.Path)]
			if m == nil {
				m = new(mark)
				seen[baseName(file.Path)] = m
			}
			m.missing = 0
			if m.path == file.Path && m.bytes == file.Bytes {
				return nil
			}
			after := m.seq
			_, err := spool.Blocks(file.Path, func(h *spool.Header) bool {
				if h.Seq <= after {
					return false
				}
				m.seq = max(m.seq, h.Seq)
				return print != nil
			}, func(_ *spool.Header, frame []byte) error { return r.rows(frame, f, print) })
			if err == nil {
				m.path, m.bytes = file.Path, file.Bytes
			}
			return err
		})
		if err != nil {
			return err
		}
		maps.DeleteFunc(seen, func(_ string, m *mark) bool { return m.missing >= forgetAfter })
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
