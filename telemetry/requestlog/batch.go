package requestlog

import (
	"fmt"
	"sync"

	"github.com/ClickHouse/ch-go/proto"
)

// batch is rows in columns: what one block, and one INSERT, is made of. There
// are two: of the log's rows, and of bodies. A batch has one owner at a time:
// the sealer, then a sender, and the pool of free ones again.
type batch interface {
	Rows() int
	// Input lists the columns for an INSERT. It is the batch's own memory.
	Input() proto.Input
	// Reset takes the rows away and keeps the memory.
	Reset()
}

// encode appends the rows of b as one block in the Native format, revision 0.
func encode(buf *proto.Buffer, b batch) error {
	list := b.Input()
	block := proto.Block{Columns: len(list), Rows: b.Rows()}
	if err := block.EncodeRawBlock(buf, 0, list); err != nil {
		return fmt.Errorf("encode block: %w", err)
	}
	return nil
}

// Batch is a batch of the log's rows, of which it takes at most 65,536.
type Batch struct {
	*columns
	list proto.Input // of columns, made once
}

// NewBatch returns an empty batch, which grows as it needs.
func NewBatch() *Batch {
	c := newColumns()
	return &Batch{c, c.list()}
}

// Append adds row, copying its text.
func (b *Batch) Append(row *Row) { b.add(row) }

// Rows implements batch.
func (b *Batch) Rows() int { return len(b.id) }

// Input implements batch.
func (b *Batch) Input() proto.Input { return b.list }

// Reset implements batch.
func (b *Batch) Reset() { b.list.Reset() }

// pool is what nobody uses now. What came last goes first: its memory is most
// likely still in a cache, and in use at all.
type pool[T any] struct {
	mu   sync.Mutex // for one push or pop
	list []*T
}

func (p *pool[T]) put(v *T) {
	p.mu.Lock()
	p.list = append(p.list, v)
	p.mu.Unlock()
}

// get returns nil where there is none.
func (p *pool[T]) get() *T {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.list)
	if n == 0 {
		return nil
	}
	v := p.list[n-1]
	p.list = p.list[:n-1]
	return v
}

func (p *pool[T]) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.list)
}
