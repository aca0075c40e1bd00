package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// logBuffer is a log that tests can read while it is written.
type logBuffer struct {
	mu  sync.Mutex // protects buf
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// take returns what was logged since the last take.
func (l *logBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.buf.Reset()
	return l.buf.String()
}

// opened is a store on a file in a folder of its own, and its log.
func opened(t *testing.T, path string) (*FileStore, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	s, err := OpenFile(path, FileOptions{Log: zerolog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, log
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, path, name string) string {
	t.Helper()
	key, _, err := createKey(t.Context(), &fileKeeper{path: path}, grant{name: name}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func status(s *FileStore, key string) Status {
	_, status := s.Table().lookup([]byte(key), time.Now().Unix())
	return status
}

// The promise of a running relay: within a second, by itself.
func TestChangesAreTakenUpWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys.yaml")
		s, log := opened(t, path)
		if got := log.take(); !strings.Contains(got, `"level":"warn"`) || !strings.Contains(got, "keys file does not exist") {
			t.Errorf("a missing file: logged %q", got)
		}
		settle := func() { time.Sleep(time.Second); synctest.Wait() }

		settle()
		if got := log.take(); got != "" {
			t.Errorf("nothing happened: logged %q", got)
		}
		key := create(t, path, "first")
		if got := status(s, key); got != Unknown {
			t.Errorf("before the file was read: %v", got)
		}
		settle()
		if got := status(s, key); got != Found {
			t.Errorf("a created key: %v", got)
		}
		if got := log.take(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"keys":1,"message":"keys reloaded"`) {
			t.Errorf("one change: logged %q", got)
		}
		if _, _, _, err := revokeKey(t.Context(), &fileKeeper{path: path}, "first", time.Now()); err != nil {
			t.Fatal(err)
		}
		settle()
		if got := status(s, key); got != Revoked {
			t.Errorf("a revoked key: %v", got)
		}
	})
}

func TestAChangeInPlaceIsTakenUpOnceItIsComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys.yaml")
		first, second := create(t, path, "first"), create(t, path, "second")
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s, log := opened(t, path)
		log.take()
		// What an editor leaves for a moment: valid, with the second key missing.
		cut := bytes.Index(whole, []byte("  - id: ")) + 8
		cut += bytes.Index(whole[cut:], []byte("  - id: "))
		write(t, path, string(whole[:cut]))
		time.Sleep(pollInterval + pollInterval/2)
		synctest.Wait()
		write(t, path, string(whole)+"# saved\n")
		for range 10 {
			if a, b := status(s, first), status(s, second); a != Found || b != Found {
				t.Errorf("half a file was taken up: %v, %v", a, b)
			}
			time.Sleep(pollInterval)
			synctest.Wait()
		}
		if got := log.take(); strings.Count(got, "keys reloaded") != 1 {
			t.Errorf("logged %q", got)
		}
	})
}

func TestAFileWrittenAllTheTimeIsTakenUpAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys.yaml")
		s, _ := opened(t, path)
		for i := range 8 {
			key := create(t, path, fmt.Sprint(i))
			for range 9 { // a second, with a change before each poll
				time.Sleep(pollInterval / 2)
				create(t, path, "")
			}
			synctest.Wait()
			if got := status(s, key); got != Found {
				t.Fatalf("key %d, after %v: %v", i, 9*pollInterval/2, got)
			}
		}
	})
}

func TestABrokenFileKeepsTheKeysOfBeforeAndSaysSoOnce(t *testing.T) {
	for _, test := range []struct {
		name  string
		wreck func(t *testing.T, path string)
		want  string // in the log
	}{
		{"not YAML", func(t *testing.T, path string) { write(t, path, "keys: [") }, "not YAML"},
		{"a mistake", func(t *testing.T, path string) { write(t, path, "keys:\n- id: a\n") }, "keys.yaml:2: digest: is missing"},
		{"emptied", func(t *testing.T, path string) { write(t, path, "") }, "file is empty where there were keys"},
		{"comments alone", func(t *testing.T, path string) { write(t, path, "# keys\n") }, "file is empty where there were keys"},
		{"gone", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, "file is gone"},
		{"a folder", func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"too large", func(t *testing.T, path string) {
			if err := os.Truncate(path, maxFile+1); err != nil {
				t.Fatal(err)
			}
		}, "larger than 32 MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "keys.yaml")
				key := create(t, path, "first")
				s, log := opened(t, path)
				log.take()

				test.wreck(t, path)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if got := status(s, key); got != Found {
					t.Errorf("the key of before: %v", got)
				}
				if got := log.take(); strings.Count(got, "\n") != 1 || !strings.Contains(got, test.want) || !strings.Contains(got, `"level":"error"`) {
					t.Errorf("logged %q, want one line with %q", got, test.want)
				}
				if err := s.reload(); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("Reload: %v", err)
				}
				if got := log.take(); got != "" {
					t.Errorf("said again: %q", got)
				}

				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
				other := create(t, path, "other")
				time.Sleep(time.Second)
				synctest.Wait()
				if a, b := status(s, key), status(s, other); a != Unknown || b != Found {
					t.Errorf("after the repair: %v, %v", a, b)
				}
			})
		})
	}
}

// A folder that cannot be searched leaves no state of the file to remember.
func TestAFileThatCannotBeAskedForIsComplainedOfOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "folder")
		path := filepath.Join(dir, "keys.yaml")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		key := create(t, path, "first")
		s, log := opened(t, path)
		log.take()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		write(t, dir, "not a folder")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := log.take(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "not a directory") || status(s, key) != Found {
			t.Errorf("logged %q; the key of before: %v", got, status(s, key))
		}
	})
}

func TestNoKeysMustBeSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	key := create(t, path, "first")
	s, _ := opened(t, path)
	write(t, path, "keys: []\n")
	if err := s.reload(); err != nil || status(s, key) != Unknown {
		t.Errorf("%v, %v", err, status(s, key))
	}
}

func TestABrokenFileIsNotOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, path, "keys: 1\n")
	_, err := OpenFile(path, FileOptions{})
	var format *FormatError
	if !errors.As(err, &format) || format.Problems[0].Line != 1 {
		t.Errorf("got %v", err)
	}
	if _, err := readFile(path + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestAFileOpenToEveryoneIsRemarkedOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, path, "keys: []\n")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, log := opened(t, path); !strings.Contains(log.take(), "chmod 600") {
		t.Error("not a word about mode 0644")
	}
}

func TestAFileBehindALinkIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path, one, two := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "1"), filepath.Join(dir, "2")
		first, second := create(t, one, "first"), create(t, two, "second")
		if err := os.Symlink("1", path); err != nil {
			t.Fatal(err)
		}
		s, _ := opened(t, path)
		if got := status(s, first); got != Found {
			t.Error(got)
		}
		if err := errors.Join(os.Symlink("2", path+".new"), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if a, b := status(s, first), status(s, second); a != Unknown || b != Found {
			t.Errorf("after the link was swapped: %v, %v", a, b)
		}
		third := create(t, path, "third") // writes 2, and leaves the link
		if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("the link was replaced: %v", err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := status(s, third); got != Found {
			t.Error(got)
		}
	})
}

// Many reloads run beside writers. Once a key was seen revoked, by a lookup or
// by the end of a reload that began after the revocation, nothing that was read
// earlier may bring it back.
func TestAnOldRecordNeverComesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	const n = 30
	keys := make([]string, n)
	for i := range keys {
		keys[i] = create(t, path, fmt.Sprint(i))
	}
	s, _ := opened(t, path)
	var stop atomic.Bool
	var others sync.WaitGroup
	for range 3 {
		others.Go(func() {
			for !stop.Load() {
				if err := s.reload(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	others.Go(func() {
		gone := make([]bool, n)
		for !stop.Load() {
			for i, key := range keys {
				switch got := status(s, key); {
				case got == Revoked:
					gone[i] = true
				case got != Found || gone[i]:
					t.Errorf("key %d, seen revoked: %v; now %v", i, gone[i], got)
					return
				}
			}
		}
	})
	for i, key := range keys {
		if _, _, _, err := revokeKey(t.Context(), &fileKeeper{path: path}, fmt.Sprint(i), time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := s.reload(); err != nil {
			t.Fatal(err)
		}
		if got := status(s, key); got != Revoked {
			t.Errorf("key %d after its revocation and a reload: %v", i, got)
		}
	}
	stop.Store(true)
	others.Wait()
}

// reload takes the file up at once, without waiting for it to settle. An error
// means that the keys of before stay in force.
func (s *FileStore) reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reloadLocked()
}
