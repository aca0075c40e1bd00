package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestAFileThatCannotBeClosedIsClosedLater: also one that was left with half a
// block, and as what it was begun as.
func TestAFileThatCannotBeClosedIsClosedLater(t *testing.T) {
	root, now := t.TempDir(), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	o := Options{Prefix: "request_log.v1", Boot: "boot1", Store: true, MaxBytes: 1 << 30, Fsync: FsyncInterval, Now: func() time.Time { return now }}
	s := open(t, root, func(p *Options) { *p = o })
	put(t, s, 0)
	day := filepath.Join(root, "dt=2026-11-24")
	if err := os.WriteFile(day, nil, 0o600); err != nil { // stands for a full disk, where no folder is made
		t.Fatal(err)
	}
	now = now.Add(61 * time.Minute)
	if err := s.Tick(); err == nil {
		t.Fatal("no error")
	}
	put(t, s, 1)
	s.mu.Lock()
	if _, err := s.active.f.WriteAt([]byte("half a block"), s.active.size); err != nil {
		t.Fatal(err)
	}
	s.abandonLocked()
	s.mu.Unlock()
	o.Store = false
	if err := s.Configure(o); err != nil {
		t.Fatal(err)
	}
	put(t, s, 2)
	if got := drain(t, s, false); fmt.Sprint(got) != "[boot/2]" { // the others are the log's
		t.Errorf("%v wait", got)
	}
	if err := os.Remove(day); err != nil {
		t.Fatal(err)
	}
	if err := s.Tick(); err != nil {
		t.Fatal(err)
	}
	list, err := Files(root)
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	for i, f := range list {
		rows := 0
		damaged, err := Blocks(f.Path, nil, func(h *Header, _ []byte) error { rows += h.Rows; return nil })
		if err != nil || len(damaged) > 0 || rows != i+1 || f.Open != (i == 2) || (f.Day == "2026-11-24") != (i < 2) {
			t.Errorf("%+v: %d rows, %v, %v", f, rows, damaged, err)
		}
	}
	if s.Waiting() != 3 {
		t.Errorf("%d rows wait", s.Waiting())
	}
}

func TestABlockThatCannotFitTakesNothingAway(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) { o.MaxBytes = 20_000 })
	for i := range 5 {
		put(t, s, i)
	}
	if _, err := s.Append(Header{Rows: 1, Token: "boot/5"}, make([]byte, 20_000), false); err != ErrFull || s.Waiting() != 15 || s.Dropped(DropFull) != 0 {
		t.Errorf("%v, and %d rows of 15 wait", err, s.Waiting())
	}
}
