package auth

import (
	"sync/atomic"
	"unsafe"
)

// Lookups counts what lookups of keys, since the start, met with.
type Lookups struct {
	Hit      int64 // in the table, be it of a good key or of one that is refused
	Stale    int64 // in the table while Redis was away: whether it still holds is not known
	Negative int64 // known not to be a key, without asking the store
	Miss     int64 // not in the table: the store was asked, or there is none to ask
}

const (
	lookupHit = iota
	lookupStale
	lookupNegative
	lookupMiss
)

// lookupCounts is Lookups in stripes. With one number, which every core writes,
// the cores wait for each other's cache line: a lookup by two at the same time
// took 105 ns instead of 41.
type lookupCounts [16]struct {
	of [4]atomic.Int64
	_  [96]byte // the processor fetches lines in pairs
}

// add counts one lookup. The stripe is chosen by where the goroutine's stack
// lies, which says nothing and costs nothing.
func (c *lookupCounts) add(kind int) {
	var here byte
	// Fibonacci hashing: the upper four bits of the product.
	c[uint64(uintptr(unsafe.Pointer(&here))>>10)*0x9e3779b97f4a7c15>>60].of[kind].Add(1)
}

func (c *lookupCounts) sum() Lookups {
	var n [4]int64
	for i := range c {
		for kind := range n {
			n[kind] += c[i].of[kind].Load()
		}
	}
	return Lookups{Hit: n[lookupHit], Stale: n[lookupStale], Negative: n[lookupNegative], Miss: n[lookupMiss]}
}
