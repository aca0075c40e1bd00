package requestlog

import (
	"fmt"
	"sync"

	"github.com/ClickHouse/ch-go/proto"

	"streamrelay/telemetry/spool"
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
	_, err := encodeParts(buf, b, nil)
	return err
}

// encodeParts is encode, and appends to parts where in buf there are values of
// one width, for spool.Pack.
func encodeParts(buf *proto.Buffer, b batch, parts []spool.Part) ([]spool.Part, error) {
	list, rows := b.Input(), b.Rows()
	buf.PutInt(len(list))
	buf.PutInt(rows)
	for _, c := range list {
		if n := c.Data.Rows(); n != rows {
			return parts, fmt.Errorf("encode block: column %s has %d rows, others %d", c.Name, n, rows)
		}
		c.EncodeStart(buf, 0)
		if rows == 0 {
			continue
		}
		if v, ok := c.Data.(proto.Preparable); ok { // a column that came from a file
			if err := v.Prepare(); err != nil {
				return parts, fmt.Errorf("encode block: column %s: %w", c.Name, err)
			}
		}
		if v, ok := c.Data.(proto.StateEncoder); ok {
			v.EncodeState(buf)
		}
		start := len(buf.Buf)
		c.Data.EncodeColumn(buf)
		end := len(buf.Buf)
		switch col := c.Data.(type) {
		case *proto.ColUUID, *proto.ColIPv6:
			parts = append(parts, spool.Part{Start: start, End: end, Width: 16})
			continue
		case *dict: // its values, then its keys
			start = max(start, end-rows*col.keyBytes())
		case *nullable:
			parts = append(parts, spool.Part{Start: start, End: start + rows, Width: 8})
			start += rows
		case *dicts, *proto.ColArr[uint16]: // the ends of arrays, then what is in them
			end = start + 8*rows
		}
		parts = append(parts, spool.Part{Start: start, End: end, Width: 8})
	}
	return parts, nil
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
