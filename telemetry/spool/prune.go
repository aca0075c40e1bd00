package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// prune deletes what is older than MaxAge, and the oldest until room more bytes
// fit in MaxBytes: first what was put aside, which nobody takes by itself, then,
// of a store, the days. It reads folders: Append calls it only for room.
func (s *Folder) prune(now time.Time, room int64) {
	s.pruned, s.beside = now, 0
	list, err := Files(s.root)
	if err != nil {
		return
	}
	aside := s.aside()
	total, files := int64(0), int64(0)
	if s.o.Store {
		for _, f := range list {
			total += f.Bytes
			files++
		}
	} else {
		total = s.spooled()
	}
	for i := range aside {
		s.beside += aside[i].bytes
	}
	for i := range aside {
		f, why := &aside[i], DropFull
		if s.o.MaxAge > 0 && f.at.Before(now.Add(-s.o.MaxAge)) {
			why = DropAge
		} else if total+s.beside+room <= s.o.MaxBytes {
			break
		}
		if err := s.dropAside(f, why); err != nil {
			s.o.Warn(fmt.Sprintf("delete %s: %v", f.path, err))
			continue
		}
		s.beside -= f.bytes
	}
	if !s.o.Store {
		return
	}
	oldest := ""
	if s.o.MaxAge > 0 {
		oldest = now.Add(-s.o.MaxAge).UTC().Format("2006-01-02")
	}
	for _, f := range list {
		if f.Day == "" || !(f.Day < oldest || total+s.beside+room > s.o.MaxBytes) {
			continue
		}
		if err := remove(f.Path); err != nil {
			s.o.Warn(fmt.Sprintf("delete %s: %v", f.Path, err))
			continue
		}
		_ = os.Remove(filepath.Dir(f.Path)) // the day's last file takes its folder away
		total -= f.Bytes
		files--
	}
	s.bytes.Store(total)
	s.nFiles.Store(files)
}

// spooled is how many bytes the files of this process's folder have.
func (s *Folder) spooled() (total int64) {
	for _, f := range s.files {
		total += f.size
	}
	return total
}
