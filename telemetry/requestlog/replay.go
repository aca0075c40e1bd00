package requestlog

import (
	"context"
	"fmt"
	"strings"

	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/spool"
)

// ReplayShard is a connection to one server of a shard.
type ReplayShard struct {
	Conn      *clickhouse.Conn
	Addresses []string // of all its replicas
}

// Replay sends blocks of files to ClickHouse, each row once, whatever has been
// sent before, and to whichever shard. It belongs to one goroutine.
type Replay struct {
	kind   *kind
	shards []replayTable // where rows are sent
	holds  []replayTable // together they hold every row that is stored
	block  Block
	hours  map[int64]bool
}

// replayTable is a table behind a connection.
type replayTable struct {
	conn  *clickhouse.Conn
	table *clickhouse.Table
	shard string // its addresses
}

// NewReplay looks at the tables behind the connections, which stay the
// caller's. cluster says that each server reads the whole of a cluster, which
// may have more shards than those; bodies, that the files are those of bodies.
func NewReplay(ctx context.Context, shards []ReplayShard, cluster, bodies bool) (*Replay, error) {
	r := &Replay{kind: &requestLog, hours: make(map[int64]bool)}
	if bodies {
		r.kind = &requestBodies
	}
	for _, s := range shards {
		t, err := s.Conn.Describe(ctx, r.kind.table)
		if err != nil {
			return nil, err
		}
		r.shards = append(r.shards, replayTable{s.Conn, t, strings.Join(s.Addresses, ",")})
	}
	if r.holds = r.shards; cluster {
		t, err := shards[0].Conn.Describe(ctx, r.kind.table+"_all")
		if err != nil {
			return nil, err
		}
		r.holds = []replayTable{{conn: shards[0].Conn, table: t}}
	}
	return r, nil
}

// Block stores the block of one zstd frame, and returns how many rows of it
// were sent and how many were there.
func (r *Replay) Block(ctx context.Context, h *spool.Header, frame []byte) (sent, there int, err error) {
	if err := r.block.Unpack(frame); err != nil {
		return 0, 0, err
	}
	home := r.home(h.Target)
	rest, err := r.missing(ctx, home)
	if err != nil {
		return 0, 0, fmt.Errorf("replay: %w", err)
	}
	all := r.block.Rows()
	if rest == nil || rest.Rows() < all {
		r.noteHours()
	}
	if rest == nil {
		return 0, all, nil
	}
	input, token := r.block.Input(), h.Token
	if rest.Rows() < all {
		input, token = rest.Input(), token+"/rest"
	}
	to := r.shards[home]
	if err := to.conn.Insert(ctx, to.table, input, token); err != nil {
		return 0, 0, to.conn.Explain(err)
	}
	return rest.Rows(), all - rest.Rows(), nil
}

// home is the shard that blocks for target go to, where a server that has such
// a block already may know its token; the first where target is none of them.
func (r *Replay) home(target string) int {
	for i := range r.shards {
		if target != "" && shares(target, r.shards[i].shard) {
			return i
		}
	}
	return 0
}

// missing returns the rows of the block that no shard has, nil where all are
// stored. home is asked first, since it most likely has them.
func (r *Replay) missing(ctx context.Context, home int) (batch, error) {
	b, rest := &r.block, batch(&r.block)
	for i := range r.holds {
		at := &r.holds[(home+i)%len(r.holds)]
		var err error
		if rest, err = r.kind.rest(ctx, at.conn, at.table, b); err != nil || rest == nil {
			return nil, err
		}
		if rest.Rows() < b.Rows() {
			if b, err = decoded(rest); err != nil {
				return nil, err
			}
		}
	}
	return rest, nil
}

// noteHours remembers the hours of the block's rows.
func (r *Replay) noteHours() {
	if r.kind != &requestLog {
		return
	}
	var row Row
	for i := range r.block.Rows() {
		r.block.Row(i, &row)
		r.hours[row.Start/1000/3600*3600] = true
	}
}

// Hours are those, by their beginning in Unix seconds, of blocks of which some
// rows were stored before: by an INSERT that may have failed after the rows were
// there and before the hourly rollup had them.
func (r *Replay) Hours() map[int64]bool { return r.hours }
