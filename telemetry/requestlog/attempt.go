package requestlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"

	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/spool"
)

// link is a sender's connection and what it knows of the table behind it.
type link struct {
	conn  *clickhouse.Conn // nil: none
	table *clickhouse.Table
	// inserted is the table's count of INSERTs at some time before now, read
	// again after refreshInserts of our own or refreshAfter.
	inserted map[string]int64
	own      int
	read     time.Time
	lacking  string // columns that the table has not, as they were last logged
}

const (
	refreshInserts = 500
	refreshAfter   = time.Minute
)

func (l *link) close() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}

// connect makes sure that there is a connection, and looks at the table. The
// counter of INSERTs is read before the block at hand is sent for the first
// time, and again after each failure, since that ends the connection.
func (s *sender) connect(ctx context.Context) error {
	l := &s.link
	if l.conn == nil {
		o := clickhouse.FromConfig(s.clickhouse)
		o.ReadTimeout = s.p.timeout
		conn, err := clickhouse.Dial(ctx, s.addresses[s.at], o)
		if err != nil {
			return err
		}
		l.conn = conn
		if l.table, err = conn.Describe(ctx, s.p.kind.table); err != nil {
			return err
		}
		l.read = time.Time{}
		s.reportColumns()
	}
	if l.own >= refreshInserts || time.Since(l.read) > refreshAfter {
		n, err := l.conn.Inserted(ctx, l.table)
		if err != nil {
			return l.conn.Explain(err)
		}
		l.inserted, l.own, l.read = n, 0, time.Now()
	}
	return nil
}

// reportColumns says which columns the table lacks, once for each change.
func (s *sender) reportColumns() {
	lacking := slices.DeleteFunc(slices.Clone(s.p.kind.columns), func(name string) bool { return s.link.table.Columns[name] })
	text := strings.Join(lacking, ", ")
	if text != "" && text != s.link.lacking {
		s.p.log.Warn().Str("columns", text).Str("address", s.link.conn.Address()).
			Msg("request log: the table lacks columns, the rest is stored: run `relay migrate`")
	}
	s.link.lacking = text
}

// attempt tries once to store x. A nil error says that x is stored.
func (s *sender) attempt(x *block) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.p.timeout)
	defer cancel()
	if err := s.connect(ctx); err != nil {
		return err
	}
	rows, token := x.batch, x.token
	if rows == nil {
		var err error
		if rows, err = s.load(x); err != nil {
			return err
		}
	}
	if s.doubtful(x) && !s.remembered(x) {
		rest, err := s.missing(ctx, x, rows)
		if err != nil {
			return err
		}
		switch {
		case rest == nil: // all there
			return nil
		case rest.Rows() < x.rows:
			rows, token = rest, x.token+"/rest"
		}
	}
	if x.tried.IsZero() && token == x.token { // a rest is looked up again
		x.tried, x.inserted = time.Now(), s.link.inserted
	}
	x.attempts++
	began := time.Now()
	if err := s.link.conn.Insert(ctx, s.link.table, rows.Input(), token); err != nil {
		return s.link.conn.Explain(err)
	}
	if s.p.inserted != nil {
		s.p.inserted(time.Since(began))
	}
	s.link.own++
	return nil
}

// doubtful reports whether x may have been stored already.
func (s *sender) doubtful(x *block) bool {
	return !x.tried.IsZero() || len(x.stored) > 0 && x.stored[0].Doubtful
}

// remembered reports whether the server still knows x's token if it has x:
// then sending it again is right, and also mends a view that failed half way.
func (s *sender) remembered(x *block) bool {
	if x.tried.IsZero() || x.target != "" && x.target != s.name {
		return false // of an earlier process, or of another shard
	}
	t := s.link.table
	since := int64(0) // a partition that was dropped meanwhile takes nothing away
	for id, n := range s.link.inserted {
		since += max(0, n-x.inserted[id])
	}
	return t.Window > 0 && since < int64(t.Window/2) && (t.Remembers == 0 || time.Since(x.tried) < t.Remembers/2)
}

// missing looks the ids of x's rows up and returns those that are not stored;
// nil where all are. A block that may have gone to a shard that the
// configuration no longer has, which may be one of today's under another
// address, is looked for at all of them.
func (s *sender) missing(ctx context.Context, x *block, rows batch) (batch, error) {
	b, err := decoded(rows)
	if err != nil {
		return nil, err
	}
	s.p.stats.lookups.Add(1)
	rest, err := s.p.kind.rest(ctx, s.link.conn, s.link.table, b)
	if err == nil && rest != nil && (x.target == "" || !shares(x.target, s.name)) {
		for _, other := range s.peers {
			if other == s {
				continue
			}
			if rest, err = other.lookUp(ctx, rest); err != nil || rest == nil {
				break
			}
		}
	}
	if err != nil {
		return nil, err
	}
	x.found = x.found || s.found.add(b, rest)
	return rest, nil
}

// lookUp is missing at another sender's shard, over a connection of its own.
func (s *sender) lookUp(ctx context.Context, rows batch) (batch, error) {
	b, err := decoded(rows)
	if err != nil {
		return nil, err
	}
	conn, err := clickhouse.DialShard(ctx, s.clickhouse, s.addresses)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	t, err := conn.Describe(ctx, s.p.kind.table)
	if err != nil {
		return nil, err
	}
	return s.p.kind.rest(ctx, conn, t, b)
}

// decoded returns rows as they would come from a file.
func decoded(rows batch) (*Block, error) {
	if b, ok := rows.(*Block); ok {
		return b, nil
	}
	return copyOf(rows)
}

// rest returns the rows of b that table t does not have, nil where it has
// them all.
func (k *kind) rest(ctx context.Context, conn *clickhouse.Conn, t *clickhouse.Table, b *Block) (batch, error) {
	ids, from, to, err := b.ids()
	if err != nil {
		return nil, err
	}
	present, err := conn.Present(ctx, t, ids, from, to)
	if err != nil {
		return nil, conn.Explain(err)
	}
	rest := k.pick(b, func(id uuid.UUID) bool { return !present[id] })
	if rest.Rows() == 0 {
		return nil, nil
	}
	return rest, nil
}

// copyOf returns b's rows as they would come from a file.
func copyOf(b batch) (*Block, error) {
	var native proto.Buffer
	if err := encode(&native, b); err != nil {
		return nil, err
	}
	out := new(Block)
	return out, out.Decode(native.Buf)
}

// Unpack decodes one zstd frame of a spool into b. Its size is bounded.
func (b *Block) Unpack(frame []byte) error {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlockBytes))
	if err != nil {
		return err
	}
	defer dec.Close()
	native, err := dec.DecodeAll(frame, nil)
	if err != nil {
		return fmt.Errorf("unpack block: %w", err)
	}
	return b.Decode(native)
}

// maxBlockBytes bounds a block out of its frame.
const maxBlockBytes = 256 << 20

// errBlock marks bytes that are what was written, and no block that this
// version can read.
var errBlock = errors.New("unreadable block")

func readBlock(folder *spool.Folder, at *spool.Block) (*Block, error) {
	frame, err := folder.Read(at, nil)
	if err != nil {
		return nil, err
	}
	b := new(Block)
	if err := b.Unpack(frame); err != nil {
		return nil, fmt.Errorf("%w: %w", errBlock, err)
	}
	return b, nil
}
