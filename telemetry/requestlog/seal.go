package requestlog

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/klauspost/compress/zstd"

	"streamrelay/telemetry"
	"streamrelay/telemetry/spool"
)

// block is one sealed block on its way. The sealer owns it until it is sealed,
// then one sender.
type block struct {
	token  string
	target string // the shard that it may have been sent to
	rows   int
	batch  *Batch       // its rows in memory; nil: only in the spool
	stored *spool.Block // its place in the spool; nil: only in memory

	tried    time.Time // first attempt; zero: none
	inserted int64     // of the server's counter, before the first attempt
	attempts int
}

// sealer turns batches into blocks: it encodes them, writes them to the spool
// and hands them to the senders. It is one goroutine, which also keeps the
// spool.
type sealer struct {
	r        *Recorder
	boot     string
	seq      uint64
	next     int // sender
	native   proto.Buffer
	frame    []byte
	zstd     *zstd.Encoder
	deadline chan time.Duration
	opened   time.Time // last attempt to open the folder
	warned   map[string]time.Time
}

func (s *sealer) init(r *Recorder) {
	id := telemetry.NewID(time.Now().UnixNano())
	s.r, s.boot = r, hex.EncodeToString(id[:])
	s.deadline = make(chan time.Duration, 1)
	s.warned = make(map[string]time.Time)
	// 2 windows of memory; the fastest level: 62 bytes a row, 0.6 µs.
	s.zstd, _ = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
}

// filePrefix begins the names of the log's files.
var filePrefix = fmt.Sprintf("request_log.v%d", SchemaVersion)

// openFolder opens the spool, or says why not; it is tried again later.
func (s *sealer) openFolder() {
	r := s.r
	if r.o.Files.Dir == "" || r.folder.Load() != nil {
		return
	}
	s.opened = time.Now()
	folder, err := spool.Open(r.o.Files.Dir, spool.Options{
		Prefix: filePrefix, Boot: s.boot, Store: len(r.senders) == 0,
		MaxBytes: int64(r.o.Files.MaxBytes), MaxAge: r.o.Files.Retention, Fsync: r.o.Files.Fsync,
		Warn: func(text string) { r.o.Log.Warn().Msg("request log: " + text) },
	})
	if err != nil {
		s.warn("open", err, "request log: the folder cannot be used: rows are not kept in files until it can be")
		return
	}
	r.folder.Store(folder)
	if rows := folder.Waiting(); rows > 0 {
		e := r.o.Log.Info().Int64("rows", rows).Str("folder", folder.Dir())
		if len(r.senders) > 0 {
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
		s.r.o.Log.Warn().Err(err).Msg(text)
	}
}

// run seals until the recorder is closed.
func (s *sealer) run() {
	r := s.r
	tick := time.NewTicker(max(r.o.Interval/4, 5*time.Millisecond))
	defer tick.Stop()
	kept := time.Now()
	for {
		select {
		case b := <-r.full:
			s.seal(b)
		case now := <-tick.C:
			r.takeOld(now, false)
			if now.Sub(kept) >= time.Second {
				kept = now
				s.keep()
			}
		case <-r.stop:
			s.finish()
			return
		}
	}
}

// keep does what the spool wants done each second.
func (s *sealer) keep() {
	folder := s.r.folder.Load()
	if folder == nil {
		if time.Since(s.opened) >= 10*time.Second {
			s.openFolder()
		}
		return
	}
	if err := folder.Tick(); err != nil {
		s.warn("tick", err, "request log: the folder cannot be written")
	}
}

// seal makes a block of b: from here on it is stored once, or counted.
func (s *sealer) seal(b *Batch) {
	r := s.r
	s.seq++
	x := &block{token: fmt.Sprintf("%s/%d", s.boot, s.seq), rows: b.Rows(), batch: b}
	to := s.sender()
	if to != nil {
		x.target = to.name
	}
	healthy := to != nil && to.healthy.Load()
	if r.o.Files.Durability != "memory" || to == nil {
		if err := s.write(x, healthy); err != nil {
			s.warn("write", err, "request log: a block cannot be written to the folder")
		}
	}
	// Live blocks go from memory while the sender keeps up; what it does not
	// take now it finds in the spool later.
	if healthy && to.offer(x) {
		r.stats.sealed.Add(uint64(x.rows))
		return
	}
	if x.stored == nil {
		if to == nil { // no sender, and the folder failed
			s.drop(x)
			return
		}
		if err := s.write(x, false); err != nil {
			s.warn("write", err, "request log: a block cannot be written to the folder")
			if !to.offer(x) {
				s.drop(x)
				return
			}
			r.stats.sealed.Add(uint64(x.rows))
			return
		}
	}
	r.stats.sealed.Add(uint64(x.rows))
	if to != nil {
		r.folder.Load().Return(x.stored)
		to.wake()
	}
	x.batch = nil
	r.recycle(b)
}

func (s *sealer) drop(x *block) {
	s.r.stats.dropped[dropSpool].Add(uint64(x.rows))
	s.r.recycle(x.batch)
}

// sender picks the shard for the next block: the next one in turn that is well,
// else the next one.
func (s *sealer) sender() *sender {
	all := s.r.senders
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

// write puts a block into the spool. What is about to be sent and then deleted
// is not compressed.
func (s *sealer) write(x *block, brief bool) error {
	folder := s.r.folder.Load()
	if folder == nil {
		return errNoFolder
	}
	s.native.Reset()
	if err := x.batch.Encode(&s.native); err != nil {
		return err
	}
	if brief {
		s.frame = spool.RawFrame(s.frame[:0], s.native.Buf)
	} else {
		s.frame = s.zstd.EncodeAll(s.native.Buf, s.frame[:0])
	}
	stored, err := folder.Append(spool.Header{Rows: x.rows, Token: x.token, Target: x.target}, s.frame, len(s.r.senders) > 0)
	if err != nil {
		return err
	}
	s.r.stats.spooled.Add(uint64(x.rows))
	x.stored = stored
	return nil
}

var errNoFolder = fmt.Errorf("there is no folder for it")

// wait tells the sealer and the senders how long they have to finish.
func (s *sealer) wait(d time.Duration) { s.deadline <- d }

// finish seals what is left and waits for the senders.
func (s *sealer) finish() {
	r := s.r
	r.takeOld(time.Now(), true)
	for {
		select {
		case b := <-r.full:
			s.seal(b)
			continue
		default:
		}
		break
	}
	patience := time.NewTimer(<-s.deadline)
	defer patience.Stop()
	for _, to := range r.senders {
		close(to.last) // no block comes after what is queued
		select {
		case <-to.ended:
		case <-patience.C:
			patience.Reset(0)
		}
		to.cancel()
		<-to.ended
	}
	for _, to := range r.senders { // what only memory has
		for _, x := range to.left() {
			s.keepLast(x)
		}
	}
	if folder := r.folder.Load(); folder != nil {
		if err := folder.Close(); err != nil {
			s.warn("close", err, "request log: the folder was not closed properly")
		}
	}
}

// keepLast saves a block at the end that was not stored.
func (s *sealer) keepLast(x *block) {
	folder := s.r.folder.Load()
	if x.stored == nil && x.batch != nil && folder != nil {
		if err := s.write(x, false); err != nil {
			s.warn("write", err, "request log: a block cannot be written to the folder")
		}
	}
	if x.stored == nil {
		s.r.stats.dropped[dropSpool].Add(uint64(x.rows))
		s.r.stats.lostAtClose.Add(uint64(x.rows))
		return
	}
	folder.Return(x.stored)
}
