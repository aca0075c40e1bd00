package requestlog

import (
	"fmt"

	"github.com/ClickHouse/ch-go/proto"
)

// Batch is rows in columns: what one block, and one INSERT, is made of. It has
// one owner at a time: the shard that fills it (under its lock), then the
// sealer, then the sender, and the pool of free ones again.
type Batch struct {
	*columns
	list proto.Input // of columns, made once
}

// NewBatch returns a batch for at most rows rows, at most 65,536.
func NewBatch(rows int) *Batch {
	c := newColumns(min(rows, maxDict))
	return &Batch{c, c.list()}
}

// Append adds row, copying its text, and reports whether another one fits.
func (b *Batch) Append(row *Row) (room bool) {
	b.add(row)
	return b.room()
}

// Rows is how many rows there are.
func (b *Batch) Rows() int { return len(b.id) }

// Input lists the columns for an INSERT. It is the batch's own memory.
func (b *Batch) Input() proto.Input { return b.list }

// Encode appends the rows as one block in the Native format, revision 0, to buf.
func (b *Batch) Encode(buf *proto.Buffer) error {
	block := proto.Block{Columns: len(b.list), Rows: b.Rows()}
	if err := block.EncodeRawBlock(buf, 0, b.list); err != nil {
		return fmt.Errorf("encode block: %w", err)
	}
	return nil
}

// Reset takes the rows away and keeps the memory.
func (b *Batch) Reset() { b.list.Reset() }
