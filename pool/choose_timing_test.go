package pool

import (
	"fmt"
	"testing"
)

// BenchmarkChoose is an attempt from its choice to its end, from all cores.
func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{1, 4, 64} {
		b.Run(fmt.Sprint(n, " upstreams"), func(b *testing.B) {
			c := NewCandidates(setOf(b, n, nil).Upstreams)
			now := Now()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				x := new(struct { // as in an exchange
					try   Attempt
					tried Tried
				})
				for pb.Next() {
					if !c.Choose(&x.try, &x.tried, 7, now) {
						b.Error("nobody")
					}
					x.try.Answered()
					x.try.End(true)
				}
			})
		})
	}
	b.Run("64 upstreams, 63 resting", func(b *testing.B) {
		s := setOf(b, 64, nil)
		c, now := NewCandidates(s.Upstreams), Now()
		for _, u := range s.Upstreams[:63] {
			u.Credentials[0].account.rest(7, now+1e12)
		}
		b.ReportAllocs()
		var a Attempt
		var tried Tried
		for b.Loop() {
			if !c.Choose(&a, &tried, 7, now) {
				b.Fatal("nobody")
			}
			a.End(true)
		}
	})
}
