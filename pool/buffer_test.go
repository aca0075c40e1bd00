package pool

import (
	"bytes"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
)

// counted is a Buffers that says whether anybody holds a Buffer: what nobody
// refers to the garbage collector takes.
type counted struct {
	Buffers
	made, freed atomic.Int64
}

func newCounted() *counted {
	c := new(counted)
	c.fixed.New = func() any {
		c.made.Add(1)
		b := &Buffer{origin: &c.Buffers}
		runtime.SetFinalizer(b, func(*Buffer) { c.freed.Add(1) })
		return b
	}
	return c
}

// noneHeld waits until no Buffer is held.
func (c *counted) noneHeld(t testing.TB) {
	t.Helper()
	eventually(t, "every buffer is given back", func() bool {
		runtime.GC()
		return c.made.Load() == c.freed.Load()
	})
}

func TestBufferIsLentAndTakenBack(t *testing.T) {
	var p Buffers
	b := p.Get()
	if len(b.B) != BufferSize {
		t.Fatalf("%d bytes", len(b.B))
	}
	for i := range b.B {
		b.B[i] = 'x'
	}
	b.Put()
	(*Buffer)(nil).Put()
	other := p.Get()
	defer other.Put()
	if raceEnabled && bytes.IndexByte(other.B[:], 'x') >= 0 {
		t.Error("shows what the one before had in it")
	}
}

func TestBufferGivenBackTwiceIsNoticed(t *testing.T) {
	if !raceEnabled {
		t.Skip("looked for in race builds only: run go test -race")
	}
	var p Buffers
	b := p.Get()
	b.Put()
	defer func() {
		if v := recover(); v == nil {
			t.Error("no panic")
		}
	}()
	b.Put()
}

func TestBufferHeldAfterPutIsSeen(t *testing.T) {
	if !raceEnabled {
		t.Skip("poisoned in race builds only: run go test -race")
	}
	var p Buffers
	b := p.Get()
	stale := b.B[10:14]
	copy(stale, "data")
	b.Put()
	if want := []byte{0xDB, 0xDB, 0xDB, 0xDB}; !bytes.Equal(stale, want) {
		t.Errorf("a stale slice still reads %q", stale)
	}
	block := p.Block(100)
	block.B = append(block.B, "data"...)
	kept := block.B
	block.Put()
	if kept[0] != 0xDB {
		t.Errorf("a stale slice of a block still reads %q", kept)
	}
}

func TestBlockHasTheRoomAskedFor(t *testing.T) {
	var p Buffers
	for _, c := range []struct{ n, room int }{
		{-1, 4 << 10}, {0, 4 << 10}, {1, 4 << 10}, {4<<10 - 1, 4 << 10}, {4 << 10, 4 << 10}, {4<<10 + 1, 8 << 10},
		{16 << 10, 16 << 10}, {1<<20 - 1, 1 << 20}, {1<<20 + 1, 2 << 20}, {4 << 20, 4 << 20}, {4<<20 + 1, 4<<20 + 1}, {64 << 20, 64 << 20},
	} {
		t.Run(fmt.Sprint(c.n), func(t *testing.T) {
			for range 3 { // fresh, and perhaps used before
				b := p.Block(c.n)
				if len(b.B) != 0 || cap(b.B) != c.room {
					t.Fatalf("length %d, room %d; want 0, %d", len(b.B), cap(b.B), c.room)
				}
				b.B = append(b.B, "left over"...)
				b.Put()
			}
		})
	}
	(*Block)(nil).Put()
}

func TestLendingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops what it likes in race builds")
	}
	var p Buffers
	p.Get().Put()
	p.Block(100 << 10).Put()
	if n := testing.AllocsPerRun(1000, func() {
		p.Get().Put()
		p.Block(100 << 10).Put()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestBuffersAreLentToManyAtOnce(t *testing.T) {
	var p Buffers
	done := make(chan bool)
	for g := range 8 {
		go func() {
			ok := true
			for range 2000 {
				b := p.Get()
				block := p.Block(5000)
				for i := range 64 {
					b.B[i] = byte(g)
				}
				block.B = append(block.B, b.B[:64]...)
				for i := range 64 {
					ok = ok && b.B[i] == byte(g) && block.B[i] == byte(g)
				}
				block.Put()
				b.Put()
			}
			done <- ok
		}()
	}
	for range 8 {
		if !<-done {
			t.Error("two had the same memory")
		}
	}
}
