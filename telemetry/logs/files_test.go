package logs

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"streamrelay/configs"
	"streamrelay/telemetry/requestlog"
	"streamrelay/telemetry/spool"
)

// openFiles is a log in files as a relay leaves it while it runs: one file that
// is closed, and one that is being written.
func openFiles(t *testing.T) (source, *requestlog.Recorder) {
	t.Helper()
	c := configs.Default()
	c.RequestLog.Dir = t.TempDir()
	fill(t, c)
	r := recorder(c)
	t.Cleanup(func() { _ = r.Close(time.Second) })
	recordSome(t, r, 50)
	s, _, err := open(t.Context(), c, false, nil, func(text string) { t.Errorf("warned: %s", text) })
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

// TestAFileThatIsClosedDuringAScanIsRead: it is renamed then, and its rows are
// the newest.
func TestAFileThatIsClosedDuringAScanIsRead(t *testing.T) {
	s, r := openFiles(t)
	seen := make(map[[16]byte]int)
	err := s.scan(t.Context(), &filter{}, func(row *requestlog.Row) error {
		if len(seen) == 0 {
			if err := r.Close(time.Second); err != nil {
				t.Error(err)
			}
		}
		seen[row.ID]++
		return nil
	})
	if err != nil || len(seen) != requests+50 {
		t.Errorf("%d rows of %d: %v", len(seen), requests+50, err)
	}
	for id, n := range seen {
		if n > 1 {
			t.Fatalf("%x comes %d times", id, n)
		}
	}
}

// TestRenamedFilesAreReadOnce, dropped ones and what comes later not at all.
func TestRenamedFilesAreReadOnce(t *testing.T) {
	file := func(path string) spool.File { return spool.File{Path: path} }
	first := []spool.File{file("dt=1/a.native.zst"), file("spool/0/b.native.zst"), file("spool/0/c.native.zst.open"), file("spool/0/d.native.zst"), file("spool/0/a.native.zst")} // a by both its names
	second := []spool.File{file("dt=1/a.native.zst"), file("dt=1/e.native.zst"), file("spool/1/b.native.zst")}                                                                    // misses c
	third := append(slices.Clone(second), file("dt=1/c.native.zst"))
	listings := [][]spool.File{second, third, third}
	there := map[string]bool{"dt=1/a.native.zst": true, "spool/0/a.native.zst": true, "spool/1/b.native.zst": true, "dt=1/c.native.zst": true, "dt=1/e.native.zst": true}
	var read []string
	err := eachFile(first, func() ([]spool.File, error) {
		next := listings[0]
		listings = listings[1:]
		return next, nil
	}, func(f spool.File) error {
		if !there[f.Path] {
			return fmt.Errorf("open: %w", fs.ErrNotExist)
		}
		read = append(read, f.Path)
		return nil
	})
	if want := []string{"dt=1/a.native.zst", "spool/1/b.native.zst", "dt=1/c.native.zst"}; err != nil || !slices.Equal(read, want) {
		t.Errorf("%q, want %q: %v", read, want, err)
	}
}

// busy is a log in files to which more comes before the last rows are looked for.
type busy struct {
	*folder
	meanwhile func()
}

func (s *busy) newest(ctx context.Context, f *filter, n int) ([]requestlog.Row, error) {
	s.meanwhile()
	return s.folder.newest(ctx, f, n)
}

// TestTailPrintsOnceWhatComesWhileItBegins: between the mark of what is new and
// the look for the last rows.
func TestTailPrintsOnceWhatComesWhileItBegins(t *testing.T) {
	s, r := openFiles(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen, flushed := make(map[[16]byte]int), 0
	err := tail(ctx, &busy{s.(*folder), func() { recordSome(t, r, 5) }}, &filter{Tenant: "t"}, 10, true, func(row *requestlog.Row) error { seen[row.ID]++; return nil }, func() error {
		if flushed++; flushed == 2 {
			recordSome(t, r, 3)
		} else if flushed == 4 {
			cancel()
		}
		return nil
	})
	if ctx.Err() == nil || len(seen) != 13 {
		t.Errorf("%d rows are printed, want 13: %v", len(seen), err)
	}
	for id, n := range seen {
		if n > 1 {
			t.Errorf("%x is printed %d times", id, n)
		}
	}
}

// TestFollowKeepsItsMarkOfAFileThatAListingMisses, as one does that is renamed
// while it is made; deleted files are forgotten.
func TestFollowKeepsItsMarkOfAFileThatAListingMisses(t *testing.T) {
	c := configs.Default()
	c.RequestLog.Dir = t.TempDir()
	fill(t, c)
	s, _, err := open(t.Context(), c, false, nil, func(text string) { t.Error(text) })
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	next, err := s.follow(t.Context(), &filter{}, func(*requestlog.Row) error { seen++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	paths, _ := filepath.Glob(filepath.Join(c.RequestLog.Dir, "dt=*", "*"))
	away := filepath.Join(c.RequestLog.Dir, "away")
	for i, missed := range []int{1, forgetAfter - 1, forgetAfter} {
		if err := os.Rename(paths[0], away); err != nil {
			t.Fatal(err)
		}
		for range missed {
			if err := next(); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(away, paths[0]); err != nil {
			t.Fatal(err)
		}
		if err := next(); err != nil {
			t.Fatal(err)
		}
		if forgotten := i == 2; forgotten != (seen > 0) {
			t.Errorf("%d rows are printed again after %d listings without their file", seen, missed)
		}
	}
}
