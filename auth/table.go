package auth

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// Status is what a lookup found out.
type Status uint8

// The statuses. The zero Status lets nobody in.
const (
	Unknown     Status = iota // no such key
	Found                     // the key is good
	Disabled                  // disabled or revoked; Record.Revoked tells which
	Expired                   // past its expiry
	Unavailable               // not in the table, and the store that may know it is away: not the client's fault. A file store never says it
)

var statuses = [...]string{"unknown", "found", "disabled", "expired", "unavailable"}

// String returns the status in a word, for logs.
func (s Status) String() string { return statuses[s] }

// minSlots is the size of an empty table; every size is a power of two.
const minSlots = 8

// Table finds a key's record by the digest of the key. Lookups may come from
// any number of goroutines; they take no lock and allocate nothing. Writers
// wait for each other. The Table knows no store: it holds what it was given
// last, and a lookup that began before a write may still answer as before it.
type Table struct {
	pepper []byte
	cur    atomic.Pointer[slots]

	mu   sync.Mutex // held by writers; protects what follows, and every store into a slot
	live int        // records
	used int        // records and tombstones
}

// slots is an open-addressing hash table with linear probing. A slot goes from
// empty to a record, and from then on holds a record or the tombstone, never
// nothing again: a reader that probes past it must not stop there.
type slots struct {
	mask uint64
	slot []atomic.Pointer[Record]
}

// tombstone stands where a record was deleted. Nothing but its address counts.
var tombstone = new(Record)

// NewTable returns an empty table whose digests are made with pepper, which
// may be empty and which the table keeps.
func NewTable(pepper []byte) *Table {
	t := &Table{pepper: pepper}
	t.cur.Store(newSlots(minSlots))
	return t
}

// NewStatic returns a table, without a store, of records whose digests were
// made without pepper. It owns the records from then on.
func NewStatic(records ...*Record) *Table {
	t := NewTable(nil)
	t.Replace(records)
	return t
}

func newSlots(n int) *slots {
	return &slots{mask: uint64(n - 1), slot: make([]atomic.Pointer[Record], n)}
}

// Lookup finds the record of a presented key at now (Unix seconds). The record
// is nil with Unknown and Unavailable; with Disabled and Expired it is given
// only so that the refusal can be logged under its id. The key is not kept.
//
// The form of the key is not checked first: a miss in memory costs less than
// the checksum.
func (t *Table) Lookup(key []byte, now int64) (*Record, Status) {
	if len(key) == 0 || len(key) > maxKeyLength {
		return nil, Unknown
	}
	digest := DigestOf(t.pepper, key)
	return t.LookupDigest(&digest, now)
}

// LookupDigest is Lookup for a digest that was made already, with the table's
// pepper.
func (t *Table) LookupDigest(digest *Digest, now int64) (*Record, Status) {
	r := t.cur.Load().find(digest)
	switch {
	case r == nil:
		return nil, Unknown
	case !r.usable:
		return r, Disabled
	case now >= r.expires:
		return r, Expired
	}
	return r, Found
}

// find returns the record of digest, or nil. The first bytes of a digest are
// the index: nobody can choose keys that collide, and the time that a probe
// takes tells of nothing but digests, so the comparison need not be constant
// in time.
func (s *slots) find(digest *Digest) *Record {
	for i := home(digest); ; i++ {
		r := s.slot[i&s.mask].Load()
		if r == nil {
			return nil // there is always one: a table is never full
		}
		if r.Digest == *digest && r != tombstone {
			return r
		}
	}
}

func home(digest *Digest) uint64 { return binary.LittleEndian.Uint64(digest[:8]) }

// Put adds r, or replaces the record of the same digest. The table owns r from
// then on.
func (t *Table) Put(r *Record) {
	r.publish()
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.cur.Load()
	if (t.used+1)*4 > len(s.slot)*3 {
		s = t.growLocked(s)
	}
	t.putLocked(s, r)
}

// putLocked stores r into s, which has room. A tombstone on the way is not
// reused: the digest may stand behind it.
func (t *Table) putLocked(s *slots, r *Record) {
	for i := home(&r.Digest); ; i++ {
		slot := &s.slot[i&s.mask]
		switch old := slot.Load(); {
		case old == nil:
			slot.Store(r)
			t.live++
			t.used++
			return
		case old != tombstone && old.Digest == r.Digest:
			slot.Store(r)
			return
		}
	}
}

// growLocked publishes a copy of s without tombstones, large enough that the
// next copy is far away, and returns it.
func (t *Table) growLocked(s *slots) *slots {
	bigger := newSlots(sizeFor(t.live + 1))
	t.live, t.used = 0, 0
	for i := range s.slot {
		if r := s.slot[i].Load(); r != nil && r != tombstone {
			t.putLocked(bigger, r)
		}
	}
	t.cur.Store(bigger)
	return bigger
}

// sizeFor returns the number of slots for n records: at most half full.
func sizeFor(n int) int {
	size := minSlots
	for size < 2*n {
		size *= 2
	}
	return size
}

// Delete takes the record of digest out and reports whether there was one.
func (t *Table) Delete(digest *Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.cur.Load()
	for i := home(digest); ; i++ {
		slot := &s.slot[i&s.mask]
		switch r := slot.Load(); {
		case r == nil:
			return false
		case r != tombstone && r.Digest == *digest:
			slot.Store(tombstone)
			t.live--
			return true
		}
	}
}

// Replace makes records the whole content of the table, in one step: a lookup
// sees either all of the old records or all of the new. Of two records with
// one digest the later counts. The table owns the records from then on.
func (t *Table) Replace(records []*Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := newSlots(sizeFor(len(records)))
	t.live, t.used = 0, 0
	for _, r := range records {
		r.publish()
		t.putLocked(s, r)
	}
	t.cur.Store(s)
}

// Len returns the number of records, usable or not.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.live
}
