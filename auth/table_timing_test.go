package auth

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	"streamrelay/auth/redistest"
)

func BenchmarkLookup(b *testing.B) {
	key := []byte(Generate())
	for _, pepper := range []string{"", "0123456789abcdef"} {
		table := NewTable([]byte(pepper))
		table.Put(&Record{Digest: DigestOf([]byte(pepper), key)})
		b.Run(fmt.Sprintf("hit/pepper=%v", pepper != ""), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, status := table.lookup(key, 0); status != Found {
					b.Fatal(status)
				}
			}
		})
	}
}

// BenchmarkLookupDigest is the table alone; order=random meets records that no
// cache holds once there are many.
func BenchmarkLookupDigest(b *testing.B) {
	for _, n := range []int{1, 1_000, 100_000, 1_000_000} {
		table, digests := NewTable(nil), make([]Digest, n)
		records := make([]*Record, n)
		for i := range digests {
			// Cheaper than digestOf, and as good: the finaliser of splitmix64.
			for j := range 4 {
				x := uint64(i*4+j) + 0x9e3779b97f4a7c15
				x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
				x = (x ^ x>>27) * 0x94d049bb133111eb
				binary.LittleEndian.PutUint64(digests[i][8*j:], x^x>>31)
			}
			records[i] = &Record{Digest: digests[i]}
		}
		table.Replace(records)
		b.Run("keys="+strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, status := table.LookupDigest(&digests[i], 0); status != Found {
					b.Fatal(status)
				}
				if i += 7919; i >= n {
					i %= n
				}
			}
		})
	}
}

// BenchmarkLookupFrom is what a request pays with keys in Redis: digest and hit.
func BenchmarkLookupFrom(b *testing.B) {
	o := redisConfig(redistest.Start(b).Addr())
	key, _ := makeKey(b, keeperAt(b, o), grant{})
	table, presented := openRelay(b, o).Table(), []byte(key)
	b.ReportAllocs()
	for b.Loop() {
		if _, status := table.LookupFrom(presented, clientAddr, 0); status != Found {
			b.Fatal(status)
		}
	}
}

// BenchmarkMiss is a key that no store has, over and over.
func BenchmarkMiss(b *testing.B) {
	o := redisConfig(redistest.Start(b).Addr())
	table := openRelay(b, o).Table()
	for name, key := range map[string]string{"wrong-checksum": Generate()[:keyLength-1] + "!", "unknown": "sk-somebody"} {
		presented := []byte(key)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, status := table.LookupFrom(presented, clientAddr, 0); status == Found {
					b.Fatal(status)
				}
			}
		})
	}
}

// BenchmarkLookupParallel is one key that all cores present.
func BenchmarkLookupParallel(b *testing.B) {
	key := []byte(Generate())
	table := NewStatic(&Record{Digest: DigestOf(nil, key)})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, status := table.LookupFrom(key, clientAddr, 0); status != Found {
				b.Fatal(status)
			}
		}
	})
}

func BenchmarkCheckForm(b *testing.B) {
	key := []byte(Generate())
	for b.Loop() {
		CheckForm(key)
	}
}

// BenchmarkMemoryPerKey reports what a table with one million typical keys
// holds, its records and their strings included.
func BenchmarkMemoryPerKey(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		before := heapInUse()
		table := NewTable(nil)
		for i := range n {
			var d Digest
			binary.LittleEndian.PutUint64(d[:], uint64(i)*0x9e3779b97f4a7c15)
			id := fmt.Sprintf("key_%012d", i)
			table.Put(&Record{Digest: d, ID: id, Name: id, Tenants: []string{"tenant-" + strconv.Itoa(i%1000)}, Created: time.Unix(1, 0)})
		}
		after := heapInUse()
		b.ReportMetric(float64(after-before)/n, "B/key")
		b.ReportMetric(float64(len(table.cur.Load().slot)*8)/n, "B-table/key")
		runtime.KeepAlive(table)
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkParseKeys(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		f := newKeysFile()
		for range n {
			if _, err := f.addKey(Generate(), grant{tenants: []string{"acme"}}, time.Now()); err != nil {
				b.Fatal(err)
			}
		}
		data, err := encodeNode(f.doc)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("keys="+strconv.Itoa(n), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := parseKeys("keys.yaml", data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
