package auth

import (
	"encoding/binary"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Status is what a lookup found out.
type Status uint8

// The statuses. The zero Status lets nobody in.
const (
	Unknown       Status = iota // no such key
	Found                       // the key is good
	Disabled                    // refused until it is enabled again
	Revoked                     // refused for good
	Expired                     // past its expiry
	Unavailable                 // the store that may know it is away: not the client's fault, 503. A file store never says it
	TooManyMisses               // not in the table, and too many unknown keys were asked for to ask the store for this one: 429
)

var statuses = [...]string{"unknown", "found", "disabled", "revoked", "expired", "unavailable", "too many misses"}

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
	// goodUntil is until when (Unix seconds) the table may be believed.
	goodUntil atomic.Int64
	// missing asks the store for a key that the table lacks; nil: there is
	// nothing but the table. It may wait for a bounded time.
	missing func(key []byte, digest Digest, client netip.Addr) (*Record, Status)
	away    atomic.Bool // the store cannot be heard; what the table has goes on
	lookups lookupCounts
	onEnd   atomic.Pointer[func()] // see Store.OnEnd
	ends    chan struct{}          // has one when keys have ended

	mu   sync.Mutex // held by writers; protects what follows, and every store into a slot
	live int        // records
	used int        // records and tombstones
	last int64      // order of the last record that came
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
	t := &Table{pepper: pepper, ends: make(chan struct{}, 1)}
	t.goodUntil.Store(math.MaxInt64)
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

// LookupFrom finds the record of a key that client presented at now (Unix
// seconds). The record is nil with Unknown, Unavailable of a key that is not in
// the table, and TooManyMisses; with the other refusals it is given only so
// that they can be logged under its id. The key is not kept. A hit waits for
// nothing and allocates nothing; a miss may ask the store, for 200 ms at most.
func (t *Table) LookupFrom(key []byte, client netip.Addr, now int64) (*Record, Status) {
	if len(key) == 0 || len(key) > maxKeyLength {
		t.lookups.add(lookupNegative)
		return nil, Unknown
	}
	digest := DigestOf(t.pepper, key)
	r, status := t.LookupDigest(&digest, now)
	switch {
	case status != Unknown && t.away.Load():
		t.lookups.add(lookupStale)
	case status != Unknown:
		t.lookups.add(lookupHit)
	case t.missing != nil:
		return t.missing(key, digest, client) // which counts
	default:
		t.lookups.add(lookupMiss)
	}
	return r, status
}

// LookupDigest is LookupFrom for a digest that was made already, with the
// table's pepper; without the store, and not counted: what is not in the table
// is Unknown.
func (t *Table) LookupDigest(digest *Digest, now int64) (*Record, Status) {
	r := t.cur.Load().find(digest)
	switch {
	case r == nil:
		return nil, Unknown
	case !r.usable:
		if r.Revoked.IsZero() {
			return r, Disabled
		}
		return r, Revoked
	case now >= r.expires:
		return r, Expired
	case now >= t.goodUntil.Load():
		return r, Unavailable
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
func (t *Table) Put(r *Record) { t.install(r, true) }

// PutNewer is Put unless the table has a later version of the record; it says
// whether it took r. No late answer of a store brings an old record back.
func (t *Table) PutNewer(r *Record) bool { return t.install(r, false) }

func (t *Table) install(r *Record, always bool) bool {
	r.publish()
	t.mu.Lock()
	s := t.cur.Load()
	if old := s.find(&r.Digest); old != nil && !always && old.Version > r.Version {
		t.mu.Unlock()
		return false
	}
	if (t.used+1)*4 > len(s.slot)*3 {
		s = t.growLocked(s)
	}
	t.last++
	r.order = t.last
	ended := t.putLocked(s, r)
	t.mu.Unlock()
	if ended {
		t.tellEnd()
	}
	return true
}

// putLocked stores r into s, which has room, and reports whether a usable key
// ended by that. A tombstone on the way is not reused: the digest may stand
// behind it.
func (t *Table) putLocked(s *slots, r *Record) (ended bool) {
	for i := home(&r.Digest); ; i++ {
		slot := &s.slot[i&s.mask]
		switch old := slot.Load(); {
		case old == nil:
			r.succeed(nil)
			slot.Store(r)
			t.live++
			t.used++
			return false
		case old != tombstone && old.Digest == r.Digest:
			ended = r.succeed(old)
			slot.Store(r)
			if ended {
				old.standing.ended.Store(true)
			}
			return ended
		}
	}
}

// succeed takes over the standing of old, the version of the record that r
// replaces, and reports whether old's has to end. The table's lock is held.
func (r *Record) succeed(old *Record) (ends bool) {
	wasUsable := old != nil && old != r && old.usable
	switch {
	case r.standing != nil: // it only moves to another array
	case r.usable && wasUsable:
		r.standing = old.standing
	case r.usable:
		r.standing = new(standing)
	}
	return wasUsable && !r.usable
}

// tellEnd calls the function of OnEnd, and wakes who waits for ends.
func (t *Table) tellEnd() {
	select {
	case t.ends <- struct{}{}:
	default:
	}
	if f := t.onEnd.Load(); f != nil {
		(*f)()
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
	s := t.cur.Load()
	for i := home(digest); ; i++ {
		slot := &s.slot[i&s.mask]
		switch r := slot.Load(); {
		case r == nil:
			t.mu.Unlock()
			return false
		case r != tombstone && r.Digest == *digest:
			slot.Store(tombstone)
			t.live--
			if r.usable {
				r.standing.ended.Store(true)
			}
			t.mu.Unlock()
			if r.usable {
				t.tellEnd()
			}
			return true
		}
	}
}

// Replace makes records the whole content of the table, in one step: a lookup
// sees either all of the old records or all of the new. Of two records with
// one digest the later counts. The table owns the records from then on.
func (t *Table) Replace(records []*Record) {
	ended := false
	t.mu.Lock()
	before := t.cur.Load()
	s := newSlots(sizeFor(len(records)))
	t.live, t.used = 0, 0
	t.last++
	for _, r := range records {
		r.publish()
		r.order = t.last
		if old := before.find(&r.Digest); old != nil {
			r.succeed(old) // what of it ends is seen below
		}
		t.putLocked(s, r)
	}
	t.cur.Store(s)
	for i := range before.slot {
		old := before.slot[i].Load()
		if old == nil || old == tombstone || !old.usable {
			continue
		}
		if now := s.find(&old.Digest); now == nil || !now.usable {
			old.standing.ended.Store(true)
			ended = true
		}
	}
	t.mu.Unlock()
	if ended {
		t.tellEnd()
	}
}

// get returns the record of digest as it is, or nil.
func (t *Table) get(digest *Digest) *Record { return t.cur.Load().find(digest) }

// all returns the records, in no order.
func (t *Table) all() []*Record {
	s := t.cur.Load()
	records := make([]*Record, 0, len(s.slot)/2)
	for i := range s.slot {
		if r := s.slot[i].Load(); r != nil && r != tombstone {
			records = append(records, r)
		}
	}
	return records
}

// Len returns the number of records, usable or not.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.live
}
