package telemetry

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// NewID returns a UUID of version 7 (RFC 9562 §5.7) for the time now, in Unix
// nanoseconds: 48 bits of milliseconds, 12 bits of the millisecond's fraction
// (§6.2, method 3), 62 random bits. Ids of one relay therefore sort by time to
// a quarter of a microsecond. It takes no lock and allocates nothing: the
// random bits are the runtime's per-thread ChaCha8, seeded by the system.
func NewID(now int64) [16]byte {
	ms, frac := uint64(now)/1e6, uint64(now)%1e6
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], ms<<16|0x7000|frac*4096/1e6)
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()&(1<<62-1)|1<<63)
	return id
}

// AppendID appends the 36 characters of id, in lower case, to dst.
func AppendID(dst []byte, id [16]byte) []byte {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:36], id[10:16])
	return append(dst, b[:]...)
}
