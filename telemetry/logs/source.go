package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"streamrelay/configs"
	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/requestlog"
	"streamrelay/telemetry/spool"
)

var errNoLog = errors.New("there is no request log")

// errEnough ends a scan early.
var errEnough = errors.New("enough")

// source is where the log is.
type source interface {
	// scan calls yield with the rows that f wants, oldest block first. The row
	// is yield's until it returns; errEnough of it ends the scan well.
	scan(ctx context.Context, f *filter, yield func(*requestlog.Row) error) error
	// newest returns the last n rows that f wants, by the time of their beginning.
	newest(ctx context.Context, f *filter, n int) ([]requestlog.Row, error)
	// usage sums the rows that f wants into groups.
	usage(ctx context.Context, f *filter, by []string) ([]group, error)
	// body returns the bodies of the request with this id; nil: it has none.
	body(ctx context.Context, id [16]byte) (*requestlog.Body, error)
	// follow returns what calls print with the rows that came since it was called
	// last, or since it was made.
	follow(ctx context.Context, f *filter, print func(*requestlog.Row) error) (func() error, error)
}

// open finds the log that the configuration names.
func open(ctx context.Context, c *configs.Config, files bool, progress *progress, warn func(string)) (source, func(), error) {
	if !files && c.ClickHouse.Enabled() {
		return openTables(ctx, &c.ClickHouse, warn)
	}
	if c.RequestLog.Dir == "" {
		return nil, nil, fmt.Errorf("there is no request log: request_log.dir is empty")
	}
	return &folder{c.RequestLog.Dir, progress, warn}, func() {}, nil
}

// openTables connects to the cluster by any of its servers, else to one server
// of each shard.
func openTables(ctx context.Context, c *configs.ClickHouse, warn func(string)) (source, func(), error) {
	if c.Cluster != "" {
		conn, err := clickhouse.DialAny(ctx, c)
		if err != nil {
			return nil, nil, &unavailable{err}
		}
		return &table{conn: conn, database: c.Database, suffix: "_all"}, func() { _ = conn.Close() }, nil
	}
	all, end, err := openShards(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if len(all) == 1 {
		return all[0], end, nil
	}
	return &shards{all, warn}, end, nil
}

// openShards connects to one server of each shard, in the order of c.Servers.
func openShards(ctx context.Context, c *configs.ClickHouse) ([]*table, func(), error) {
	var all []*table
	end := func() {
		for _, t := range all {
			_ = t.conn.Close()
		}
	}
	for _, replicas := range c.Servers() {
		conn, err := clickhouse.DialShard(ctx, c, replicas)
		if err != nil {
			end()
			return nil, nil, &unavailable{err}
		}
		all = append(all, &table{conn: conn, database: c.Database})
	}
	return all, end, nil
}

// unavailable is a store out of reach.
type unavailable struct{ error }

func (unavailable) ExitCode() int    { return 69 }
func (u *unavailable) Unwrap() error { return u.error }

// folder is the log in files.
type folder struct {
	dir      string
	progress *progress
	warn     func(string)
}

// lateness is how long after its beginning a request may end, and be written:
// files and blocks sealed later than this after To are passed over.
const lateness = 48 * time.Hour

// files lists those that may hold rows that f wants, oldest first.
func (d *folder) files(f *filter) ([]spool.File, error) {
	list, err := spool.Files(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s: a relay that has served a request makes it", errNoLog, d.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read the request log: %w", err)
	}
	return slices.DeleteFunc(list, func(file spool.File) bool {
		return file.Day != "" && (!f.From.IsZero() && file.Day < f.From.UTC().Format(time.DateOnly) ||
			!f.To.IsZero() && file.Day > f.To.Add(lateness).UTC().Format(time.DateOnly))
	}), nil
}

// reader decodes blocks, one after the other.
type reader struct {
	zstd  *zstd.Decoder
	block requestlog.Block
	row   requestlog.Row
	plain []byte
}

func newReader() (*reader, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return nil, err
	}
	return &reader{zstd: dec}, nil
}

// rows calls yield with the rows of one frame that f wants.
func (r *reader) rows(frame []byte, f *filter, yield func(*requestlog.Row) error) error {
	var err error
	if r.plain, err = r.zstd.DecodeAll(frame, r.plain[:0]); err != nil {
		return fmt.Errorf("unpack block: %w", err)
	}
	if err := r.block.Decode(r.plain); err != nil {
		return err
	}
	for i := range r.block.Rows() {
		r.block.Row(i, &r.row)
		if f.wants(&r.row) {
			if err := yield(&r.row); err != nil {
				return err
			}
		}
	}
	return nil
}

// sealedWithin passes over blocks that cannot hold rows that f wants.
func (f *filter) sealedWithin(h *spool.Header) bool {
	return (f.From.IsZero() || h.Sealed >= f.From.UnixMilli()) && (f.To.IsZero() || h.Sealed < f.To.Add(lateness).UnixMilli())
}

// file scans one file for blocks sealed at from (Unix milliseconds) or later.
// What is damaged in it is left out with a warning. The error is fs.ErrNotExist
// where the file has been renamed or deleted since it was listed.
func (d *folder) file(ctx context.Context, r *reader, file spool.File, f *filter, from int64, yield func(*requestlog.Row) error) error {
	wanted := func(h *spool.Header) bool { return h.Sealed >= from && f.sealedWithin(h) }
	damaged, err := spool.Blocks(file.Path, wanted, func(_ *spool.Header, frame []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return r.rows(frame, f, yield)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.progress.add(file.Bytes)
	for _, x := range damaged {
		if !(file.Open && x.Torn) { // a relay is writing there
			d.warn(fmt.Sprintf("%s: %d damaged bytes at %d are left out (%d rows of them known)", file.Path, x.Bytes, x.Offset, x.Rows))
		}
	}
	return err
}

func (d *folder) scan(ctx context.Context, f *filter, yield func(*requestlog.Row) error) error {
	list, err := d.files(f)
	if err != nil {
		return err
	}
	r, err := newReader()
	if err != nil {
		return err
	}
	defer r.zstd.Close()
	d.progress.start(list)
	defer d.progress.end()
	err = eachFile(list, func() ([]spool.File, error) { return d.files(f) }, func(file spool.File) error {
		return d.file(ctx, r, file, f, 0, yield)
	})
	if err == errEnough {
		return nil
	}
	return err
}

// newest reads from the newest file back. A block holds no request that began
// after it was sealed, so that blocks sealed before the oldest row that is kept
// need not be read.
func (d *folder) newest(ctx context.Context, f *filter, n int) ([]requestlog.Row, error) {
	list, err := d.files(f)
	if err != nil {
		return nil, err
	}
	r, err := newReader()
	if err != nil {
		return nil, err
	}
	defer r.zstd.Close()
	d.progress.start(list)
	defer d.progress.end()
	var kept []requestlog.Row
	oldest := int64(0) // of n rows that are kept
	trim := func() {
		if kept = newestOf(kept, n); len(kept) == n {
			oldest = kept[0].Start
		}
	}
	slices.Reverse(list)
	err = eachFile(list, func() ([]spool.File, error) { return d.files(f) }, func(file spool.File) error {
		if file.Day != "" && file.Day < time.UnixMilli(oldest).UTC().Format(time.DateOnly) {
			return nil
		}
		err := d.file(ctx, r, file, f, oldest, func(row *requestlog.Row) error {
			if row.Start < oldest {
				return nil
			}
			if kept = append(kept, *row); len(kept) >= 2*n+1000 {
				trim()
			}
			return nil
		})
		trim()
		return err
	})
	if err != nil {
		return nil, err
	}
	return kept, nil
}

// table is the log in ClickHouse.
type table struct {
	conn     *clickhouse.Conn
	database string
	suffix   string
}

func (t *table) name(table string) string { return "`" + t.database + "`." + table + t.suffix }

// columns are those that the server has of what rows are made of.
func (t *table) columns(ctx context.Context) (string, error) {
	d, err := t.conn.Describe(ctx, "request_log"+t.suffix)
	if err != nil {
		return "", &unavailable{err}
	}
	return strings.Join(slices.DeleteFunc(requestlog.Columns(), func(name string) bool { return !d.Columns[name] }), ", "), nil
}

func (t *table) read(ctx context.Context, statement string, yield func(*requestlog.Row) error) error {
	var block requestlog.Block
	var row requestlog.Row
	err := t.conn.Select(ctx, statement, block.Results().Auto(), func(rows int) error {
		block.Bind(rows)
		for i := range rows {
			block.Row(i, &row)
			if err := yield(&row); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func (t *table) scan(ctx context.Context, f *filter, yield func(*requestlog.Row) error) error {
	columns, err := t.columns(ctx)
	if err != nil {
		return err
	}
	return t.read(ctx, "SELECT "+columns+" FROM "+t.name("request_log")+f.where(), yield)
}

func (t *table) newest(ctx context.Context, f *filter, n int) ([]requestlog.Row, error) {
	columns, err := t.columns(ctx)
	if err != nil {
		return nil, err
	}
	var rows []requestlog.Row
	err = t.read(ctx, fmt.Sprintf("SELECT %s FROM %s%s ORDER BY ts DESC, id DESC LIMIT %d", columns, t.name("request_log"), f.where(), n), func(row *requestlog.Row) error {
		rows = append(rows, *row)
		return nil
	})
	slices.Reverse(rows)
	return rows, err
}
