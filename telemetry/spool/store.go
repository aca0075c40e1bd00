package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// File is one file of a log's folder, for readers.
type File struct {
	Path  string
	Bytes int64
	// Day of a store's file, "" for those of a spool.
	Day  string
	Open bool // still being written
}

// Files lists what a log's folder holds, oldest first: the store's files by
// day, then what waits in spools, open files included.
func Files(root string) ([]File, error) {
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	var list []File
	for _, pattern := range [...]string{"dt=*/*" + ending, spoolFolder + "/*/*" + ending, spoolFolder + "/*/*" + openEnding} {
		paths, err := filepath.Glob(filepath.Join(escapeGlob(root), pattern))
		if err != nil {
			return nil, err
		}
		slices.Sort(paths)
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil || !info.Mode().IsRegular() {
				continue // deleted in between, or none of ours
			}
			day, _ := strings.CutPrefix(filepath.Base(filepath.Dir(path)), "dt=")
			if !strings.HasPrefix(pattern, "dt=") {
				day = ""
			}
			list = append(list, File{Path: path, Bytes: info.Size(), Day: day, Open: strings.HasSuffix(path, openEnding)})
		}
	}
	return list, nil
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// pruneStore deletes the days beyond MaxAge and the oldest files beyond MaxBytes.
func (s *Folder) pruneStore(now time.Time) {
	list, err := Files(s.root)
	if err != nil {
		return
	}
	total, files := int64(0), int64(0)
	for _, f := range list {
		total += f.Bytes
		files++
	}
	oldest := ""
	if s.o.MaxAge > 0 {
		oldest = now.Add(-s.o.MaxAge).UTC().Format("2006-01-02")
	}
	for _, f := range list {
		if f.Day == "" || !(f.Day < oldest || total > s.o.MaxBytes) {
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

// Holds reports whether blocks wait in the spools of a log's folder.
func Holds(root string) bool {
	places, _ := filepath.Glob(filepath.Join(escapeGlob(root), spoolFolder, "*"))
	return slices.ContainsFunc(places, holdsFiles)
}

// Quarantine writes one block into a file of its own in quarantine/ below the
// root, and returns the file's path. Nothing deletes it.
func (s *Folder) Quarantine(name string, h Header, frame []byte) (string, error) {
	s.mu.Lock()
	h.Seq, h.Sealed = 1, s.o.Now().UnixMilli()
	sync := s.o.Fsync != FsyncNever
	s.mu.Unlock()
	data, err := appendHeader(nil, &h, frame)
	if err != nil {
		return "", fmt.Errorf("write quarantine: %w", err)
	}
	dir := filepath.Join(s.root, "quarantine")
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
