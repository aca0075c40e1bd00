package logs

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"streamrelay/telemetry/spool"
)

// listings bounds how often a file is looked for that is not where it was: it
// is renamed when it is closed, and once more when another process takes it over.
const listings = 3

// eachFile calls read once with each of files. Those that have been renamed
// since they were listed are read as relist, called then, has them; what is in
// no listing any more was dropped, or stored elsewhere.
func eachFile(files []spool.File, relist func() ([]spool.File, error), read func(spool.File) error) error {
	done := make(map[string]bool, len(files)) // by base name
	gone := make(map[string]bool)
	for n := 1; ; n++ {
		for _, file := range files {
			base := baseName(file.Path)
			if done[base] || n > 1 && !gone[base] {
				continue
			}
			err := read(file)
			if errors.Is(err, fs.ErrNotExist) {
				gone[base] = true
				continue
			}
			if err != nil {
				return err
			}
			done[base] = true
			delete(gone, base)
		}
		if len(gone) == 0 || n == listings {
			return nil
		}
		var err error
		if files, err = relist(); err != nil {
			return err
		}
	}
}

// baseName is what a file keeps when it is renamed.
func baseName(path string) string {
	base, _, _ := strings.Cut(filepath.Base(path), ".native.")
	return base
}
