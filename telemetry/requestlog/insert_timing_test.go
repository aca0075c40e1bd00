package requestlog

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"streamrelay/telemetry/clickhouse"
)

// BenchmarkInsert is the engine's time for one block (the test server makes it
// a lower bound of what ClickHouse takes), our own CPU, and what a row takes on
// the wire and on the server's disk.
func BenchmarkInsert(b *testing.B) {
	for _, rows := range []int{10_000, 50_000} {
		for _, compression := range []string{"none", "lz4", "zstd"} {
			b.Run(fmt.Sprintf("rows=%d/%s", rows, compression), func(b *testing.B) {
				s, o := store(b)
				o.ClickHouse.Compression = compression
				batch := batchOf(everyday(rows))
				insert := func(address string, token func(i int) string, again func(i int) bool) {
					conn, err := clickhouse.Dial(context.Background(), address, clickhouse.FromConfig(&o.ClickHouse))
					if err != nil {
						b.Fatal(err)
					}
					defer conn.Close()
					t, err := conn.Describe(context.Background(), "request_log")
					if err != nil {
						b.Fatal(err)
					}
					for i := 0; again(i); i++ {
						if err := conn.Insert(context.Background(), t, batch.Input(), token(i)); err != nil {
							b.Fatal(err)
						}
					}
				}
				address, sent := counting(b, s.Native)
				insert(address, func(int) string { return "first" }, func(i int) bool { return i < 1 })
				disk := s.Query("SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts WHERE active AND database = 'relay' AND table = 'request_log'")
				var onDisk float64
				if _, err := fmt.Sscan(disk, &onDisk); err != nil {
					b.Fatal(err)
				}
				wire := float64(sent.Load()) / float64(rows)
				before := cpuTime(b)
				insert(s.Native, func(i int) string { return fmt.Sprint("block-", i) }, func(int) bool { return b.Loop() })
				all := float64(rows) * float64(b.N)
				b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/all, "cpu-ns/row")
				b.ReportMetric(all/b.Elapsed().Seconds(), "rows/s")
				b.ReportMetric(wire, "wire-B/row")
				b.ReportMetric(onDisk, "disk-B/row")
			})
		}
	}
}

// cpuTime is what this process has used.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// counting returns an address that leads to another, and how many bytes were
// sent to it.
func counting(tb testing.TB, to string) (string, *atomic.Int64) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	sent := new(atomic.Int64)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			all.Go(func() {
				_, _ = io.Copy(out, &countedReader{in, sent})
				_ = out.Close()
			})
			all.Go(func() {
				_, _ = io.Copy(in, out)
				_ = in.Close()
			})
		}
	})
	tb.Cleanup(func() { _ = ln.Close(); all.Wait() })
	return ln.Addr().String(), sent
}

// countedReader adds up what is read.
type countedReader struct {
	io.Reader
	n *atomic.Int64
}

func (r *countedReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.n.Add(int64(n))
	return n, err
}
