package auth

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// What unknown keys may cost: Redis at most this many questions a second, of
// all clients and of one address, and memory a fixed amount.
const (
	missRate       = 500
	missBurst      = 500
	missRatePerIP  = 20
	missBurstPerIP = 50
	missAddresses  = 8192
	negativeSlots  = 1 << 16 // 16 bytes each
	negativeLife   = 5 * time.Second
	maxFlights     = 256
	missTimeout    = 200 * time.Millisecond
)

// negatives remembers digests that no store knew a moment ago, in fixed memory:
// of two that meet in a place the later stays.
type negatives struct {
	seed  uint64 // so that nobody can aim at a place
	slots [negativeSlots]struct{ tag, until atomic.Uint64 }
}

func newNegatives() *negatives { return &negatives{seed: rand.Uint64()} }

func (n *negatives) place(digest *Digest) (*struct{ tag, until atomic.Uint64 }, uint64) {
	at := (binary.LittleEndian.Uint64(digest[:8]) ^ n.seed) * 0x9e3779b97f4a7c15 >> 48
	return &n.slots[at], binary.LittleEndian.Uint64(digest[8:16]) ^ binary.LittleEndian.Uint64(digest[16:24]) | 1
}

func (n *negatives) has(digest *Digest, now time.Time) bool {
	slot, tag := n.place(digest)
	return slot.tag.Load() == tag && uint64(now.UnixNano()) < slot.until.Load()
}

func (n *negatives) add(digest *Digest, now time.Time) {
	slot, tag := n.place(digest)
	slot.tag.Store(tag)
	slot.until.Store(uint64(now.Add(negativeLife).UnixNano()))
}

func (n *negatives) forget(digest *Digest) {
	if slot, tag := n.place(digest); slot.tag.Load() == tag {
		slot.until.Store(0)
	}
}

// missLimits bound the questions to the store. Addresses share places by a
// seeded hash: a few meet, and memory does not grow.
type missLimits struct {
	seed      maphash.Seed
	all       atomic.Int64 // when the bucket is full, Unix ns (GCRA)
	addresses [missAddresses]atomic.Int64
}

func newMissLimits() *missLimits { return &missLimits{seed: maphash.MakeSeed()} }

func (m *missLimits) allow(client netip.Addr, now time.Time) bool {
	if client.IsValid() {
		client = client.Unmap()
		if client.Is6() { // what one subscriber has
			prefix, _ := client.Prefix(64)
			client = prefix.Addr()
		}
		at := maphash.Comparable(m.seed, client) % missAddresses
		if !takeOne(&m.addresses[at], now.UnixNano(), int64(time.Second)/missRatePerIP, missBurstPerIP) {
			return false
		}
	}
	return takeOne(&m.all, now.UnixNano(), int64(time.Second)/missRate, missBurst)
}

// takeOne takes a unit of a bucket of burst units, each of which takes emit to
// come back.
func takeOne(full *atomic.Int64, now, emit, burst int64) bool {
	for {
		old := full.Load()
		next := max(old, now) + emit
		if next-now > burst*emit {
			return false
		}
		if full.CompareAndSwap(old, next) {
			return true
		}
	}
}

// flights are the questions under way, one per digest.
type flights struct {
	mu sync.Mutex
	of map[Digest]*flight
}

type flight struct {
	done   chan struct{}
	record *Record
	status Status
}

// missing is Table.missing: it finds out about a key that the table lacks.
func (s *redisStore) missing(key []byte, digest Digest, client netip.Addr) (*Record, Status) {
	now := time.Now()
	if ours, ok := CheckForm(key); ours && !ok || s.negatives.has(&digest, now) {
		s.table.lookups.add(lookupNegative)
		return nil, Unknown
	}
	s.table.lookups.add(lookupMiss)
	if s.phase.Load() != phaseReady {
		return nil, Unavailable
	}
	s.flights.mu.Lock()
	f, under := s.flights.of[digest]
	if !under { // who joins a question costs nothing
		// One that ended since the table was looked at has answered this, too.
		if r, status := s.table.LookupDigest(&digest, now.Unix()); status != Unknown {
			s.flights.mu.Unlock()
			return r, status
		}
		if s.negatives.has(&digest, now) {
			s.flights.mu.Unlock()
			return nil, Unknown
		}
		if len(s.flights.of) >= maxFlights || !s.misses.allow(client, now) {
			s.flights.mu.Unlock()
			return nil, TooManyMisses
		}
		f = &flight{done: make(chan struct{}), status: Unavailable}
		s.flights.of[digest] = f
	}
	s.flights.mu.Unlock()
	if under {
		timer := time.NewTimer(missTimeout)
		defer timer.Stop()
		select {
		case <-f.done:
			return f.record, f.status
		case <-timer.C:
			return nil, Unavailable
		}
	}
	defer func() {
		s.flights.mu.Lock()
		delete(s.flights.of, digest)
		s.flights.mu.Unlock()
		close(f.done)
	}()
	f.record, f.status = s.fetch(digest, now)
	return f.record, f.status
}

// fetch asks Redis for one key. An answer that a change overtook is void.
func (s *redisStore) fetch(digest Digest, now time.Time) (*Record, Status) {
	ctx, cancel := context.WithTimeout(s.ctx, missTimeout)
	defer cancel()
	for range 3 {
		client := s.client.Load()
		if client == nil {
			break
		}
		generation := s.gens[genOf(&digest)].Load()
		s.fetches.Add(1)
		began := time.Now()
		marker, values, err := readSubjects(ctx, *client, &s.names, []string{subjectOfDigest(&digest)})
		s.called(CallLookup, time.Since(began))
		if known := s.marker(); err != nil || marker != known && known != "" {
			break
		}
		r, current := s.apply(digest, values[0], generation)
		switch {
		case !current:
			continue
		case r == nil:
			s.negatives.add(&digest, now)
			if s.gens[genOf(&digest)].Load() != generation {
				s.negatives.forget(&digest)
			}
			return nil, Unknown
		}
		return s.table.LookupDigest(&digest, now.Unix())
	}
	return nil, Unavailable
}
