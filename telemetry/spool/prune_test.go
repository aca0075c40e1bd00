package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// putAside puts a block of a row aside, as if at at.
func putAside(t *testing.T, s *Folder, i int, at time.Time) {
	t.Helper()
	path, err := s.Quarantine(fmt.Sprintf("request_log.v1.boot1-%d", i), Header{Rows: 1, Token: fmt.Sprintf("boot1/%d", i)}, Pack(nil, content(i), nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func asideLeft(t *testing.T, root string) (files, bytes int64) {
	t.Helper()
	for _, f := range asideFiles(root) {
		files++
		bytes += f.bytes
	}
	return files, bytes
}

func TestWhatWasPutAsideGoesByAgeAndIsCounted(t *testing.T) {
	for _, store := range []bool{false, true} {
		root, now := t.TempDir(), time.Now()
		s := open(t, root, func(o *Options) { o.Store, o.MaxAge, o.Now = store, 48*time.Hour, func() time.Time { return now } })
		putAside(t, s, 0, now.Add(-49*time.Hour))
		putAside(t, s, 1, now.Add(-47*time.Hour))
		if err := s.Tick(); err != nil {
			t.Fatal(err)
		}
		now = now.Add(31 * time.Second)
		if err := s.Tick(); err != nil {
			t.Fatal(err)
		}
		if n, _ := asideLeft(t, root); n != 1 || s.Dropped(DropAge) != 1 || s.Dropped(DropFull) != 0 {
			t.Errorf("store %t: %d files left, %d rows dropped for their age, %d for room", store, n, s.Dropped(DropAge), s.Dropped(DropFull))
		}
	}
}

// TestWhatWasPutAsideSharesTheRoomAndGoesFirst: what waits can still be sent.
func TestWhatWasPutAsideSharesTheRoomAndGoesFirst(t *testing.T) {
	root, now := t.TempDir(), time.Now()
	s := open(t, root, func(o *Options) { o.MaxBytes, o.FileBytes, o.Now = 20_000, 4000, func() time.Time { return now } })
	for i := range 60 {
		putAside(t, s, i, now)
		now = now.Add(time.Second)
	}
	n, bytes := asideLeft(t, root)
	if bytes > 20_000 || n == 0 || int64(s.Dropped(DropFull)) != 60-n {
		t.Fatalf("%d files with %d bytes left, %d rows dropped", n, bytes, s.Dropped(DropFull))
	}
	if left := asideFiles(root); filepath.Base(left[0].path) != fmt.Sprintf("request_log.v1.boot1-%d%s", 60-n, ending) {
		t.Errorf("the oldest left is %s", left[0].path)
	}
	for i := range 12 {
		put(t, s, i)
		now = now.Add(time.Second)
		if _, bytes = asideLeft(t, root); bytes+s.Bytes() > 20_000 {
			t.Fatalf("%d bytes put aside, %d wait", bytes, s.Bytes())
		}
	}
	if left, _ := asideLeft(t, root); left == n || left == 0 || s.Waiting() != 12*13/2 || int64(s.Dropped(DropFull)) != 60-left {
		t.Errorf("%d files left of %d, %d rows wait, %d dropped", left, n, s.Waiting(), s.Dropped(DropFull))
	}
}

// TestDaysOfATimeAsAStoreGoByAgeAndRoom: the folder is a spool again.
func TestDaysOfATimeAsAStoreGoByAgeAndRoom(t *testing.T) {
	root, now := t.TempDir(), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	change := func(store bool, boot string) func(*Options) {
		return func(o *Options) {
			o.Store, o.Boot, o.MaxAge, o.MaxBytes, o.Now = store, boot, 72*time.Hour, 40_000, func() time.Time { return now }
		}
	}
	s := open(t, root, change(true, "boot1"))
	for i := range 8 { // two a day
		put(t, s, i)
		now = now.Add(12 * time.Hour)
		if err := s.Tick(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	days := func() (n int, bytes int64) {
		t.Helper()
		list, err := Files(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			if f.Day != "" {
				n++
				bytes += f.Bytes
			}
		}
		return n, bytes
	}
	s = open(t, root, change(false, "boot2"))
	before, _ := days()
	rows := int64(0)
	for i := 0; ; i++ { // blocks that wait make room
		put(t, s, i)
		rows += int64(i) + 1
		now = now.Add(time.Second)
		if err := s.Tick(); err != nil {
			t.Fatal(err)
		}
		n, bytes := days()
		if i > 32 && bytes+s.Bytes() > 40_000 { // looked at once at least
			t.Fatalf("%d bytes of days beside %d that wait", bytes, s.Bytes())
		}
		if n < before-2 {
			break
		}
	}
	if s.Waiting() != rows {
		t.Errorf("%d rows of %d wait", s.Waiting(), rows)
	}
	now = now.Add(4 * 24 * time.Hour)
	if err := s.Tick(); err != nil {
		t.Fatal(err)
	}
	if n, _ := days(); n != 0 {
		t.Errorf("%d files of days are there after four days, with a retention of three", n)
	}
}

// TestWhatWaitsGoesBeforeTheDaysOfAStore: a spool that was full when the folder
// became the log leaves it room, and goes by its age.
func TestWhatWaitsGoesBeforeTheDaysOfAStore(t *testing.T) {
	for _, restart := range []bool{false, true} {
		root, now := t.TempDir(), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		var said []string
		o := Options{
			MaxBytes: 4000, MaxAge: 48 * time.Hour, Now: func() time.Time { return now }, Fsync: FsyncNever,
			Warn: func(text string) { said = append(said, text) },
		}
		spool := func(p *Options) { o.Prefix, o.Boot = p.Prefix, "boot1"; *p = o }
		s := open(t, root, spool)
		for i := 0; s.Dropped(DropFull) == 0; i++ {
			put(t, s, i)
			now = now.Add(11 * time.Second)
		}
		waiting, dropped := s.Waiting(), s.Dropped(DropFull)
		o.Store = true
		if restart {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, root, func(p *Options) { spool(p); p.Boot = "boot2" })
			dropped = 0
		} else if err := s.Configure(o); err != nil {
			t.Fatal(err)
		}
		said, now = nil, now.Add(time.Minute) // a word a minute
		for i := range 5 {
			put(t, s, 100+i)
			now = now.Add(61 * time.Minute)
			if err := s.Tick(); err != nil { // closes the file and prunes
				t.Fatal(err)
			}
		}
		list, err := Files(root)
		if err != nil {
			t.Fatal(err)
		}
		days := 0
		for _, f := range list {
			if f.Day != "" {
				days++
			}
		}
		if days != 5 || bytesOf(list) > 4000 || len(list) == days || int64(s.Dropped(DropFull)-dropped) != waiting-s.Waiting() || len(said) == 0 {
			t.Errorf("restart %t: %d files of days of %d, %d bytes, %d rows of %d wait, %d dropped; said %q", restart, days, len(list), bytesOf(list), s.Waiting(), waiting, s.Dropped(DropFull)-dropped, said)
		}
		waiting, now = s.Waiting(), now.Add(48*time.Hour)
		if err := s.Tick(); err != nil {
			t.Fatal(err)
		}
		if s.Waiting() != 0 || int64(s.Dropped(DropAge)) != waiting {
			t.Errorf("restart %t: %d rows wait two days later, %d of %d dropped for their age", restart, s.Waiting(), s.Dropped(DropAge), waiting)
		}
	}
}
