package requestlog

import (
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
	batch := fullBatch(defaultBlockRows)
	enc, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	for _, kind := range []string{"native", "raw", "zstd"} {
		b.Run(kind, func(b *testing.B) {
			var native proto.Buffer
			var frame []byte
			for b.Loop() {
				native.Reset()
				if err := encode(&native, batch); err != nil {
					b.Fatal(err)
				}
				switch kind {
				case "native":
					frame = native.Buf
				case "raw":
					frame = spool.RawFrame(frame[:0], native.Buf)
				case "zstd":
					frame = enc.EncodeAll(native.Buf, frame[:0])
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch.Rows()), "ns/row")
			b.ReportMetric(float64(len(frame))/float64(batch.Rows()), "B/row")
		})
	}
}

// fullBatch returns a batch of n rows.
func fullBatch(n int) *Batch { return batchOf(requests(n)) }

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
