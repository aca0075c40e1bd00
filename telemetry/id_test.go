package telemetry

import (
	"bytes"
	"regexp"
	"testing"
	"time"
)

func TestNewIDIsAUUIDv7OfItsTime(t *testing.T) {
	now := time.Date(2026, 11, 23, 18, 30, 0, 123456789, time.UTC).UnixNano()
	id := NewID(now)
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	if ms != now/1e6 {
		t.Errorf("milliseconds %d, want %d", ms, now/1e6)
	}
	if frac := int(id[6]&0xf)<<8 | int(id[7]); frac != 456789*4096/1000000 {
		t.Errorf("fraction %d/4096 of a millisecond, want %d", frac, 456789*4096/1000000)
	}
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if s := AppendID(nil, id); !form.Match(s) {
		t.Errorf("%s is not a UUID of version 7", s)
	}
}

func TestIDsOfAMillisecondSortByTime(t *testing.T) {
	last := NewID(1e15)
	for ns := int64(1e15) + 500; ns < 1e15+1e6; ns += 500 {
		id := NewID(ns)
		if bytes.Compare(last[:], id[:]) >= 0 {
			t.Fatalf("%x at %d ns is not above %x", id, ns, last)
		}
		last = id
	}
}

func TestIDsDiffer(t *testing.T) {
	seen := make(map[[16]byte]bool)
	for range 100_000 {
		id := NewID(1e18)
		if seen[id] {
			t.Fatalf("%x twice", id)
		}
		seen[id] = true
	}
}

func TestAppendID(t *testing.T) {
	id := [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255}
	if got := string(AppendID([]byte("id="), id)); got != "id=00010203-0405-0607-0809-0a0b0c0d0eff" {
		t.Error(got)
	}
}
