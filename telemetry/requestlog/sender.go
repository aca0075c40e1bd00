package requestlog

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"streamrelay/configs"
	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/spool"
)

const (
	// liveBlocks may wait in memory for one sender. What is more waits in files.
	liveBlocks = 2
	// guesses is how often the server may refuse a block with a code that
	// nothing is known of.
	guesses = 5
	// A replayed block is followed by a pause as long as it took, while live
	// blocks have come within this time: at most half of a sender is replay's.
	liveRecently = 5 * time.Second
)

// sender delivers blocks to the replicas of one shard, one at a time: the one
// at hand is stored, or given up, before the next is begun. So a block whose
// outcome is unknown goes before any other.
type sender struct {
	p          *pipe
	clickhouse *configs.ClickHouse // as it is in force while the sender lives
	name       string              // of the shard: its addresses
	addresses  []string
	peers      []*sender // of all shards, this one too
	live       chan *block
	woken      chan struct{} // has room for one: the spool has something
	last       chan struct{} // closed: the sealer sends no more
	leave      chan struct{} // closed: the sender ends after the block at hand
	ended      chan struct{}
	healthy    atomic.Bool
	ctx        context.Context
	cancel     context.CancelFunc
	begun      bool // the sealer's: run has been called

	// What follows is run's own, and left's when run has ended.
	first    []*block // of the shard's sender before this one
	at       int      // of addresses
	link     link
	cur      *block
	state    string // what is wrong, as it was last logged; "": nothing
	liveAt   time.Time
	replayAt time.Time
	crowd    crowd
	off      map[*spool.Block]bool // not to be taken from the spool before offUntil
	offUntil time.Time
	found    found
}

func newSender(p *pipe, addresses []string, c *configs.ClickHouse) *sender {
	own := *c
	s := &sender{
		p: p, clickhouse: &own, name: strings.Join(addresses, ","), addresses: addresses,
		live: make(chan *block, liveBlocks), woken: make(chan struct{}, 1),
		last: make(chan struct{}), leave: make(chan struct{}), ended: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.healthy.Store(true) // until the first attempt says otherwise
	return s
}

// shares reports whether two shards, named by their addresses, have a replica
// in common: they are then the same shard.
func shares(a, b string) bool {
	if a == b {
		return true
	}
	for address := range strings.SplitSeq(a, ",") {
		for other := range strings.SplitSeq(b, ",") {
			if address == other {
				return true
			}
		}
	}
	return false
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
	all = append(all, s.first...)
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
	defer s.sayFound(true)
	for {
		if s.cur = s.next(); s.cur == nil || !s.deliver(s.cur) {
			return
		}
		s.cur = nil
	}
}

// next waits for a block: one of the sender before first, then a live one, else
// the oldest of the spool. Nil: there will be none.
func (s *sender) next() *block {
	for {
		s.sayFound(false)
		select {
		case <-s.leave:
			return nil
		default:
		}
		if len(s.first) > 0 {
			x := s.first[0]
			s.first = s.first[1:]
			return x
		}
		select {
		case x := <-s.live:
			s.liveAt = time.Now()
			return x
		default:
		}
		select {
		case <-s.last: // what waits goes too, for as long as the end is waited for
			if s.well() && s.ctx.Err() == nil && len(s.live) == 0 {
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
		case <-s.leave:
		case <-s.last:
			timer.Stop()
			if len(s.live) == 0 && !s.well() {
				return nil
			}
		case <-s.ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// well reports whether the last block was stored.
func (s *sender) well() bool { return s.healthy.Load() || s.crowd.level > 0 && s.state == "" }

// deliver tries until the block is stored or given up. It returns false when
// the sender is to end first; what is left of the block is then as it was.
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
		if errors.Is(err, errGone) { // also where the sender ends: there is nothing to hand on
			s.recycle(x)
			return true
		}
		if s.ctx.Err() != nil || isClosed(s.leave) {
			return false
		}
		class, known := clickhouse.Classify(err)
		switch {
		case class == clickhouse.ClassPoison && x.attempts == before: // of another statement: the block is not at fault
			class = clickhouse.ClassWait
		case !known:
			if x.unknown++; x.unknown < guesses {
				class = clickhouse.ClassRetry
			}
		}
		s.p.stats.insertErrors[class].Add(1)
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
		wait := s.p.backoff << min(failures/len(s.addresses), 5)
		if clickhouse.Code(err) == 252 { // too many parts: merging takes its time
			s.crowded()
			wait = max(wait, crowdPause*s.p.backoff)
		}
		select {
		case <-time.After(min(wait, 40*s.p.backoff)):
		case <-s.ctx.Done():
			return false
		case <-s.leave:
			return false
		}
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// succeeded acknowledges a stored block.
func (s *sender) succeeded(x *block, began time.Time) {
	p := s.p
	for _, b := range x.stored {
		if err := p.folder.Load().Ack(b); err != nil {
			p.log.Warn().Err(err).Msg("request log: a block is stored, but a restart would send it again (it would not be doubled)")
		}
	}
	p.stats.stored.Add(uint64(x.rows))
	p.stats.inserts.Add(1)
	p.stats.lastStored.Store(time.Now().UnixMilli())
	if x.batch == nil {
		p.stats.replayed.Add(uint64(x.rows))
		if time.Since(s.liveAt) < liveRecently {
			s.replayAt = time.Now().Add(time.Since(began))
		}
	}
	s.recycle(x)
	if s.state != "" {
		s.state = ""
		e := p.log.Info().Str("address", s.addresses[s.at]).Str("table", p.kind.table)
		if folder := p.folder.Load(); folder != nil {
			e = e.Int64("rows_waiting", folder.Waiting())
		}
		e.Msg("request log: ClickHouse takes rows again")
	}
	s.relieve()
	s.healthy.Store(s.crowd.level == 0 || p.kind.merge == 0)
}

func (s *sender) recycle(x *block) {
	x.merged = nil
	if x.batch != nil {
		s.p.in.recycle(x.batch)
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
	e := s.p.log.Warn().Err(err).Str("state", state).Str("table", s.p.kind.table)
	if s.p.folder.Load() != nil {
		e.Msg("request log: ClickHouse does not take rows; they wait in files")
	} else {
		e.Msg("request log: ClickHouse does not take rows, and there is no folder where they could wait")
	}
}

// errGone says that a block is no longer there, damaged, or put aside; it is
// counted.
var errGone = errors.New("the block is gone")
