package requestlog

import (
	"fmt"
	"math"
	"math/rand/v2"

	"sync/atomic"
	"testing"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/klauspost/compress/zstd"

	"streamrelay/telemetry"
	"streamrelay/telemetry/spool"
)

// unsealed returns rows of n shards that nobody seals.
func unsealed(n int) *rows {
	o := options()
	o.BlockRows = defaultBlockRows
	return newRowsOf(&o, n, new(atomic.Uint64))
}

// reuse makes full records free again, as the sealer does.
func (s *rows) reuse() {
	select {
	case b := <-s.full:
		b.reset()
		s.free.put(b)
	default:
	}
}

func requests(n int) []*telemetry.Request {
	list := make([]*telemetry.Request, n)
	for i := range list {
		list[i] = request(i)
	}
	return list
}

func BenchmarkAppend(b *testing.B) {
	for _, shards := range []int{1, 2} {
		b.Run(map[int]string{1: "shards=1", 2: "shards=2"}[shards], func(b *testing.B) {
			r := unsealed(shards)
			list := requests(1024)
			b.ReportAllocs()
			if shards == 1 {
				for i := 0; b.Loop(); i++ {
					r.add(list[i%len(list)])
					r.reuse()
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i++ {
						r.add(list[i%len(list)])
						r.reuse()
					}
				})
			}
			if n := r.dropped.Load(); n > 0 {
				b.Errorf("%d rows were dropped", n)
			}
		})
	}
}

// BenchmarkColumns is what the sealer spends on a row to make columns of it.
func BenchmarkColumns(b *testing.B) {
	s := unsealed(1)
	list := requests(1024)
	records := newRecords(recordRows)
	records.names = s.names.Load()
	for i := 0; records.add(list[i%len(list)]); i++ {
	}
	batch := NewBatch()
	for b.Loop() {
		batch.Reset()
		batch.fill(&s.filler, records)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch.Rows()), "ns/row")
}

// BenchmarkSeal is what the sealer spends on a row after that: the Native
// format, and the frame that goes into the spool.
func BenchmarkSeal(b *testing.B) {
	for _, rows := range []int{requestLog.packed, defaultBlockRows} {
		batch := batchOf(everyday(rows))
		enc, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		for _, kind := range []string{"native", "pack", "zstd"} {
			b.Run(fmt.Sprintf("rows=%d/%s", rows, kind), func(b *testing.B) {
				var native proto.Buffer
				var frame []byte
				var parts []spool.Part
				for b.Loop() {
					native.Reset()
					var err error
					if parts, err = encodeParts(&native, batch, parts[:0]); err != nil {
						b.Fatal(err)
					}
					switch kind {
					case "native":
						frame = native.Buf
					case "pack":
						frame = spool.Pack(frame[:0], native.Buf, parts)
					case "zstd":
						frame = enc.EncodeAll(native.Buf, frame[:0])
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch.Rows()), "ns/row")
				b.ReportMetric(float64(len(frame))/float64(batch.Rows()), "B/row")
			})
		}
	}
}

// everyday returns n exchanges of one second that differ as those of real
// traffic do, which is what makes them long when they are compressed: in their
// times and sizes, and by the provider's ids.
func everyday(n int) []*telemetry.Request {
	r := rand.New(rand.NewPCG(1, 2))
	around := func(median, spread float64) int64 { return int64(median * math.Exp(spread*r.NormFloat64())) }
	list := make([]*telemetry.Request, n)
	for i := range list {
		q := request(0)
		q.Start += int64(i) * 1e9 / int64(n)
		q.ID = telemetry.NewID(q.Start)
		q.RequestID = telemetry.AppendID(nil, q.ID)
		q.UpstreamHead = around(200e6, 0.5)
		q.FirstEvent = q.UpstreamHead + around(2e6, 0.5)
		q.TTFT = q.FirstEvent + around(3e6, 0.5)
		q.Duration = q.TTFT + around(3e9, 0.8)
		q.Overhead = around(80e3, 0.5)
		q.Gaps = new(telemetry.Gaps)
		for range 5 {
			q.Gaps.Add(around(20e6, 0.5))
		}
		q.BytesIn, q.BytesOut = around(4e3, 1), around(80e3, 1)
		q.Events = around(200, 0.8)
		q.ContentEvents = q.Events
		q.Usage.Input, q.Usage.Output = around(1500, 1), q.Events
		q.Tenant = fmt.Append(nil, "tenant-", r.IntN(40))
		q.KeyID = fmt.Sprint("key-", r.IntN(100))
		q.Model = fmt.Append(nil, "m", r.IntN(6))
		q.UserAgent = fmt.Append(nil, "OpenAI/Python 1.2.", r.IntN(6))
		q.UpstreamRequestID = []byte("req_" + fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64()))
		list[i] = q
	}
	return list
}

// batchOf returns a batch of the rows of exchanges.
func batchOf(list []*telemetry.Request) *Batch {
	s := unsealed(1)
	b := NewBatch()
	for len(list) > 0 {
		records := newRecords(recordRows)
		records.names = s.names.Load()
		n := 0
		for room := true; room && n < len(list); n++ {
			room = records.add(list[n])
		}
		list = list[n:]
		b.fill(&s.filler, records)
	}
	return b
}

// rowOf returns the row of an exchange, as s makes it.
func (s *rows) rowOf(q *telemetry.Request) (row Row) {
	records := newRecords(1)
	records.names = s.names.Load()
	records.add(q)
	b := NewBatch()
	b.fill(&s.filler, records)
	block, err := copyOf(b)
	if err != nil {
		panic(err)
	}
	block.Row(0, &row)
	return row
}
