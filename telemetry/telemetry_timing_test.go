package telemetry

import (
	"io"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

func BenchmarkObserve(b *testing.B) {
	for _, c := range []struct {
		name   string
		access bool
	}{{"metrics", false}, {"metrics and access line", true}} {
		b.Run(c.name, func(b *testing.B) {
			l := NewLog(io.Discard, "info")
			defer l.Close()
			o := options()
			o.Log, o.Access = l, c.access
			tel := New(o)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := streamed(nil)
				for pb.Next() {
					tel.Observe(r)
				}
			})
			b.ReportMetric(float64(l.Dropped())/float64(b.N), "dropped/op")
		})
	}
}

// The two histograms side by side: the library's takes a mutex.
func BenchmarkHistogram(b *testing.B) {
	bounds := newBounds().ttft
	b.Run("own", func(b *testing.B) {
		h := newHistogram(bounds)
		b.RunParallel(func(pb *testing.PB) {
			for i := int64(0); pb.Next(); i += 1e6 {
				h.observe(i & (1<<30 - 1))
			}
		})
	})
	b.Run("library", func(b *testing.B) {
		seconds := make([]float64, len(bounds.ns))
		for i, ns := range bounds.ns {
			seconds[i] = float64(ns) / 1e9
		}
		h := metrics.NewSet().NewPrometheusHistogramExt("h", seconds)
		b.RunParallel(func(pb *testing.PB) {
			for i := int64(0); pb.Next(); i += 1e6 {
				h.Update(float64(i&(1<<30-1)) / 1e9)
			}
		})
	})
}

func BenchmarkGapsAdd(b *testing.B) {
	var g Gaps
	for i := range b.N {
		g.Add(int64(i) & (1<<28 - 1))
	}
}

func BenchmarkNewID(b *testing.B) {
	b.RunParallel(func(pb *testing.PB) {
		var text [36]byte
		for i := int64(1e18); pb.Next(); i++ {
			AppendID(text[:0], NewID(i))
		}
	})
}

func BenchmarkLogInfo(b *testing.B) {
	l := NewLog(io.Discard, "info")
	defer l.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Info().Str("k", "v").Msg("line")
		}
	})
}

func BenchmarkWarnEveryHeldBack(b *testing.B) {
	l := NewLog(io.Discard, "info")
	defer l.Close()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.WarnEvery("flood", time.Hour).Str("k", "v").Msg("line")
		}
	})
}

// A scrape of 100 models at 4 upstreams, and 1,000 tenants.
func BenchmarkWriteMetrics(b *testing.B) {
	o := options()
	o.Upstreams, o.Models, o.Common = numbered("upstream-%d", 4), numbered("vendor/model-%d", 100), []int{0, 1}
	tel := New(o)
	for u := range o.Upstreams {
		for m := range o.Models {
			tel.Observe(streamed(func(r *Request) { r.Upstream, r.Model = u, []byte(o.Models[m]) }))
		}
	}
	for _, tenant := range numbered("tenant-%d", 1000) {
		tel.Observe(streamed(func(r *Request) { r.Tenant = []byte(tenant) }))
	}
	b.SetBytes(int64(len(scrape(tel))))
	b.ReportAllocs()
	for b.Loop() {
		tel.WriteMetrics(io.Discard)
	}
}
