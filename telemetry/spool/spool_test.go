package spool

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

func open(t *testing.T, root string, change func(*Options)) *Folder {
	t.Helper()
	o := Options{Prefix: "request_log.v1", Boot: "boot1", MaxBytes: 1 << 30, Fsync: FsyncNever}
	if change != nil {
		change(&o)
	}
	s, err := Open(root, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// content is what the i-th block of a test holds.
func content(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "block %d ", i), 50+i%100) }

func put(t *testing.T, s *Folder, i int) *Block {
	t.Helper()
	b, err := s.Append(Header{Rows: i + 1, Token: fmt.Sprintf("boot/%d", i), Target: "a:9000"}, Pack(nil, content(i), nil), false)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func anyTarget(*Block) bool { return true }

// drain takes all blocks that wait, and returns their tokens.
func drain(t *testing.T, s *Folder, ack bool) (tokens []string) {
	t.Helper()
	dec, _ := zstd.NewReader(nil)
	defer dec.Close()
	for b := s.Take(anyTarget); b != nil; b = s.Take(anyTarget) {
		frame, err := s.Read(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := dec.DecodeAll(frame, nil)
		var i int
		fmt.Sscanf(b.Token, "boot/%d", &i)
		if err != nil || !bytes.Equal(got, content(i)) || b.Rows != i+1 {
			t.Fatalf("block %s came back otherwise: %v", b.Token, err)
		}
		if ack {
			if err := s.Ack(b); err != nil {
				t.Fatal(err)
			}
		}
		tokens = append(tokens, b.Token)
	}
	return tokens
}

func TestHeaderBytes(t *testing.T) {
	h := Header{Rows: 3, Seq: 7, Sealed: 1764000000000, Token: "boot/7", Target: "a:9000"}
	frame := Pack(nil, []byte("native block"), nil)
	got, err := appendHeader(nil, &h, frame)
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, frame...)
	golden := filepath.Join("testdata", "frame.hex")
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(golden, []byte(hex.Dump(got)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if hex.Dump(got) != string(want) {
		t.Errorf("got\n%swant\n%s", hex.Dump(got), want)
	}
	back, n, err := parseHeader(got)
	if err != nil || n != len(got)-len(frame) || back != h {
		t.Errorf("read back: %+v, %d, %v", back, n, err)
	}
}

func TestWhatIsNotAcknowledgedComesBackInOrderAfterARestart(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, func(o *Options) { o.FileBytes = 4000 })
	for i := range 40 {
		put(t, s, i)
	}
	for range 15 { // across files
		if err := s.Ack(s.Take(anyTarget)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, root, func(o *Options) { o.Boot = "boot2" })
	got := drain(t, s, true)
	if len(got) != 25 || got[0] != "boot/15" || got[24] != "boot/39" {
		t.Errorf("%d blocks: %v", len(got), got)
	}
	if s.Waiting() != 0 || s.Files() != 0 || s.Bytes() != 0 {
		t.Errorf("left: %d rows, %d files, %d bytes", s.Waiting(), s.Files(), s.Bytes())
	}
	if left, _ := filepath.Glob(filepath.Join(root, "spool/0/request_log*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestFilesOfADeadProcessAreAdoptedAndThoseOfALivingOneAreNot(t *testing.T) {
	root := t.TempDir()
	first := open(t, root, nil)
	put(t, first, 0)
	second := open(t, root, func(o *Options) { o.Boot = "boot2" })
	if second.Dir() == first.Dir() {
		t.Fatal("two processes share a folder")
	}
	if b := second.Take(anyTarget); b != nil {
		t.Errorf("took %s of a living process", b.Token)
	}
	if err := first.lock.Close(); err != nil { // it dies: its file stays open
		t.Fatal(err)
	}
	second.mu.Lock()
	second.adopt()
	second.mu.Unlock()
	if got := drain(t, second, false); len(got) != 1 || got[0] != "boot/0" {
		t.Errorf("adopted %v", got)
	}
	first.closed = true
}

func TestTheOldestFilesGoWhereThereIsNoRoomAndAreCounted(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) { o.MaxBytes, o.FileBytes = 20_000, 4000 })
	rows := 0
	for i := range 60 {
		put(t, s, i)
		rows += i + 1
	}
	if s.Bytes() > 20_000 {
		t.Errorf("%d bytes are kept", s.Bytes())
	}
	left := 0
	for range drain(t, s, false) {
		left++
	}
	if s.Dropped(DropFull) == 0 || int64(rows)-int64(s.Dropped(DropFull)) != s.Waiting() || left == 0 {
		t.Errorf("%d rows, %d dropped, %d wait in %d blocks", rows, s.Dropped(DropFull), s.Waiting(), left)
	}
}

func TestAReturnedBlockIsDoubtfulOnceItMayHaveBeenSent(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	for i := range 3 {
		put(t, s, i)
	}
	untaken := put(t, s, 3)
	first, second := s.Take(anyTarget), s.Take(anyTarget)
	s.Return(first, true)
	s.Return(second, false)
	s.Return(untaken, true)
	got := ""
	for b := s.Take(anyTarget); b != nil; b = s.Take(anyTarget) {
		got += fmt.Sprintf("%s %t ", b.Token, b.Doubtful)
	}
	if want := "boot/0 true boot/1 false boot/2 false boot/3 true "; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestASpoolBecomesAStoreAndASpoolAgain: what waits in it goes on waiting, and
// what was the log stays it.
func TestASpoolBecomesAStoreAndASpoolAgain(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, nil)
	as := func(store bool) {
		t.Helper()
		if err := s.Configure(Options{MaxBytes: 1 << 30, Fsync: FsyncNever, Store: store}); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, 0)
	as(true)
	put(t, s, 1)
	put(t, s, 2)
	as(false)
	put(t, s, 3)
	if got := drain(t, s, true); fmt.Sprint(got) != "[boot/0 boot/3]" || s.Waiting() != 0 {
		t.Errorf("wait: %v, %d rows", got, s.Waiting())
	}
	list, err := Files(root)
	if err != nil || len(list) == 0 || list[0].Day == "" || list[0].Open {
		t.Fatalf("%+v, %v", list, err)
	}
	rows := 0
	if _, err := Blocks(list[0].Path, nil, func(h *Header, _ []byte) error { rows += h.Rows; return nil }); err != nil || rows != 2+3 {
		t.Errorf("the store has %d rows: %v", rows, err)
	}
}

func TestFilesThatAreTooOldGo(t *testing.T) {
	now := time.Now()
	s := open(t, t.TempDir(), func(o *Options) { o.MaxAge, o.Now = time.Hour, func() time.Time { return now } })
	put(t, s, 0)
	now = now.Add(30 * time.Minute)
	put(t, s, 1)
	now = now.Add(31 * time.Minute)
	if err := s.Tick(); err != nil {
		t.Fatal(err)
	}
	if s.Dropped(DropAge) != 1 || s.Waiting() != 2 {
		t.Errorf("%d dropped, %d wait", s.Dropped(DropAge), s.Waiting())
	}
}

func TestAFullDiskLeavesNoHalfOfABlock(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, nil)
	put(t, s, 0)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	small := syscall.Rlimit{Cur: uint64(s.Bytes()) + 100, Max: before.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		t.Fatal(err)
	}
	_, err := s.Append(Header{Rows: 1, Token: "boot/1"}, Pack(nil, content(1), nil), false) // a short write, as with ENOSPC
	if e := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); e != nil {
		t.Fatal(e)
	}
	if err == nil {
		t.Fatal("no error")
	}
	put(t, s, 2)
	if got := drain(t, s, false); fmt.Sprint(got) != "[boot/0 boot/2]" {
		t.Errorf("kept %v", got)
	}
}

func TestAStoreKeepsItsFilesByDayAndPrunesThem(t *testing.T) {
	root := t.TempDir()
	now := time.Date(2026, 11, 24, 23, 59, 0, 0, time.UTC)
	s := open(t, root, func(o *Options) {
		o.Store, o.MaxAge, o.Now = true, 48*time.Hour, func() time.Time { return now }
	})
	for i := range 6 {
		put(t, s, i)
		now = now.Add(24 * time.Hour)
		if err := s.Tick(); err != nil {
			t.Fatal(err)
		}
	}
	list, err := Files(root)
	if err != nil {
		t.Fatal(err)
	}
	var days []string
	for _, f := range list {
		days = append(days, f.Day)
	}
	if got := strings.Join(days, " "); got != "2026-11-28 2026-11-29" {
		t.Errorf("days left: %s", got)
	}
}

// TestDamagedFilesNeverYieldADamagedBlock cuts and flips files at random
// places: what recovery keeps is a part of what was written, unchanged.
func TestWhatIsNoFileIsLeftAlone(t *testing.T) {
	root := t.TempDir()
	day := filepath.Join(root, "dt=2026-11-24")
	if err := os.MkdirAll(filepath.Join(day, "folder"+ending), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(day, "pipe"+ending), 0o600); err != nil { // whoever opened it would wait
		t.Fatal(err)
	}
	if list, err := Files(root); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestDamagedFilesNeverYieldADamagedBlock(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, nil)
	const n = 30
	for i := range n {
		put(t, s, i)
	}
	whole, err := os.ReadFile(s.active.path)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "damaged")
	lost := 0
	for round := range 1000 {
		data := bytes.Clone(whole)
		if round%2 == 0 {
			data = data[:rand.IntN(len(data))]
		} else {
			data[rand.IntN(len(data))] ^= 1 << rand.IntN(8)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		damaged, kept, err := recoverFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if round%2 == 1 && (len(kept) != n-1 || len(damaged) != 1) {
			t.Fatalf("one flipped bit cost %d blocks, %d damages", n-len(kept), len(damaged))
		}
		lost += n - len(kept)
		after, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for _, b := range kept { // byte for byte as written, one after the other
			from := bytes.Index(whole, after[at:b.end()])
			if from < 0 || int(b.off) != at {
				t.Fatalf("round %d: block %s was not written like this", round, b.Token)
			}
			at = int(b.end())
		}
		if at != len(after) {
			t.Fatalf("round %d: %d bytes that are no block were kept", round, len(after)-at)
		}
	}
	if lost == 0 {
		t.Error("nothing was damaged")
	}
}

func FuzzScan(f *testing.F) {
	h := Header{Rows: 3, Seq: 1, Token: "boot/1", Target: "a:9000"}
	frame := Pack(nil, []byte("native block"), nil)
	one, _ := appendHeader(nil, &h, frame)
	one = append(one, frame...)
	f.Add(one)
	f.Add(append(bytes.Clone(one), one...))
	f.Add(append([]byte("noise"), one...))
	f.Add(one[:len(one)-3])
	f.Fuzz(func(t *testing.T, data []byte) {
		found, damaged, err := scan(bytes.NewReader(data), int64(len(data)), "", true)
		if err != nil {
			t.Fatal(err)
		}
		covered, end := int64(0), int64(0)
		for _, a := range found {
			if a.off < end || a.end() > int64(len(data)) {
				t.Fatalf("block at %d to %d after %d of %d", a.off, a.end(), end, len(data))
			}
			end = a.end()
			covered += a.end() - a.off
		}
		for _, d := range damaged {
			covered += d.Bytes
		}
		if covered != int64(len(data)) {
			t.Fatalf("%d of %d bytes are accounted for", covered, len(data))
		}
	})
}

// TestAnActiveFileThatIsEmptiedForRoomIsNotDropped: all in it was acknowledged,
// and there is no other.
func TestAnActiveFileThatIsEmptiedForRoomIsNotDropped(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) { o.MaxBytes = 1 << 20 })
	noise := make([]byte, 100_000)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	for i := range 15 {
		b, err := s.Append(Header{Rows: 1, Token: fmt.Sprint("boot/", i)}, Pack(nil, noise, nil), true)
		if err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
		if i < 11 {
			if err := s.Ack(b); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := s.Read(b, nil); err != nil || !bytes.Equal(got, Pack(nil, noise, nil)) {
			t.Errorf("read %d: %v", i, err)
		}
		s.Return(b, false)
	}
	n := 0
	for b := s.Take(anyTarget); b != nil; b = s.Take(anyTarget) {
		n++
	}
	if err := s.Close(); n != 4 || err != nil {
		t.Errorf("%d blocks of 4 are taken, %v", n, err)
	}
}
