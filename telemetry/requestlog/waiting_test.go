package requestlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"streamrelay/configs"
	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/spool"
)

const waitingRows = 10 // of each block of waitingFor

// waitingFor returns a sender that does not run, at level 1 of a crowd, and the
// files of n blocks that wait for it, each in one of its own. Those of bad are
// no blocks, though they are as they were written.
func waitingFor(t *testing.T, n int, bad ...int) (s *sender, paths []string) {
	t.Helper()
	o := options()
	o.Files.Dir = t.TempDir()
	p := &pipe{kind: &requestLog, in: unsealed(1), log: o.Log, backoff: o.Backoff, timeout: o.Timeout}
	p.seal.init(p, o.Files, configs.ClickHouse{})
	so := p.folderOptions("boot", &o.Files, false)
	so.FileBytes = 1
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
	}
	paths, _ = filepath.Glob(filepath.Join(folder.Dir(), "*.native.zst"))
	if len(paths) != n || folder.Waiting() != int64(n*waitingRows) {
		t.Fatalf("%d files, %d rows", len(paths), folder.Waiting())
	}
	return s, paths
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
		"dropped for room": func(t *testing.T, folder *spool.Folder, _ []string) {
			if err := folder.Configure(spool.Options{MaxBytes: 1}); err != nil {
				t.Fatal(err)
			}
			if _, err := folder.Append(spool.Header{Rows: 1, Token: "boot/z"}, []byte("frame"), false); !errors.Is(err, spool.ErrFull) {
				t.Fatal(err)
			}
		},
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
