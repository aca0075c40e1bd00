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
func Files(root string) ([]File, error) { return list(root, filepath.Glob) }

// list is Files. A file that is closed meanwhile moves to an earlier one of these
// places: they are looked at from the last on, so that it is found, and where it
// is found twice it is where it was found last.
func list(root string, glob func(pattern string) ([]string, error)) ([]File, error) {
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	places := [...]string{"dt=*/*" + ending, spoolFolder + "/*/*" + ending, spoolFolder + "/*/*" + openEnding}
	var found [len(places)][]File
	for i := len(places) - 1; i >= 0; i-- {
		paths, err := glob(filepath.Join(escapeGlob(root), places[i]))
		if err != nil {
			return nil, err
		}
		slices.Sort(paths)
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil || !info.Mode().IsRegular() {
				continue // deleted or moved in between, or none of ours
			}
			day, dated := strings.CutPrefix(filepath.Base(filepath.Dir(path)), "dt=")
			if !dated {
				day = ""
			}
			found[i] = append(found[i], File{Path: path, Bytes: info.Size(), Day: day, Open: strings.HasSuffix(path, openEnding)})
		}
	}
	var all []File
	moved := map[string]bool{} // by name, what stands in a place before
	for _, files := range found {
		before := len(all)
		for _, f := range files {
			if !moved[baseOf(f.Path)] {
				all = append(all, f)
			}
		}
		for _, f := range all[before:] {
			moved[baseOf(f.Path)] = true
		}
	}
	return all, nil
}

// baseOf is a file's name without its endings.
func baseOf(path string) string {
	return strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), openEnding), ending)
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// Holds reports whether a log's folder has files of rows: of days, in spools, or
// put aside.
func Holds(root string) bool {
	files, _ := Files(root)
	return len(files) > 0 || len(asideFiles(root)) > 0
}
