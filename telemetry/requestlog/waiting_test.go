package requestlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"streamrelay/configs"
	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/spool"
)

const waitingRows = 10 // of each block of waitingFor

// waitingFor returns a sender that does not run, at level 1 of a crowd, and the
// files of n blocks that wait for it, each an hour younger than the one before
// and in a file of its own. Those of bad are no blocks, though they are as they
// were written.
func waitingFor(t *testing.T, n int, bad ...int) (s *sender, paths []string) {
	t.Helper()
	o := options()
	o.Files.Dir = t.TempDir()
	p := &pipe{kind: &requestLog, in: unsealed(1), log: o.Log, backoff: o.Backoff, timeout: o.Timeout}
	p.seal.init(p, o.Files, configs.ClickHouse{})
	so := p.folderOptions("boot", &o.Files, false)
	now := time.Now().Add(-time.Duration(n) * time.Hour)
	so.Now = func() time.Time { return now }
	folder, err := spool.Open(o.Files.Dir, so)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = folder.Close() })
	p.folder.Store(folder)
	s = newSender(p, []string{"127.0.0.1:1"}, &configs.ClickHouse{})
	t.Cleanup(s.cancel)
	p.senders.Store(&[]*sender{s})
	s.crowded()
	for i := range n + 1 { // the last one closes the file before, and is taken away
		var native proto.Buffer
		if err := encode(&native, fixedBatch(waitingRows)); err != nil {
			t.Fatal(err)
		}
		for _, at := range bad {
			if i == at {
				native.Buf = []byte("no block")
			}
		}
		b, err := folder.Append(spool.Header{Rows: waitingRows, Token: "boot/" + string(rune('a'+i))}, p.seal.zstd.EncodeAll(native.Buf, nil), i == n)
		if err != nil {
			t.Fatal(err)
		}
		if i == n {
			_ = folder.Ack(b)
		}
		now = now.Add(time.Hour)
	}
	paths, _ = filepath.Glob(filepath.Join(folder.Dir(), "*.native.zst"))
	if len(paths) != n || folder.Waiting() != int64(n*waitingRows) {
		t.Fatalf("%d files, %d rows", len(paths), folder.Waiting())
	}
	return s, paths
}

// expire has a folder drop its files but the last keep ones.
func expire(t *testing.T, folder *spool.Folder, keep int) {
	t.Helper()
	o := spool.Options{MaxBytes: int64(configs.GiB), MaxAge: time.Duration(keep)*time.Hour + 30*time.Minute}
	if err := errors.Join(folder.Configure(o), folder.Tick()); err != nil {
		t.Fatal(err)
	}
}

// flip damages the last byte of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 4
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestABlockThatIsGoneWhenItsSenderEndsIsCountedOnce: the attempt that finds
// nothing left of it is under way when a reload or the end comes.
func TestABlockThatIsGoneWhenItsSenderEndsIsCountedOnce(t *testing.T) {
	server, o := store(t)
	for name, lose := range map[string]func(t *testing.T, folder *spool.Folder, paths []string){
		"damaged": func(t *testing.T, _ *spool.Folder, paths []string) {
			for _, path := range paths {
				flip(t, path)
			}
		},
		"deleted by others": func(t *testing.T, _ *spool.Folder, paths []string) {
			for _, path := range paths {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
		},
		"dropped with its file": func(t *testing.T, folder *spool.Folder, _ []string) { expire(t, folder, 0) },
	} {
		for _, c := range []struct {
			name string
			end  func(*sender)
			left func(*sealer, *block)
		}{
			{"a reload", func(s *sender) { close(s.leave) }, (*sealer).handBack},
			{"the end", func(s *sender) { s.cancel() }, (*sealer).keepLast},
		} {
			for _, n := range []int{1, 3} {
				t.Run(fmt.Sprintf("%d %s at %s", n, name, c.name), func(t *testing.T) {
					s, paths := waitingFor(t, n)
					x := s.fromSpool()
					folder := s.p.folder.Load()
					lose(t, folder, paths)
					conn, err := clickhouse.Dial(t.Context(), server.Native, clickhouse.FromConfig(&o.ClickHouse))
					if err != nil {
						t.Fatal(err)
					}
					s.link = link{conn: conn, read: time.Now()}
					c.end(s)
					if !s.deliver(x) {
						t.Error("the block is left to others")
					}
					c.left(&s.p.seal, x) // nor do they stumble over it
					if got := s.p.figures(); got.Dropped != uint64(n*waitingRows) || got.Waiting != 0 || s.p.stats.lostAtClose.Load() != 0 {
						t.Errorf("%+v of %d rows, %d lost at the end", got, n*waitingRows, s.p.stats.lostAtClose.Load())
					}
				})
			}
		}
	}
}

// TestWhatIsWrongWithOneBlockOfSeveralIsCountedOnceAndTheOthersAreSent: also
// where a file cannot be read at the first attempt.
func TestWhatIsWrongWithOneBlockOfSeveralIsCountedOnceAndTheOthersAreSent(t *testing.T) {
	for _, c := range []struct {
		name           string
		n              int
		expired        int // of the first
		damaged, bad   []int
		fails          int // a file that cannot be read at first; -1: none
		dropped, aside int // blocks
	}{
		{"nothing", 3, 0, nil, nil, -1, 0, 0},
		{"the first is no block", 3, 0, nil, []int{0}, -1, 0, 1},
		{"the last is no block", 3, 0, nil, []int{2}, -1, 0, 1},
		{"one of two is no block", 2, 0, nil, []int{0}, -1, 0, 1},
		{"two of three are no blocks", 3, 0, nil, []int{0, 2}, -1, 0, 2},
		{"two of three are damaged", 3, 0, []int{0, 1}, nil, -1, 2, 0},
		{"a file fails after a damaged block", 3, 0, []int{0}, nil, 1, 1, 0},
		{"a file fails after all else", 5, 1, []int{1}, []int{2}, 4, 2, 1},
		{"a file fails before all else", 5, 0, []int{3, 1}, []int{4}, 0, 2, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, paths := waitingFor(t, c.n, c.bad...)
			folder := s.p.folder.Load()
			x := s.fromSpool()
			if len(x.stored) != c.n {
				t.Fatalf("%d of %d blocks go together", len(x.stored), c.n)
			}
			for _, i := range c.damaged {
				flip(t, paths[i])
			}
			expire(t, folder, c.n-c.expired)
			if c.fails >= 0 {
				path := paths[c.fails]
				if err := errors.Join(os.Rename(path, path+".away"), os.Mkdir(path, 0o700)); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if rows, err := s.load(x); err == nil || errors.Is(err, errGone) || errors.Is(err, errBlock) {
						t.Fatalf("%v, %v", rows, err)
					}
				}
				if err := errors.Join(os.Remove(path), os.Rename(path+".away", path)); err != nil {
					t.Fatal(err)
				}
			}
			rows, err := s.load(x)
			if err != nil {
				t.Fatal(err)
			}
			left := (c.n - c.dropped - c.aside) * waitingRows
			if got := s.p.figures(); rows.Rows() != left || x.rows != left || got.Waiting != int64(left) || got.Dropped != uint64(c.dropped*waitingRows) || got.Quarantined != uint64(c.aside*waitingRows) {
				t.Errorf("%d rows are sent as %d of %d: %+v", rows.Rows(), x.rows, left, got)
			}
			s.succeeded(x, time.Now())
			if got := s.p.figures(); got.Stored != uint64(left) || got.Waiting != 0 {
				t.Errorf("%+v", got)
			}
			for i := range c.n {
				path := filepath.Join(s.p.seal.files.Dir, "quarantine", fmt.Sprintf("%s.boot-%c.native.zst", requestLog.prefix, 'a'+i))
				var rows []int
				_, err := spool.Blocks(path, nil, func(h *spool.Header, _ []byte) error { rows = append(rows, h.Rows); return nil })
				if slices.Contains(c.bad, i) && !slices.Equal(rows, []int{waitingRows}) || !slices.Contains(c.bad, i) && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("block %d is put aside with rows %d: %v", i, rows, err)
				}
			}
		})
	}
}
