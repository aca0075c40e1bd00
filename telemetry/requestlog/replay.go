package requestlog

import (
	"context"
	"fmt"

	"streamrelay/telemetry/clickhouse"
)

// Replay sends blocks of files to ClickHouse, each row once, whatever has been
// sent before. It belongs to one goroutine.
type Replay struct {
	conn  *clickhouse.Conn
	table *clickhouse.Table
	block Block
}

// NewReplay looks at the table behind conn, which stays the caller's.
func NewReplay(ctx context.Context, conn *clickhouse.Conn) (*Replay, error) {
	t, err := conn.Describe(ctx, "request_log")
	if err != nil {
		return nil, err
	}
	return &Replay{conn: conn, table: t}, nil
}

// Block stores the block of one zstd frame, and returns how many rows of it
// were sent and how many were there.
func (r *Replay) Block(ctx context.Context, token string, frame []byte) (sent, there int, err error) {
	if err := r.block.Unpack(frame); err != nil {
		return 0, 0, err
	}
	rest, err := restOf(ctx, r.conn, r.table, &r.block)
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
