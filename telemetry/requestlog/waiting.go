package requestlog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"streamrelay/telemetry/spool"
)

// mine reports whether blocks that may have been sent to target are this
// sender's: of its shard, or of one that the configuration no longer has.
func (s *sender) mine(target string) bool {
	if target == "" || shares(target, s.name) {
		return true
	}
	for _, other := range s.peers {
		if shares(target, other.name) {
			return false
		}
	}
	return true
}

// fromSpool takes the oldest block that waits for this shard; where the server
// has too many parts, several small ones that go in one INSERT.
func (s *sender) fromSpool() *block {
	folder := s.p.folder.Load()
	if folder == nil {
		return nil
	}
	if len(s.off) > 0 && time.Now().After(s.offUntil) {
		s.off = nil
	}
	b := folder.Take(func(b *spool.Block) bool { return s.mine(b.Target) && !s.off[b] })
	if b == nil {
		return nil
	}
	x := &block{token: b.Token, target: b.Target, rows: b.Rows, stored: []*spool.Block{b}}
	if s.crowd.level == 0 || b.Doubtful {
		return x
	}
	for x.rows < s.p.kind.merge {
		more := folder.Take(func(b *spool.Block) bool {
			return b.Target == x.target && !b.Doubtful && x.rows+b.Rows <= s.p.kind.merge
		})
		if more == nil {
			break
		}
		x.stored = append(x.stored, more)
		x.rows += more.Rows
	}
	if n := len(x.stored); n > 1 {
		x.token = fmt.Sprintf("%s+%d", x.token, n-1)
	}
	return x
}

// crowd is what a sender knows of a server with too many parts (code 252): it
// then leaves blocks to the spool, pauses between INSERTs, and puts what has
// come meanwhile into one. Level 0: the server is well.
type crowd struct {
	level int
	until time.Time // it is well again if it does not say so before
}

const (
	maxCrowd   = 4
	crowdPause = 4   // times Options.Backoff between INSERTs, doubled with each level above 1
	crowdLasts = 240 // times Options.Backoff after the last such answer
)

// crowded notes that the server said so.
func (s *sender) crowded() {
	s.crowd.level = min(s.crowd.level+1, maxCrowd)
	s.crowd.until = time.Now().Add(crowdLasts * s.p.backoff)
}

// relieve paces the next block, and ends the state when it is over.
func (s *sender) relieve() {
	now := time.Now()
	if s.crowd.level > 0 && now.After(s.crowd.until) {
		s.crowd.level = 0
	}
	if s.crowd.level > 0 {
		s.replayAt = now.Add(crowdPause * s.p.backoff << (s.crowd.level - 1))
	}
}

// load returns the rows of a block of the spool. What is damaged is given up,
// and what cannot be read as a block is put aside: x is without it from then on,
// also where an error ends the attempt.
func (s *sender) load(x *block) (batch, error) {
	if x.merged != nil {
		return x.merged, nil
	}
	folder := s.p.folder.Load()
	var whole []*Block // of the first of x.stored
	for len(whole) < len(x.stored) {
		at := x.stored[len(whole)]
		b, err := readBlock(folder, at)
		switch {
		case err == nil:
			whole = append(whole, b)
			continue
		case spool.IsDamaged(err):
			s.p.log.Warn().Err(err).Msg("request log: a damaged block is left out")
			folder.Discard(at)
		case errors.Is(err, fs.ErrNotExist): // dropped with its file meanwhile, which Return counts
			folder.Return(at, true)
			if folder.Take(func(b *spool.Block) bool { return b == at }) != nil { // no: others deleted the file
				s.p.log.Warn().Err(err).Msg("request log: a block whose file is gone is left out")
				folder.Discard(at)
			}
		case errors.Is(err, errBlock):
			s.quarantine(&block{token: at.Token, target: at.Target, rows: at.Rows, stored: []*spool.Block{at}}, err)
		default:
			return nil, err
		}
		x.stored = slices.Delete(x.stored, len(whole), len(whole)+1)
		x.rows -= at.Rows
	}
	switch len(whole) {
	case 0:
		return nil, errGone
	case 1:
		return whole[0], nil
	}
	into := NewBatch()
	for _, b := range whole {
		into.pick(b, nil)
	}
	x.merged = into
	return into, nil
}
