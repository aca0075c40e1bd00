package spool

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// Holds reports whether blocks wait in the spools of a log's folder.
func Holds(root string) bool {
	places, _ := filepath.Glob(filepath.Join(escapeGlob(root), spoolFolder, "*"))
	return slices.ContainsFunc(places, holdsFiles)
}
