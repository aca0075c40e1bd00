package requestlog

import (
	"context"
	"fmt"
	"testing"

	"streamrelay/telemetry/clickhouse"
)

// BenchmarkInsert is the engine's time and ours for one block; the test server
// makes it a lower bound of what ClickHouse takes.
func BenchmarkInsert(b *testing.B) {
	for _, rows := range []int{10_000, 50_000} {
		for _, compression := range []string{"none", "lz4", "zstd"} {
			b.Run(fmt.Sprintf("rows=%d/%s", rows, compression), func(b *testing.B) {
				_, o := store(b)
				o.ClickHouse.Compression = compression
				conn, err := clickhouse.Dial(context.Background(), o.ClickHouse.Address, clickhouse.FromConfig(&o.ClickHouse))
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				t, err := conn.Describe(context.Background(), "request_log")
				if err != nil {
					b.Fatal(err)
				}
				batch := fullBatch(rows)
				for i := 0; b.Loop(); i++ {
					if err := conn.Insert(context.Background(), t, batch.Input(), fmt.Sprint("block-", i)); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}
