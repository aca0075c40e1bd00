package requestlog

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/klauspost/compress/zstd"

	"streamrelay/configs"
	"streamrelay/telemetry"
	"streamrelay/telemetry/spool"
)

const (
	defaultInterval = time.Second
	walInterval     = 50 * time.Millisecond
)

// block is one sealed block on its way. The sealer owns it until it is sealed,
// then one sender.
type block struct {
	token  string
	target string // the shard that it may have been sent to
	rows   int
	batch  batch          // its rows in memory; nil: only in the spool
	stored []*spool.Block // its place in the spool; none: only in memory; several: small blocks that go in one INSERT
	merged batch          // of several, the rows

	tried    time.Time        // first attempt; zero: none
	inserted map[string]int64 // of the server's counters, before the first attempt
	attempts int
	unknown  int  // of the attempts, those refused with a code that nothing is known of
	found    bool // some of its rows were stored before they were looked up; it is noted
}

// gone reports whether nothing of x is left. Its rows are counted then.
func (x *block) gone() bool { return x.batch == nil && len(x.stored) == 0 }

// sealer turns batches into blocks: it encodes them, writes them to the spool
// and hands them to the senders. It is one goroutine, which also keeps the
// spool.
type sealer struct {
	p          *pipe
	files      configs.RequestLog // as they are in force
	clickhouse configs.ClickHouse
	boot       string
	seq        uint64
	next       int // sender
	native     proto.Buffer
	parts      []spool.Part // of native
	frame      []byte
	zstd       *zstd.Encoder
	tick       *time.Ticker
	deadline   chan time.Duration
	opened     time.Time // last attempt to open the folder
	behind     bool      // settings are in force that the folder does not have
	warned     map[string]time.Time
	stuck      *block    // found no place yet; what comes behind it stays where it is; nil: none
	tried      time.Time // when stuck was last tried
	unwritten  time.Time // since when blocks cannot be written; zero: they can
	lost       uint64    // rows dropped since then
}

func (s *sealer) init(p *pipe, files configs.RequestLog, clickhouse configs.ClickHouse) {
	id := telemetry.NewID(time.Now().UnixNano())
	s.p, s.boot = p, hex.EncodeToString(id[:])
	s.files, s.clickhouse = files, clickhouse
	s.deadline = make(chan time.Duration, 1)
	s.warned = make(map[string]time.Time)
	// 2 windows of memory; the fastest level.
	s.zstd, _ = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
}

// interval is how old a row becomes at most before it is sealed.
func (s *sealer) interval() time.Duration {
	switch {
	case s.p.interval != 0:
		return s.p.interval
	case s.files.Durability == "wal":
		return walInterval
	}
	return defaultInterval
}

func (s *sealer) pulse() time.Duration { return max(s.interval()/4, 5*time.Millisecond) }

// openFolder opens the spool, or says why not; it is tried again later.
func (s *sealer) openFolder() {
	p := s.p
	dir := p.kind.dir(&s.files)
	if dir == "" || p.folder.Load() != nil {
		return
	}
	s.opened = time.Now()
	sends := len(p.shards()) > 0
	folder, err := spool.Open(dir, p.folderOptions(s.boot, &s.files, !sends))
	if err != nil {
		s.warn("open", err, "request log: the folder cannot be used: rows are not kept in files until it can be")
		return
	}
	p.folder.Store(folder)
	s.behind = false
	if rows := folder.Waiting(); rows > 0 {
		e := p.log.Info().Int64("rows", rows).Str("folder", folder.Dir())
		if sends {
			e.Msg("request log: rows of an earlier run wait for ClickHouse")
		} else {
			e.Msg("request log: rows of an earlier run wait for ClickHouse, which is not configured: `relay logs replay` sends them, `relay logs query` reads them")
		}
	}
}

// warn logs what keeps going wrong, once a minute and what.
func (s *sealer) warn(what string, err error, text string) {
	if now := time.Now(); now.Sub(s.warned[what]) >= time.Minute {
		s.warned[what] = now
		s.p.log.Warn().Err(err).Str("table", s.p.kind.table).Msg(text)
	}
}

// run seals until the recorder is closed.
func (s *sealer) run() {
	p := s.p
	s.tick = time.NewTicker(s.pulse())
	defer s.tick.Stop()
	kept := time.Now()
	for {
		select {
		case <-p.in.ready():
			s.sealDue(time.Now().Add(-s.interval()))
		case now := <-s.tick.C:
			s.sealDue(now.Add(-s.interval()))
			if now.Sub(kept) >= time.Second {
				kept = now
				s.keep()
			}
		case do := <-p.asked:
			do()
		case <-p.stop:
			s.finish()
			return
		}
	}
}

// sealDue seals what is full and what came at since or before.
func (s *sealer) sealDue(since time.Time) {
	if s.stuck != nil && !s.unstick() {
		return
	}
	for s.stuck == nil {
		b := s.p.in.take(since.UnixMilli())
		if b == nil {
			return
		}
		s.seal(b)
	}
}

// unstick tries to find a place for the block that has none, and reports
// whether the next one may be taken. While there is memory, rows wait for it:
// a disk is full for a while, and the rows of that while are no less wanted.
func (s *sealer) unstick() bool {
	if now := time.Now(); now.Sub(s.tried) >= s.interval() {
		s.tried = now
		x := s.stuck
		s.stuck = nil
		s.place(x)
	}
	if s.stuck != nil && !s.p.in.room() {
		s.drop(s.stuck)
		s.stuck = nil
	}
	return s.stuck == nil
}

// keep does what the spool wants done each second.
func (s *sealer) keep() {
	folder := s.p.folder.Load()
	if folder == nil {
		if time.Since(s.opened) >= 10*time.Second {
			s.openFolder()
		}
		return
	}
	s.catchUp()
	if err := folder.Tick(); err != nil {
		s.warn("tick", err, "request log: the folder cannot be written")
	}
}

// seal makes a block of b: from here on it is stored once, or counted.
func (s *sealer) seal(b batch) {
	s.seq++
	s.tried = time.Now()
	s.place(&block{token: fmt.Sprintf("%s/%d", s.boot, s.seq), rows: b.Rows(), batch: b})
}

// place finds a place for a block that is in memory alone, or makes it stuck.
func (s *sealer) place(x *block) {
	p := s.p
	to := s.sender()
	if to != nil {
		x.target = to.name
	}
	// A live block keeps its batch until it is stored: the last one that is
	// free is for the rows that come.
	live := to != nil && to.healthy.Load() && p.in.spare()
	if s.files.Durability != "memory" || to == nil {
		if err := s.write(x, live); err != nil {
			s.warn("write", err, unwritable)
		}
	}
	// Live blocks go from memory while the sender keeps up; what it does not
	// take now it finds in the spool later.
	if live && to.offer(x) {
		p.stats.sealed.Add(uint64(x.rows))
		return
	}
	if x.stored == nil {
		if to == nil { // no sender, and the folder failed
			s.stuck = x
			return
		}
		if err := s.write(x, false); err != nil {
			s.warn("write", err, unwritable)
			if !p.in.spare() || !to.offer(x) {
				s.stuck = x
				return
			}
			p.stats.sealed.Add(uint64(x.rows))
			return
		}
	}
	p.stats.sealed.Add(uint64(x.rows))
	s.wait(x)
	if to != nil {
		to.wake()
	}
}

// wait leaves a block that was written to whoever finds it in the spool.
func (s *sealer) wait(x *block) {
	for _, b := range x.stored {
		s.p.folder.Load().Return(b, !x.tried.IsZero())
	}
	if x.batch != nil {
		s.p.in.recycle(x.batch)
		x.batch = nil
	}
}

func (s *sealer) drop(x *block) {
	s.lost += uint64(x.rows)
	s.p.stats.dropped[dropSpool].Add(uint64(x.rows))
	s.p.in.recycle(x.batch)
}

// sender picks the shard for the next block: the next one in turn that is well,
// else the next one.
func (s *sealer) sender() *sender {
	all := s.p.shards()
	if len(all) == 0 {
		return nil
	}
	s.next++
	for i := range all {
		if to := all[(s.next+i)%len(all)]; to.healthy.Load() {
			return to
		}
	}
	return all[s.next%len(all)]
}

// write puts a block into the spool. With brief it is about to be sent and then
// deleted, which is not worth to be compressed.
func (s *sealer) write(x *block, brief bool) error {
	folder := s.p.folder.Load()
	if folder == nil {
		return errNoFolder
	}
	s.native.Reset()
	var err error
	if s.parts, err = encodeParts(&s.native, x.batch, s.parts[:0]); err != nil {
		return err
	}
	if brief || s.p.kind.packed > 0 && x.rows >= s.p.kind.packed {
		s.frame = spool.Pack(s.frame[:0], s.native.Buf, s.parts)
	} else {
		s.frame = s.zstd.EncodeAll(s.native.Buf, s.frame[:0])
	}
	stored, err := folder.Append(spool.Header{Rows: x.rows, Token: x.token, Target: x.target}, s.frame, len(s.p.shards()) > 0)
	if err != nil {
		if s.unwritten.IsZero() {
			s.unwritten, s.lost = time.Now(), 0
		}
		return err
	}
	if !s.unwritten.IsZero() {
		s.p.log.Info().Str("folder", folder.Dir()).Str("table", s.p.kind.table).Float64("after_s", time.Since(s.unwritten).Seconds()).Uint64("rows_dropped", s.lost).
			Msg("request log: the folder takes blocks again")
		s.unwritten = time.Time{}
	}
	s.p.stats.spooled.Add(uint64(x.rows))
	x.stored = []*spool.Block{stored}
	return nil
}

const unwritable = "request log: a block cannot be written to the folder: make room or correct its rights; rows that find no place are dropped and counted"

var errNoFolder = fmt.Errorf("there is no folder for it")

// finish seals what is left and waits for the senders.
func (s *sealer) finish() {
	p := s.p
	for s.sealDue(time.Now().Add(time.Hour)); s.stuck != nil; s.sealDue(time.Now().Add(time.Hour)) {
		x := s.stuck
		s.stuck = nil
		s.keepLast(x)
	}
	s.endSenders(<-s.deadline, true)
	for _, to := range p.shards() { // what only memory has
		for _, x := range to.left() {
			s.keepLast(x)
		}
	}
	if folder := p.folder.Load(); folder != nil {
		if err := folder.Close(); err != nil {
			s.warn("close", err, "request log: the folder was not closed properly")
		}
	}
}

// endSenders gives the senders d to end: with all, once nothing waits any more,
// else after the blocks at hand.
func (s *sealer) endSenders(d time.Duration, all bool) {
	patience := time.NewTimer(d)
	defer patience.Stop()
	for _, to := range s.p.shards() {
		if all {
			close(to.last) // no block comes after what is queued
		} else {
			close(to.leave)
		}
	}
	for _, to := range s.p.shards() {
		select {
		case <-to.ended:
		case <-patience.C:
			patience.Reset(0)
		}
		to.cancel()
		<-to.ended
	}
}

// keepLast saves a block that was not stored and that no sender has any more.
func (s *sealer) keepLast(x *block) {
	if x.gone() {
		return
	}
	if x.stored == nil && s.p.folder.Load() != nil {
		if err := s.write(x, false); err != nil {
			s.warn("write", err, unwritable)
		}
	}
	if x.stored == nil {
		s.p.stats.dropped[dropSpool].Add(uint64(x.rows))
		s.p.stats.lostAtClose.Add(uint64(x.rows))
		s.p.in.recycle(x.batch)
		return
	}
	s.wait(x)
}
