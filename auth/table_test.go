package auth

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestLookupTellsWhyAKeyIsRefused(t *testing.T) {
	expires := time.Unix(1000, 0)
	table := NewStatic(
		&Record{ID: "good", Digest: DigestOf(nil, []byte("good"))},
		&Record{ID: "expires", Digest: DigestOf(nil, []byte("expires")), Expires: expires},
		&Record{ID: "disabled", Digest: DigestOf(nil, []byte("disabled")), Disabled: true, Expires: expires},
		&Record{ID: "revoked", Digest: DigestOf(nil, []byte("revoked")), Revoked: time.Unix(1, 0)},
	)
	for _, test := range []struct {
		key    string
		now    int64
		status Status
	}{
		{"good", 0, Found},
		{"good", 1 << 60, Found},
		{"expires", 999, Found},
		{"expires", 1000, Expired},
		{"disabled", 2000, Disabled},
		{"revoked", 0, Revoked},
		{"other", 0, Unknown},
		{"Good", 0, Unknown},
		{"good ", 0, Unknown},
		{"", 0, Unknown},
	} {
		r, status := table.lookup([]byte(test.key), test.now)
		if status != test.status || (r == nil) != (status == Unknown) || r != nil && r.ID != test.key {
			t.Errorf("Lookup(%q, %d) = %v, %v; want %v", test.key, test.now, r, status, test.status)
		}
	}
	if r, status := new(Record), Status(0); status == Found || r.usable {
		t.Error("a zero value lets somebody in")
	}
}

func TestAKeyOfAnyLengthThatCanBeImportedIsFound(t *testing.T) {
	for _, pepper := range [][]byte{nil, []byte("pepper")} {
		table := NewTable(pepper)
		for n := 1; n <= maxKeyLength+1; n++ {
			key := []byte(name(n))
			table.Put(&Record{Digest: DigestOf(pepper, key)})
			if _, status := table.lookup(key, 0); (status == Found) != (n <= maxKeyLength) {
				t.Fatalf("a key of %d characters: %v", n, status)
			}
		}
	}
}

func TestAPepperIsNeeded(t *testing.T) {
	table := NewTable([]byte("pepper"))
	table.Put(&Record{ID: "a", Digest: DigestOf([]byte("pepper"), []byte("k"))})
	table.Put(&Record{ID: "b", Digest: DigestOf(nil, []byte("k"))})
	if r, status := table.lookup([]byte("k"), 0); status != Found || r.ID != "a" {
		t.Errorf("got %v, %v", r, status)
	}
}

func TestDigestsThatShareTheIndexAreToldApart(t *testing.T) {
	table := NewTable(nil)
	digest := func(i int) Digest { return Digest{0: 7, 31: byte(i)} } // one home for all
	for i := range 100 {
		table.Put(&Record{ID: fmt.Sprint(i), Digest: digest(i)})
	}
	for i := 0; i < 100; i += 2 {
		d := digest(i)
		if !table.Delete(&d) || table.Delete(&d) {
			t.Fatalf("delete %d", i)
		}
	}
	for i := range 100 {
		d := digest(i)
		r, status := table.LookupDigest(&d, 0)
		if want := i%2 == 1; (status == Found) != want || want && r.ID != fmt.Sprint(i) {
			t.Errorf("digest %d: %v, %v", i, r, status)
		}
	}
	if d := digest(100); table.Delete(&d) || table.Len() != 50 {
		t.Errorf("%d records", table.Len())
	}
}

func TestTheDigestOfTheTombstoneIsNotFound(t *testing.T) {
	table := NewTable(nil)
	var zero Digest
	table.Put(&Record{ID: "zero", Digest: zero})
	if _, status := table.LookupDigest(&zero, 0); status != Found {
		t.Fatal(status)
	}
	table.Delete(&zero)
	if r, status := table.LookupDigest(&zero, 0); status != Unknown {
		t.Fatal(r, status)
	}
	table.Put(&Record{ID: "again", Digest: zero})
	if r, status := table.LookupDigest(&zero, 0); status != Found || r.ID != "again" {
		t.Fatal(r, status)
	}
}

func TestTableIsAMapUnderRandomWrites(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	table, model := NewTable(nil), map[int]*Record{}
	for range 200_000 {
		i := rng.IntN(500)
		d := digestOf(i)
		switch rng.IntN(5) {
		case 0, 1:
			r := &Record{Digest: d}
			table.Put(r)
			model[i] = r
		case 2:
			_, there := model[i]
			if table.Delete(&d) != there {
				t.Fatalf("delete %d: want %v", i, there)
			}
			delete(model, i)
		default:
			if got := table.cur.Load().find(&d); got != model[i] {
				t.Fatalf("digest %d: got %p, want %p", i, got, model[i])
			}
		}
		if table.Len() != len(model) {
			t.Fatalf("%d records, want %d", table.Len(), len(model))
		}
	}
	if n := len(table.cur.Load().slot); n > 4096 {
		t.Errorf("%d slots for at most 500 records: tombstones are not cleared away", n)
	}
}

func TestReplaceLeavesNothingOfBefore(t *testing.T) {
	table := NewTable(nil)
	for i := range 1000 {
		table.Put(&Record{Digest: digestOf(i)})
	}
	table.Replace([]*Record{{ID: "first", Digest: digestOf(1)}, {ID: "second", Digest: digestOf(1)}, {Digest: digestOf(2000)}})
	for i := range 1000 {
		d := digestOf(i)
		if r, status := table.LookupDigest(&d, 0); (status == Found) != (i == 1) || i == 1 && r.ID != "second" {
			t.Fatalf("digest %d: %v, %v", i, r, status)
		}
	}
	if table.Len() != 2 || len(table.cur.Load().slot) != minSlots {
		t.Errorf("%d records in %d slots", table.Len(), len(table.cur.Load().slot))
	}
}

// Readers run beside every kind of write. A key that stays is never missed,
// not even while the table grows, is swapped, or has neighbours deleted; a
// deleted one, once seen gone by its writer, is never seen again.
func TestLookupsBesideWritesNeverMissAKeyThatStays(t *testing.T) {
	const stays, comes = 64, 2000
	table := NewTable(nil)
	var steady []*Record
	for i := range stays {
		steady = append(steady, &Record{ID: fmt.Sprint(i), Digest: digestOf(i)})
		table.Put(steady[i])
	}
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for i := 0; !stop.Load(); i++ {
				d := steady[i%stays].Digest
				r, status := table.LookupDigest(&d, 0)
				if status != Found || r.Digest != d {
					t.Errorf("a key that was there all the time: %v", status)
					return
				}
				tenant, ok := r.Tenant(nil)
				if !ok || string(tenant) != "default" {
					t.Errorf("a record was seen before it was complete: %q, %v", tenant, ok)
					return
				}
			}
		})
	}
	var writers sync.WaitGroup
	for w := range 2 { // each owns its digests, so that each knows what must be there
		writers.Go(func() {
			for i := range comes {
				d := digestOf(stays + w*comes + i)
				table.Put(&Record{Digest: d})
				if i%3 == 0 {
					continue
				}
				table.Delete(&d)
				if _, status := table.LookupDigest(&d, 0); status != Unknown {
					t.Errorf("a deleted key: %v", status)
				}
			}
		})
	}
	writers.Go(func() {
		for i := range comes {
			table.Put(&Record{ID: fmt.Sprint(i), Digest: steady[i%stays].Digest})
		}
	})
	writers.Wait()
	for range 200 {
		fresh := make([]*Record, stays)
		for i := range fresh {
			fresh[i] = &Record{Digest: steady[i].Digest}
		}
		table.Replace(fresh)
	}
	stop.Store(true)
	readers.Wait()
}
