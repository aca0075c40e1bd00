package proxy

import "testing"

// BenchmarkStream relays a stream of 64 events, the usage event withheld, over
// real sockets, with client and upstream in the same process: allocations are
// those of all three, and the two others make none.
func BenchmarkStream(b *testing.B) {
	for _, carrier := range carriers {
		for _, p := range []struct {
			name string
			pace pace
		}{{"lockstep", lockstep}, {"burst", burst}} {
			b.Run(carrier+"/"+p.name, func(b *testing.B) {
				measure(b, p.pace, carrier, streamRequest)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/streamEvents, "ns/event")
			})
		}
	}
}

// BenchmarkJSON relays one small document.
func BenchmarkJSON(b *testing.B) { measure(b, oneDocument, "reader", jsonRequest) }

func measure(b *testing.B, p pace, carrier string, request []byte) {
	v := newProvider(b, p)
	l := relayTo(b, v, carrier)
	u := newUser(b, l.Addr().String())
	for range 3 {
		u.ask(b, request, v)
	}
	writes := l.writes.Load()
	b.ReportAllocs()
	for b.Loop() {
		u.ask(b, request, v)
	}
	b.ReportMetric(float64(l.writes.Load()-writes)/float64(b.N), "writes/op")
}
