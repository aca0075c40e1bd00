package simulate

import (
	"math/rand/v2"
	"testing"
)

// TestPacerWakesInOrder adds and removes at random and compares with what a
// pacer is: a set of times.
func TestPacerWakesInOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := newPacer()
	waits := make([]wait, 300)
	var woken []int
	for i := range waits {
		waits[i] = wait{at: -1, wake: func() { woken = append(woken, i) }}
	}
	in := map[int]int64{}
	for step := range 20_000 {
		i := r.IntN(len(waits))
		if _, ok := in[i]; ok {
			p.remove(&waits[i])
			p.remove(&waits[i]) // twice does no harm
			delete(in, i)
		} else {
			in[i] = r.Int64N(1000)
			p.add(&waits[i], in[i])
		}
		if step%100 != 0 {
			continue
		}
		now := r.Int64N(1000)
		woken = woken[:0]
		next := p.wakeDue(now)
		last := int64(-1)
		for _, i := range woken {
			if in[i] > now || in[i] < last {
				t.Fatalf("at %d: woke one of %d after one of %d", now, in[i], last)
			}
			last = in[i]
			delete(in, i)
		}
		earliest := int64(-1)
		for _, due := range in {
			if due <= now {
				t.Fatalf("at %d: one of %d was left", now, due)
			}
			if earliest < 0 || due < earliest {
				earliest = due
			}
		}
		if earliest < 0 && next != -1 || earliest >= 0 && int64(next) != earliest-now {
			t.Fatalf("at %d the next is at %d, said in %d", now, earliest, next)
		}
	}
}
