package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Append writes one block, a zstd frame, with one write. h.Seq and h.Sealed
// are filled in. With taken the caller has the block at hand and delivers it;
// else Take will find it. After an error nothing of the block is in the file,
// and the caller still has it.
func (s *Folder) Append(h Header, frame []byte, taken bool) (*Block, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	if err := s.roomLocked(now, int64(len(frame)+maxHeader)); err != nil {
		return nil, err
	}
	if s.active == nil {
		if err := s.createLocked(now); err != nil {
			return nil, fmt.Errorf("create spool file: %w", err)
		}
	}
	a := s.active
	h.Seq, h.Sealed = s.seq+1, now.UnixMilli()
	var err error
	if s.buf, err = appendHeader(s.buf[:0], &h, frame); err != nil {
		return nil, fmt.Errorf("write spool: %w", err)
	}
	head := len(s.buf)
	s.buf = append(s.buf, frame...)
	if _, err = a.f.WriteAt(s.buf, a.size); err == nil && s.o.Fsync == FsyncBlock {
		err = a.f.Sync()
	}
	if err != nil { // the disk is full, most often: leave no half of a block
		if cut := a.f.Truncate(a.size); cut != nil {
			s.abandonLocked()
		}
		return nil, fmt.Errorf("write spool: %w", err)
	}
	if cap(s.buf) > 8<<20 {
		s.buf = nil
	}
	b := &Block{Header: h, file: a, off: a.size + int64(head)}
	if taken {
		b.state = stateTaken
	}
	s.seq++
	s.dirty = true
	a.size += int64(head + len(frame))
	a.blocks = append(a.blocks, b)
	a.unacked++
	s.waiting.Add(int64(b.Rows))
	s.publish()
	return b, nil
}

// createLocked makes a new active file.
func (s *Folder) createLocked(now time.Time) error {
	s.nFile++
	base := fmt.Sprintf("%s.%s-%06d", s.o.Prefix, s.o.Boot, s.nFile)
	path := filepath.Join(s.dir, base+openEnding)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	s.active = &file{path: path, base: base, f: f, opened: now, store: s.o.Store}
	s.files = append(s.files, s.active)
	return nil
}

// roomLocked closes the active file where it is due, and drops the oldest
// files until n more bytes fit.
func (s *Folder) roomLocked(now time.Time, n int64) error {
	if !s.o.Store && n > s.o.MaxBytes {
		return ErrFull
	}
	if s.dueLocked(now, n) {
		if err := s.rotateLocked(); err != nil {
			return fmt.Errorf("close spool file: %w", err)
		}
	}
	if s.o.Store {
		return nil // pruned as a whole, by Tick
	}
	if s.beside > 0 && s.spooled()+s.beside+n > s.o.MaxBytes && now.Sub(s.pruned) >= time.Second {
		s.prune(now, n)
	}
	for {
		if s.spooled()+n <= s.o.MaxBytes {
			return nil
		}
		oldest := s.files[0]
		if oldest != s.active {
			s.dropFileLocked(oldest, DropFull)
		} else if err := s.rotateLocked(); err != nil {
			return err
		}
	}
}

func (s *Folder) dueLocked(now time.Time, n int64) bool {
	a := s.active
	if a == nil || a.size == 0 {
		return false
	}
	return a.size+n > s.o.FileBytes || now.Sub(a.opened) >= s.o.FileAge ||
		a.store && now.UTC().YearDay() != a.opened.UTC().YearDay()
}

// rotateLocked closes the active file. Where every block of it has been
// acknowledged it is emptied instead, and used again.
func (s *Folder) rotateLocked() error {
	a := s.active
	if a == nil {
		return nil
	}
	if a.unacked == 0 && !s.closed {
		// The blocks first: acknowledgements of blocks that are not there do no
		// harm, blocks without theirs would be sent again.
		if err := a.f.Truncate(0); err != nil {
			return err
		}
		a.closeAck()
		if err := remove(a.ackPath()); err != nil {
			return err
		}
		a.size, a.blocks, a.head, a.opened = 0, nil, 0, s.o.Now()
		s.dirty = false
		s.publish()
		return nil
	}
	s.active, s.dirty = nil, false
	return s.finishLocked(a)
}

// finishLocked closes a file that nothing more is appended to and gives it its
// name. Where that fails, Tick tries again.
func (s *Folder) finishLocked(a *file) error {
	f := a.f
	a.f = nil
	if f == nil {
		var err error
		if f, err = os.OpenFile(a.path, os.O_RDWR, 0); errors.Is(err, fs.ErrNotExist) { // deleted by others
			s.dropFileLocked(a, DropDamaged)
		}
		if err != nil {
			return err
		}
	}
	defer f.Close()
	if a.unacked == 0 {
		s.forgetLocked(a)
		return nil
	}
	if err := f.Truncate(a.size); err != nil { // it may have been left with half a block
		return err
	}
	if s.o.Fsync != FsyncNever {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return s.sealLocked(a)
}

// sealLocked gives a file that is complete its name.
func (s *Folder) sealLocked(a *file) error {
	dir := s.dir
	if a.store {
		day := time.UnixMilli(a.blocks[0].Sealed).UTC().Format("2006-01-02")
		dir = filepath.Join(s.root, "dt="+day)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	path := filepath.Join(dir, a.base+ending)
	if err := os.Rename(a.path, path); err != nil {
		return err
	}
	a.path = path
	if a.store { // from now on it is the log's, not ours
		for _, b := range a.blocks {
			if b.state != stateDone {
				s.waiting.Add(-int64(b.Rows))
			}
		}
		s.unlistLocked(a)
		s.publish()
	}
	if s.o.Fsync != FsyncNever {
		return syncDir(dir)
	}
	return nil
}

// abandonLocked leaves an active file that cannot even be cut: what is whole
// in it stays, and Tick tries to cut and close it again.
func (s *Folder) abandonLocked() {
	a := s.active
	s.active = nil
	_ = a.f.Close()
	a.f = nil
}

// finishAgainLocked closes the files that could not be closed when they were due.
func (s *Folder) finishAgainLocked() (err error) {
	for i := 0; i < len(s.files); i++ {
		if f := s.files[i]; f != s.active && strings.HasSuffix(f.path, openEnding) {
			err = errors.Join(err, s.finishLocked(f))
			if f.gone {
				i--
			}
		}
	}
	return err
}

// Tick does what is due: syncs, closes an old active file, drops what is too
// old, and takes over the files of dead processes. Call it each second or so.
func (s *Folder) Tick() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	err := s.finishAgainLocked()
	if s.dueLocked(now, 0) {
		err = errors.Join(err, s.rotateLocked())
	} else if s.dirty && s.o.Fsync == FsyncInterval && now.Sub(s.synced) >= syncEvery && s.active != nil {
		s.synced, s.dirty = now, false
		err = errors.Join(err, s.active.f.Sync())
	}
	if !now.Before(s.adoptDue) {
		s.adopt()
		s.prune(now, 0)
		s.publish()
	}
	if s.o.MaxAge > 0 { // of a store, what waits of a time when it was a spool
		old := now.Add(-s.o.MaxAge).UnixMilli()
		for len(s.files) > 0 && s.files[0] != s.active {
			f := s.files[0]
			if len(f.blocks) > 0 && f.blocks[len(f.blocks)-1].Sealed > old {
				break
			}
			s.dropFileLocked(f, DropAge)
		}
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}
