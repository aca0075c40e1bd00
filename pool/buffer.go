package pool

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// BufferSize is the size of a Buffer: a burst of 64 ordinary events and their
// framing fits, and it is one TLS record.
const BufferSize = 16 << 10

// Buffer is a fixed piece of memory. Its owner is the goroutine that got it;
// after Put nobody may hold a slice of it.
type Buffer struct {
	B      [BufferSize]byte
	lent   atomic.Bool
	origin *Buffers
}

// Buffers lends memory. The zero value is ready; safe for concurrent use.
type Buffers struct {
	fixed sync.Pool // *Buffer
	big   [bigClasses]sync.Pool
}

// Get lends a Buffer; its contents are arbitrary.
func (p *Buffers) Get() *Buffer {
	b, _ := p.fixed.Get().(*Buffer)
	if b == nil {
		b = &Buffer{origin: p}
	}
	if raceEnabled && b.lent.Swap(true) {
		panic("BUG: buffer lent twice")
	}
	return b
}

// Put gives b back. A nil b is ignored.
func (b *Buffer) Put() {
	if b == nil {
		return
	}
	if raceEnabled {
		if !b.lent.Swap(false) {
			panic("BUG: buffer given back twice")
		}
		poison(b.B[:])
	}
	b.origin.fixed.Put(b)
}

// Block is a piece of memory of a size asked for, for a body that must be held.
type Block struct {
	B      []byte // length 0 to the capacity asked for
	class  int
	origin *Buffers
}

// Blocks come in powers of two from 4 KiB to 4 MiB; larger ones are made for
// the occasion and left to the garbage collector.
const (
	minBlockBits = 12
	maxBlockBits = 22
	bigClasses   = maxBlockBits - minBlockBits + 1
)

// Block lends a Block with a capacity of at least n bytes.
func (p *Buffers) Block(n int) *Block {
	c := max(bits.Len(uint(max(n, 1)-1)), minBlockBits) - minBlockBits
	if c >= bigClasses {
		return &Block{B: make([]byte, 0, n), class: -1}
	}
	b, _ := p.big[c].Get().(*Block)
	if b == nil {
		b = &Block{B: make([]byte, 0, 1<<(c+minBlockBits)), class: c, origin: p}
	}
	return b
}

// Put gives b back. A nil b is ignored.
func (b *Block) Put() {
	if b == nil || b.class < 0 {
		return
	}
	if raceEnabled {
		poison(b.B[:cap(b.B)])
	}
	b.B = b.B[:0]
	b.origin.big[b.class].Put(b)
}

func poison(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}
