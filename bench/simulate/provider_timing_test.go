package simulate

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// cpuTime is this process's CPU time in nanoseconds.
func cpuTime() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts)
	return ts.Nano()
}

// BenchmarkPacedEvent sends each of 500 streams an event every 20 ms; cpu-ns/op
// is for provider and client together, so an upper bound for the provider.
func BenchmarkPacedEvent(b *testing.B) {
	streamTo(b, 500, "gap=20ms,size=200")
}

// BenchmarkBurstEvent sends events back to back on 16 streams.
func BenchmarkBurstEvent(b *testing.B) {
	streamTo(b, 16, "burst=1,size=200")
}

func streamTo(b *testing.B, streams int, simulate string) {
	p, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	addr, err := p.Start("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	raw := rawRequest("/v1/chat/completions", fmt.Sprintf("%s,events=%d", simulate, min(b.N/streams+1, maxEvents)), streamBody)
	raw = strings.Replace(raw, "HTTP/1.1", "HTTP/1.0", 1) // ended by close
	var wg sync.WaitGroup
	b.ResetTimer()
	before := cpuTime()
	for range streams {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			if _, err := io.WriteString(c, raw); err != nil {
				b.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, onlyReader{c}); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
}

// onlyReader keeps io.Copy from splicing.
type onlyReader struct{ io.Reader }
