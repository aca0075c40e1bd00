package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// IsDamaged reports whether err says that bytes fail their checksum or are
// missing, and not that they could not be read.
func IsDamaged(err error) bool { return errors.Is(err, errChecksum) || errors.Is(err, errCut) }

// inherit takes over the files of dir, which is locked by this process. Files
// of another place are moved to this one's.
func (s *Folder) inherit(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries { // sorted: by boot, then number
		name := e.Name()
		var err error
		switch {
		case strings.HasSuffix(name, openEnding):
			err = s.inheritOpen(dir, strings.TrimSuffix(name, openEnding))
		case strings.HasSuffix(name, ending):
			err = s.inheritSealed(dir, strings.TrimSuffix(name, ending))
		case strings.HasSuffix(name, ".tmp"):
			err = remove(filepath.Join(dir, name)) // a recovery that was cut off
		}
		if err != nil {
			s.o.Warn("cannot recover " + filepath.Join(dir, name) + ": " + err.Error())
		}
	}
	if dir != s.dir { // what acknowledges nothing any more
		left, _ := filepath.Glob(filepath.Join(dir, "*"+ackEnding))
		for _, path := range left {
			_ = remove(path)
		}
	}
	slices.SortStableFunc(s.files, func(a, b *file) int {
		if (a == s.active) != (b == s.active) {
			if a == s.active {
				return 1
			}
			return -1
		}
		return strings.Compare(a.base, b.base)
	})
	return nil
}

// inheritOpen recovers the file that a process was writing when it ended:
// whole blocks stay, the rest is cut out with a word of what it was.
func (s *Folder) inheritOpen(dir, base string) error {
	path := filepath.Join(dir, base+openEnding)
	lost, found, err := recoverFile(path)
	if err != nil {
		return err
	}
	for _, d := range lost {
		what := "damaged bytes"
		if d.Torn {
			what = "bytes of a write that was cut off"
		}
		s.o.Warn(fmt.Sprintf("%s: left out %d %s at %d (%d rows of them known)", path, d.Bytes, what, d.Offset, d.Rows))
		if !d.Torn { // a torn block was never sealed
			s.dropped[DropDamaged].Add(uint64(d.Rows))
		}
	}
	f := &file{path: path, base: base, store: s.o.Store}
	acked := readAcks(f.ackPath())
	if allAcked(found, acked) {
		return errors.Join(remove(path), remove(f.ackPath()))
	}
	if err := s.moveHere(f, dir, openEnding); err != nil {
		return err
	}
	s.list(f, found, acked)
	return s.sealLocked(f)
}

// inheritSealed lists a file that is whole. Its frames are checked when they
// are read, so that a start does not read gigabytes.
func (s *Folder) inheritSealed(dir, base string) error {
	f := &file{path: filepath.Join(dir, base+ending), base: base}
	r, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return err
	}
	found, lost, err := scan(r, info.Size(), f.path, false)
	if err != nil {
		return err
	}
	for _, d := range lost {
		s.dropped[DropDamaged].Add(uint64(d.Rows))
		s.o.Warn(fmt.Sprintf("%s: %d damaged bytes at %d (%d rows of them known)", f.path, d.Bytes, d.Offset, d.Rows))
	}
	acked := readAcks(f.ackPath())
	if allAcked(found, acked) {
		return errors.Join(remove(f.path), remove(f.ackPath()))
	}
	if err := s.moveHere(f, dir, ending); err != nil {
		return err
	}
	s.list(f, found, acked)
	return nil
}

func allAcked(found []at, acked map[uint64]bool) bool {
	for i := range found {
		if !acked[found[i].Seq] {
			return false
		}
	}
	return true
}

// list makes f, with the blocks that were found in it, one of the folder's.
func (s *Folder) list(f *file, found []at, acked map[uint64]bool) {
	for i := range found {
		a := &found[i]
		b := &Block{Header: a.Header, Doubtful: true, file: f, off: a.frame}
		if acked[a.Seq] {
			b.state = stateDone
		} else {
			f.unacked++
			s.waiting.Add(int64(b.Rows))
		}
		f.size = a.end()
		f.blocks = append(f.blocks, b)
	}
	if len(f.blocks) > 0 {
		f.opened = time.UnixMilli(f.blocks[0].Sealed)
	}
	s.files = append(s.files, f)
}

// moveHere moves a file of another place, its acknowledgements first.
func (s *Folder) moveHere(f *file, dir, ending string) error {
	if dir == s.dir {
		return nil
	}
	if err := os.Rename(f.ackPath(), filepath.Join(s.dir, f.base+ackEnding)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	path := filepath.Join(s.dir, f.base+ending)
	if err := os.Rename(f.path, path); err != nil {
		return err
	}
	f.path = path
	return nil
}

// recoverFile leaves only whole blocks in the file at path. A torn tail is cut
// off in place; anything else is copied around, and the copy renamed in.
func recoverFile(path string) ([]Damage, []at, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	found, damaged, err := scan(f, info.Size(), path, true)
	if err != nil || len(damaged) == 0 {
		return damaged, found, err
	}
	if len(damaged) == 1 && damaged[0].Torn {
		if err := f.Truncate(damaged[0].Offset); err != nil {
			return damaged, found, err
		}
		return damaged, found, f.Sync()
	}
	tmp := path + ".tmp"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return damaged, found, err
	}
	defer out.Close()
	end := int64(0)
	for i := range found {
		a := &found[i]
		n := a.end() - a.off
		if _, err := io.Copy(out, io.NewSectionReader(f, a.off, n)); err != nil {
			return damaged, found, err
		}
		a.frame += end - a.off
		a.off = end
		end += n
	}
	if err := out.Sync(); err != nil {
		return damaged, found, err
	}
	return damaged, found, os.Rename(tmp, path)
}
