package requestlog

import (
	"context"
	"fmt"

	"streamrelay/telemetry/clickhouse"
)

// Replay sends blocks of files to ClickHouse, each row once, whatever has been
// sent before. It belongs to one goroutine.
type Replay struct {
	kind  *kind
	conn  *clickhouse.Conn
	table *clickhouse.Table
	block Block
}

// NewReplay looks at the table behind conn, which stays the caller's. bodies
// says that the files are those of bodies.
func NewReplay(ctx context.Context, conn *clickhouse.Conn, bodies bool) (*Replay, error) {
	k := &requestLog
	if bodies {
		k = &requestBodies
	}
	t, err := conn.Describe(ctx, k.table)
	if err != nil {
		return nil, err
	}
	return &Replay{kind: k, conn: conn, table: t}, nil
}

// Block stores the block of one zstd frame, and returns how many rows of it
// were sent and how many were there.
func (r *Replay) Block(ctx context.Context, token string, frame []byte) (sent, there int, err error) {
	if err := r.block.Unpack(frame); err != nil {
		return 0, 0, err
	}
	rest, err := r.kind.rest(ctx, r.conn, r.table, &r.block)
	if err != nil {
		return 0, 0, fmt.Errorf("replay: %w", err)
	}
	all := r.block.Rows()
	if rest == nil {
		return 0, all, nil
	}
	input := r.block.Input()
	if rest.Rows() < all {
		input, token = rest.Input(), token+"/rest"
	}
	if err := r.conn.Insert(ctx, r.table, input, token); err != nil {
		return 0, 0, r.conn.Explain(err)
	}
	return rest.Rows(), all - rest.Rows(), nil
}
