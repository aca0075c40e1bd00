package spool

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func unpack(tb testing.TB, frame []byte) []byte {
	tb.Helper()
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	defer dec.Close()
	data, err := dec.DecodeAll(frame, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// TestPackedColumns packs a column between two texts, and reads it back.
func TestPackedColumns(t *testing.T) {
	numbers := func(n int, f func(i int) uint64) (b []byte) {
		for i := range n {
			b = binary.LittleEndian.AppendUint64(b, f(i))
		}
		return b
	}
	r := rand.New(rand.NewPCG(1, 2))
	const n = 40_000 // more than two blocks of zstd
	for _, c := range []struct {
		name  string
		width int
		data  []byte
		most  float64 // bytes of eight
	}{
		{"zeros", 8, make([]byte, 8*n), 0.01},
		{"zeros, and one at the end", 8, append(make([]byte, 8*n), 1), 9},
		{"one value", 8, numbers(n, func(int) uint64 { return 0x0102030405060708 }), 0.01},
		{"one value of 16 bytes", 16, numbers(n, func(i int) uint64 { return uint64(i%2) * 0xF00DFFFF0000 }), 0.01},
		{"small numbers", 8, numbers(n, func(int) uint64 { return uint64(r.IntN(200)) }), 1.01},
		{"three bytes", 8, numbers(n, func(int) uint64 { return 7<<40 | uint64(r.IntN(1<<24)) }), 3.01},
		{"in the middle", 8, numbers(n, func(int) uint64 { return uint64(r.IntN(1<<16)) << 24 }), 2.01},
		{"five bytes", 8, numbers(n, func(int) uint64 { return uint64(r.Int64N(1 << 40)) }), 5.01},
		{"six bytes", 8, numbers(n, func(int) uint64 { return uint64(r.Int64N(1 << 48)) }), 8.01},
		{"random", 8, numbers(n, func(int) uint64 { return r.Uint64() }), 8.01},
		{"addresses", 16, numbers(n, func(i int) uint64 { return uint64(i%2) * (0xFFFF0000 | uint64(r.Uint32())<<32) }), 2.01},
		{"ids", 16, numbers(n, func(i int) uint64 {
			if i%2 == 0 {
				return 0x0192_0000_0000_7000 | uint64(r.IntN(4096)) | uint64(i)<<16
			}
			return r.Uint64()
		}), 7.01},
		{"too few", 8, make([]byte, minPart-8), 9},
		{"few", 8, numbers(minPart/8, func(int) uint64 { return 0x0102030405060708 }), 4},
		{"few of 16 bytes", 16, numbers(minPart/8, func(i int) uint64 { return uint64(i % 2) }), 4},
		{"no whole number of values", 16, append(numbers(n, func(i int) uint64 { return uint64(i % 2) }), 1, 2, 3), 0.01},
		{"bytes", 8, bytes.Repeat([]byte{1}, 8*n+5), 0.01},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := []byte("what stands before"), []byte("what stands behind, and is longer than a few bytes")
			data := append(append(bytes.Clone(before), c.data...), after...)
			parts := []Part{{len(before), len(before) + len(c.data), c.width}}
			frame := Pack([]byte("kept"), data, parts)
			if string(frame[:4]) != "kept" {
				t.Fatal("what dst held is gone")
			}
			if !bytes.Equal(unpack(t, frame[4:]), data) {
				t.Fatal("other bytes came back")
			}
			if each := 8 * float64(len(frame)-4-len(before)-len(after)-64) / float64(len(c.data)); each > c.most {
				t.Errorf("%.2f bytes for eight, want at most %.2f", each, c.most)
			}
		})
	}
}

func TestPackStoresWhatHasNoParts(t *testing.T) {
	for _, n := range []int{0, 1, 1000, maxZstdBlock, maxZstdBlock + 1, 3*maxZstdBlock + 5} {
		data := make([]byte, n)
		rand.NewChaCha8([32]byte{1}).Read(data)
		if !bytes.Equal(unpack(t, Pack(nil, data, nil)), data) {
			t.Errorf("%d bytes: other bytes came back", n)
		}
	}
}

// FuzzPack packs data with parts anywhere in it.
func FuzzPack(f *testing.F) {
	f.Add(make([]byte, 4000), uint16(3), uint16(800), uint16(1600), true)
	f.Add(bytes.Repeat([]byte("0123456\x00"), 700), uint16(1), uint16(2000), uint16(300), false)
	f.Add(bytes.Repeat([]byte("01234567"), 4000), uint16(8), uint16(31000), uint16(0), true)
	f.Fuzz(func(t *testing.T, data []byte, start, first, second uint16, wide bool) {
		at := min(int(start), len(data))
		var parts []Part
		for _, n := range []uint16{first, second, second} {
			end := min(at+int(n), len(data))
			width := 8
			if wide {
				width = 16
			}
			parts = append(parts, Part{at, end, width})
			at, wide = end, !wide
		}
		if got := unpack(t, Pack(nil, data, parts)); !bytes.Equal(got, data) {
			t.Fatalf("%d bytes with %v came back as %d others", len(data), parts, len(got))
		}
	})
}
