package requestlog

import (
	"testing"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/klauspost/compress/zstd"

	"streamrelay/telemetry"
	"streamrelay/telemetry/spool"
)

// unsealed returns a recorder of n shards without a sealer.
func unsealed(n int) *Recorder {
	o := options()
	r := &Recorder{
		o: o, names: newNames(&o), shards: make([]shard, n),
		full: make(chan *Batch, 2*n),
	}
	for range 2 * n {
		r.free.put(NewBatch(defaultBlockRows))
	}
	for i := range r.shards {
		r.shards[i].batch = r.free.get()
	}
	return r
}

// reuse makes full batches free again, as the sealer does.
func (r *Recorder) reuse() {
	select {
	case b := <-r.full:
		r.recycle(b)
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
					r.Append(list[i%len(list)])
					r.reuse()
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i++ {
						r.Append(list[i%len(list)])
						r.reuse()
					}
				})
			}
			if n := r.Stats().Dropped; n > 0 {
				b.Errorf("%d rows were dropped", n)
			}
		})
	}
}

// BenchmarkSeal is what the sealer spends on a row: the Native format, and the
// frame that goes into the spool.
func BenchmarkSeal(b *testing.B) {
	batch := fullBatch(defaultBlockRows)
	enc, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	for _, kind := range []string{"native", "raw", "zstd"} {
		b.Run(kind, func(b *testing.B) {
			var native proto.Buffer
			var frame []byte
			for b.Loop() {
				native.Reset()
				if err := batch.Encode(&native); err != nil {
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
func fullBatch(n int) *Batch {
	o := options()
	names := newNames(&o)
	b := NewBatch(n)
	var row scratch
	for i := range n {
		q := request(i)
		names.fill(&row, q)
		b.Append(&row.Row)
	}
	return b
}
