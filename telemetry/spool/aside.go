package spool

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const asideFolder = "quarantine"

// Quarantine writes one block into a file of its own in quarantine/ below the
// root, and returns the file's path. It stays there within MaxBytes and MaxAge,
// until somebody takes it away.
func (s *Folder) Quarantine(name string, h Header, frame []byte) (string, error) {
	s.mu.Lock()
	h.Seq, h.Sealed = 1, s.o.Now().UnixMilli()
	sync := s.o.Fsync != FsyncNever
	s.prune(s.o.Now(), int64(len(frame)+maxHeader))
	s.beside += int64(len(frame) + maxHeader)
	s.mu.Unlock()
	data, err := appendHeader(nil, &h, frame)
	if err != nil {
		return "", fmt.Errorf("write quarantine: %w", err)
	}
	dir := filepath.Join(s.root, asideFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("write quarantine: %w", err)
	}
	path := filepath.Join(dir, name+ending)
	if err := writeFile(path, append(data, frame...), sync); err != nil {
		return "", fmt.Errorf("write quarantine: %w", errors.Join(err, remove(path))) // no half of it
	}
	return path, nil
}

// writeFile writes a file that the spool's copy is then given up for.
func writeFile(path string, data []byte, sync bool) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil || !sync {
		return err
	}
	return f.Sync()
}

// asideFile is one file of quarantine/.
type asideFile struct {
	path  string
	bytes int64
	at    time.Time // when it was put there
}

// asideFiles lists what was put aside, oldest first.
func asideFiles(root string) (list []asideFile) {
	entries, _ := os.ReadDir(filepath.Join(root, asideFolder))
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasSuffix(e.Name(), ending) {
			continue // deleted in between, or none of ours
		}
		list = append(list, asideFile{filepath.Join(root, asideFolder, e.Name()), info.Size(), info.ModTime()})
	}
	slices.SortFunc(list, func(a, b asideFile) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.path, b.path)) })
	return list
}

// pruneAside deletes what was put aside longer ago than MaxAge and the oldest of
// it beyond room bytes, and returns how many bytes are left. Its rows are counted:
// nobody has them any more.
func (s *Folder) pruneAside(now time.Time, room int64) (bytes int64) {
	list := asideFiles(s.root)
	for i := range list {
		bytes += list[i].bytes
	}
	for i := range list {
		f, why := &list[i], DropFull
		if s.o.MaxAge > 0 && f.at.Before(now.Add(-s.o.MaxAge)) {
			why = DropAge
		} else if bytes <= room {
			break
		}
		rows := 0
		_, _ = Blocks(f.path, func(h *Header) bool { rows += h.Rows; return false }, nil)
		if err := remove(f.path); err != nil {
			s.o.Warn(fmt.Sprintf("delete %s: %v", f.path, err))
			continue
		}
		bytes -= f.bytes
		s.drop(rows, why, fmt.Sprintf("%d rows that ClickHouse did not take were dropped with the oldest file of quarantine/ (%s): replay or delete what is there, or raise request_log.max_bytes or retention", rows, why))
	}
	return bytes
}
