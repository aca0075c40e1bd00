package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// prune deletes what is older than MaxAge, and the oldest until room more bytes
// fit in MaxBytes: first what was put aside, which nobody takes by itself, then,
// of a store, what waits of a time when it was a spool, then the days, of which a
// spool may have some of a time when it was a store. It reads folders: Append
// calls it only for room.
func (s *Folder) prune(now time.Time, room int64) {
	s.pruned = now
	list, err := Files(s.root)
	if err != nil {
		return
	}
	days := slices.DeleteFunc(slices.Clone(list), func(f File) bool { return f.Day == "" })
	files, spooled := len(list)-len(days), s.spooled()
	if s.o.Store { // all of it is one log, also what other processes write
		spooled = bytesOf(list) - bytesOf(days)
	}
	room = s.o.MaxBytes - room - spooled
	aside := s.pruneAside(now, room-bytesOf(days))
	if s.o.Store {
		for len(s.files) > 0 && s.files[0] != s.active && aside+bytesOf(days) > room {
			f := s.files[0]
			s.dropFileLocked(f, DropFull)
			room, spooled, files = room+f.size, spooled-f.size, files-1
		}
	}
	days = s.pruneDays(days, now, room-aside)
	s.beside = aside + bytesOf(days)
	if s.o.Store {
		s.bytes.Store(spooled + bytesOf(days))
		s.nFiles.Store(int64(files + len(days)))
	}
}

// pruneDays deletes the days beyond MaxAge and the oldest files beyond room
// bytes, and returns those that are left.
func (s *Folder) pruneDays(list []File, now time.Time, room int64) (left []File) {
	oldest := ""
	if s.o.MaxAge > 0 {
		oldest = now.Add(-s.o.MaxAge).UTC().Format("2006-01-02")
	}
	bytes := bytesOf(list)
	for _, f := range list {
		if f.Day >= oldest && bytes <= room {
			left = append(left, f)
			continue
		}
		if err := remove(f.Path); err != nil {
			s.o.Warn(fmt.Sprintf("delete %s: %v", f.Path, err))
			left = append(left, f)
			continue
		}
		_ = os.Remove(filepath.Dir(f.Path)) // the day's last file takes its folder away
		bytes -= f.Bytes
	}
	return left
}

func bytesOf(list []File) (n int64) {
	for _, f := range list {
		n += f.Bytes
	}
	return n
}

// spooled is how many bytes the files of this process's folder have.
func (s *Folder) spooled() (n int64) {
	for _, f := range s.files {
		n += f.size
	}
	return n
}
