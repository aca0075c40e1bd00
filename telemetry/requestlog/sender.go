package requestlog

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/spool"
)

const (
	// liveBlocks may wait in memory for one sender. What is more waits in files.
	liveBlocks = 2
	// guesses is how often a block is tried that the server refuses with a
	// code that nothing is known of.
	guesses = 5
	// A replayed block is followed by a pause as long as it took, while live
	// blocks have come within this time: at most half of a sender is replay's.
	liveRecently = 5 * time.Second
)

// sender delivers blocks to the replicas of one shard, one at a time: the one
// at hand is stored, or given up, before the next is begun. So a block whose
// outcome is unknown goes before any other.
type sender struct {
	r         *Recorder
	name      string // of the shard: its addresses
	addresses []string
	live      chan *block
	woken     chan struct{} // has room for one: the spool has something
	last      chan struct{} // closed: the sealer sends no more
	ended     chan struct{}
	healthy   atomic.Bool
	ctx       context.Context
	cancel    context.CancelFunc

	// What follows is run's own, and left's when run has ended.
	at       int // of addresses
	link     link
	cur      *block
	state    string // what is wrong, as it was last logged; "": nothing
	liveAt   time.Time
	replayAt time.Time
}

func newSender(r *Recorder, addresses []string) *sender {
	s := &sender{
		r: r, name: strings.Join(addresses, ","), addresses: addresses,
		live: make(chan *block, liveBlocks), woken: make(chan struct{}, 1),
		last: make(chan struct{}), ended: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.healthy.Store(true) // until the first attempt says otherwise
	return s
}

// offer hands a block over, unless the sender is busy with others.
func (s *sender) offer(x *block) bool {
	select {
	case s.live <- x:
		return true
	default:
		return false
	}
}

// wake says that a block waits in the spool.
func (s *sender) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// left returns what the sender has not stored, once it has ended.
func (s *sender) left() []*block {
	var all []*block
	if s.cur != nil {
		all = append(all, s.cur)
	}
	for {
		select {
		case x := <-s.live:
			all = append(all, x)
		default:
			return all
		}
	}
}

func (s *sender) run() {
	defer close(s.ended)
	defer s.link.close()
	for {
		if s.cur = s.next(); s.cur == nil || !s.deliver(s.cur) {
			return
		}
		s.cur = nil
	}
}

// next waits for a block: a live one first, else the oldest of the spool. Nil:
// there will be none.
func (s *sender) next() *block {
	for {
		select {
		case x := <-s.live:
			s.liveAt = time.Now()
			return x
		default:
		}
		select {
		case <-s.last: // what waits goes too, for as long as the end is waited for
			if s.healthy.Load() && s.ctx.Err() == nil && len(s.live) == 0 {
				return s.fromSpool()
			}
		default:
		}
		pause := time.Until(s.replayAt)
		if pause <= 0 {
			if x := s.fromSpool(); x != nil {
				return x
			}
			pause = time.Second // another process may have died meanwhile
		}
		timer := time.NewTimer(pause)
		select {
		case x := <-s.live:
			timer.Stop()
			s.liveAt = time.Now()
			return x
		case <-s.woken:
		case <-timer.C:
		case <-s.last:
			timer.Stop()
			if len(s.live) == 0 {
				return nil
			}
		case <-s.ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// fromSpool takes the oldest block that waits for this shard, or for one that
// the configuration no longer has.
func (s *sender) fromSpool() *block {
	folder := s.r.folder.Load()
	if folder == nil {
		return nil
	}
	b := folder.Take(func(target string) bool {
		if target == s.name || target == "" {
			return true
		}
		for _, other := range s.r.senders {
			if other.name == target {
				return false
			}
		}
		return true
	})
	if b == nil {
		return nil
	}
	return &block{token: b.Token, target: b.Target, rows: b.Rows, stored: b}
}

// deliver tries until the block is stored or given up. It returns false when
// the recorder is closed first; the block is then as it was.
func (s *sender) deliver(x *block) bool {
	began := time.Now()
	for failures := 0; ; failures++ {
		before := x.attempts
		err := s.attempt(x)
		if err == nil {
			s.succeeded(x, began)
			return true
		}
		s.link.close()
		if s.ctx.Err() != nil {
			return false
		}
		if errors.Is(err, errGone) {
			s.recycle(x)
			return true
		}
		class, known := clickhouse.Classify(err)
		switch {
		case class == clickhouse.ClassPoison && x.attempts == before: // of another statement: the block is not at fault
			class = clickhouse.ClassWait
		case !known && x.attempts < guesses:
			class = clickhouse.ClassRetry
		}
		s.r.stats.insertErrors[class].Add(1)
		if class == clickhouse.ClassPoison || errors.Is(err, errBlock) {
			s.quarantine(x, err)
			return true
		}
		s.healthy.Store(false)
		s.report(err)
		s.at = (s.at + 1) % len(s.addresses)
		if (failures+1)%len(s.addresses) != 0 && class == clickhouse.ClassNetwork {
			continue // another replica at once
		}
		wait := s.r.o.Backoff << min(failures/len(s.addresses), 5)
		if clickhouse.Code(err) == 252 { // too many parts: merging takes its time
			wait = max(wait, 4*s.r.o.Backoff)
		}
		select {
		case <-time.After(min(wait, 40*s.r.o.Backoff)):
		case <-s.ctx.Done():
			return false
		}
	}
}

// succeeded acknowledges a stored block.
func (s *sender) succeeded(x *block, began time.Time) {
	r := s.r
	if x.stored != nil {
		if err := r.folder.Load().Ack(x.stored); err != nil {
			r.o.Log.Warn().Err(err).Msg("request log: a block is stored, but a restart would send it again (it would not be doubled)")
		}
	}
	r.stats.stored.Add(uint64(x.rows))
	r.stats.inserts.Add(1)
	r.stats.lastStored.Store(time.Now().UnixMilli())
	if x.batch == nil {
		r.stats.replayed.Add(uint64(x.rows))
		if time.Since(s.liveAt) < liveRecently {
			s.replayAt = time.Now().Add(time.Since(began))
		}
	}
	s.recycle(x)
	if s.state != "" {
		s.state = ""
		e := r.o.Log.Info().Str("address", s.addresses[s.at])
		if folder := r.folder.Load(); folder != nil {
			e = e.Int64("rows_waiting", folder.Waiting())
		}
		e.Msg("request log: ClickHouse takes rows again")
	}
	s.healthy.Store(true)
}

func (s *sender) recycle(x *block) {
	if x.batch != nil {
		s.r.recycle(x.batch)
		x.batch = nil
	}
}

// report logs what is wrong, once for each change of it.
func (s *sender) report(err error) {
	state := string(clickhouse.KindNetwork)
	var dial *clickhouse.DialError
	if errors.As(err, &dial) {
		state = string(dial.Kind)
	}
	if state == s.state {
		return
	}
	s.state = state
	e := s.r.o.Log.Warn().Err(err).Str("state", state)
	if s.r.folder.Load() != nil {
		e.Msg("request log: ClickHouse does not take rows; they wait in files")
	} else {
		e.Msg("request log: ClickHouse does not take rows, and there is no folder where they could wait")
	}
}

// errGone says that a block is no longer there, or damaged; it is counted.
var errGone = errors.New("the block is gone")

// load reads a block of the spool.
func (s *sender) load(x *block) (*Block, error) {
	folder := s.r.folder.Load()
	b, err := readBlock(folder, x.stored)
	switch {
	case err == nil:
		return b, nil
	case spool.IsDamaged(err):
		s.r.o.Log.Warn().Err(err).Msg("request log: a damaged block is left out")
		folder.Discard(x.stored)
		return nil, errGone
	case errors.Is(err, fs.ErrNotExist): // dropped with its file meanwhile
		folder.Return(x.stored)
		return nil, errGone
	}
	return nil, err
}
