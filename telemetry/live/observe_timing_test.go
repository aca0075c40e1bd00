package live

import (
	"fmt"
	"sync/atomic"
	"testing"

	"streamrelay/telemetry"
)

func TestObserveAllocatesNothing(t *testing.T) {
	c := newClock(Sources{})
	n := 0
	for what, change := range map[string]func(*telemetry.Request){
		"a stream": nil,
		"a refusal": func(r *telemetry.Request) {
			r.End, r.Upstream, r.Tenant, r.Gaps, r.Delays = telemetry.Denied, -1, nil, nil, nil
		},
		"a long name":  func(r *telemetry.Request) { r.Model = make([]byte, 1000) },
		"many names":   func(r *telemetry.Request) { r.Model = fmt.Appendf(nil, "m%d", n) },
		"far upstream": func(r *telemetry.Request) { r.Upstream = 1 << 20 },
	} {
		list := make([]*telemetry.Request, 2000)
		for i := range list {
			n++
			list[i] = exchange(n, change)
		}
		i := 0
		if got := testing.AllocsPerRun(1000, func() { c.Observe(list[i%len(list)]); i++ }); got != 0 {
			t.Errorf("%s: %v allocations", what, got)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	list := make([]*telemetry.Request, 256)
	for i := range list {
		list[i] = exchange(i, func(r *telemetry.Request) {
			r.Model, r.Tenant = fmt.Appendf(nil, "vendor/model-%d", i%12), fmt.Appendf(nil, "tenant-%d", i%40)
			r.RequestID = []byte("01936f3c-8f0e-7c3a-9f44-2b1d6f5a9c00")
			if i%50 == 0 {
				r.End, r.Status = telemetry.UpstreamStatus, 503
			}
		})
	}
	b.Run("one", func(b *testing.B) {
		c := newClock(Sources{})
		b.ReportAllocs()
		for i := range b.N {
			c.Observe(list[i%len(list)])
		}
	})
	b.Run("parallel", func(b *testing.B) {
		c := newClock(Sources{})
		b.ReportAllocs()
		var worker atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for i := int(worker.Add(100)); pb.Next(); i++ {
				c.Observe(list[i%len(list)])
			}
		})
	})
}

// One second of a busy relay, with and without a viewer.
func BenchmarkSecond(b *testing.B) {
	for _, viewers := range []int{0, 1} {
		b.Run(fmt.Sprintf("viewers=%d", viewers), func(b *testing.B) {
			c := newClock(Sources{})
			c.viewers = viewers
			list := make([]*telemetry.Request, 2000)
			for i := range list {
				list[i] = exchange(i, func(r *telemetry.Request) { r.Tenant = fmt.Appendf(nil, "tenant-%d", i%40) })
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, r := range list {
					c.Observe(r)
				}
				c.now = c.now.Add(1e9)
				c.second(c.now)
			}
		})
	}
}

func BenchmarkState(b *testing.B) {
	c := newClock(Sources{})
	for i := range historySeconds {
		c.Observe(exchange(i, nil))
		c.tick()
	}
	for b.Loop() {
		c.mu.Lock()
		c.state = nil
		b.SetBytes(int64(len(c.stateLocked())))
		c.mu.Unlock()
	}
}
