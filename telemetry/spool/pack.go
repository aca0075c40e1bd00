package spool

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// Part is a run of values of one width in what Pack packs.
type Part struct {
	Start, End int // in bytes
	Width      int // 8 or 16: bytes after which values are most likely alike
}

// Pack appends data to dst as a zstd frame (RFC 8878), at about the price of a
// copy. Columns of numbers hold bytes that are the same in all values, most
// often zeros at their upper ends: where parts say that such columns are, those
// bytes are left out, by sequences of which all are the same and which thus
// take no bits. The rest is stored as it is. A compressor finds more, for ten
// times the time. The frame has no checksum of its own; the header has one.
//
// Parts lie one after the other within data. They are a hint: what is no column
// of numbers is stored as it is.
func Pack(dst, data []byte, parts []Part) []byte {
	const single, size4 = 1 << 5, 2 << 6
	dst = binary.LittleEndian.AppendUint32(dst, 0xFD2FB528)
	dst = append(dst, size4|single)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(data)))
	p := packer{dst: dst, data: data}
	for _, part := range parts {
		if part.Start >= p.done && part.End-part.Start >= minPart {
			p.part(part)
		}
	}
	p.store(len(data), true)
	return p.dst
}

const (
	maxZstdBlock = 128 << 10
	minPart      = 256
	minMatch     = 3
)

// The types of a block.
const (
	blockRaw        = 0
	blockRLE        = 1
	blockCompressed = 2
)

// packer makes one frame.
type packer struct {
	dst, data []byte
	done      int // of data
	offset    int // of the last sequence; 0: there was none
}

func (p *packer) block(kind, size int, last bool) {
	head := uint32(size)<<3 | uint32(kind)<<1
	if last {
		head |= 1
	}
	p.dst = append(p.dst, byte(head), byte(head>>8), byte(head>>16))
}

// store stores data up to end as it is.
func (p *packer) store(end int, last bool) {
	for p.done < end || last {
		n := min(end-p.done, maxZstdBlock)
		whole := p.done+n == end
		p.block(blockRaw, n, last && whole)
		p.dst = append(p.dst, p.data[p.done:p.done+n]...)
		p.done += n
		if whole {
			return
		}
	}
}

// part packs what it can of one part. What it leaves is stored with what
// follows.
func (p *packer) part(part Part) {
	part.End -= (part.End - part.Start) % part.Width
	data := p.data[part.Start:part.End]
	lo, hi := varying(data, part.Width)
	if lo|hi == 0 {
		p.constant(part, data)
		return
	}
	at, n := longest(lo, hi, part.Width) // what stays the same
	if n < minMatch {
		return
	}
	p.repeat(part, (at+n)%part.Width, part.Width-n)
}

// varying returns which bits differ between values: those of each value's first
// eight bytes, and those of its others where it has them.
func varying(data []byte, width int) (lo, hi uint64) {
	le := binary.LittleEndian
	if width == 8 {
		all, any := ^uint64(0), uint64(0)
		for ; len(data) >= 8; data = data[8:] {
			v := le.Uint64(data)
			all, any = all&v, any|v
		}
		return all ^ any, 0
	}
	all, any := [2]uint64{^uint64(0), ^uint64(0)}, [2]uint64{}
	for ; len(data) >= 16; data = data[16:] {
		v, w := le.Uint64(data), le.Uint64(data[8:])
		all[0], any[0] = all[0]&v, any[0]|v
		all[1], any[1] = all[1]&w, any[1]|w
	}
	return all[0] ^ any[0], all[1] ^ any[1]
}

// longest returns the longest run of bytes that do not vary; it may go on from
// the end of one value into the next.
func longest(lo, hi uint64, width int) (at, n int) {
	var varies [16]bool
	for i := range width {
		varies[i] = byte(lo>>(8*i)) != 0
		if i >= 8 {
			varies[i] = byte(hi>>(8*(i-8))) != 0
		}
	}
	for start := range width {
		length := 0
		for length < width && !varies[(start+length)%width] {
			length++
		}
		if length > n {
			at, n = start, length
		}
	}
	return at, n
}

// constant packs values that are all the same.
func (p *packer) constant(part Part, data []byte) {
	n := len(data)
	if bytes.Count(data[:part.Width], data[:1]) == part.Width {
		p.store(part.Start, false)
		for n > 0 {
			size := min(n, maxZstdBlock)
			p.block(blockRLE, size, false)
			p.dst = append(p.dst, data[0])
			p.done += size
			n -= size
		}
		return
	}
	p.store(part.Start+part.Width, false)
	for n -= part.Width; n > 0; {
		size := min(n, maxZstdBlock)
		if size < 131+part.Width { // shorter matches have other codes
			return
		}
		p.sequences(part.Width, 1, part.Width, size-part.Width)
		n -= size
	}
}

// repeat packs values of which width bytes are taken from the value before, but
// for literals bytes from byte at on.
func (p *packer) repeat(part Part, at, literals int) {
	width := part.Width
	p.store(part.Start+width+at, false)
	for left := (part.End - p.done) / width; left > 0; {
		n := min(left, maxZstdBlock/width)
		if p.offset != width {
			n = 1
		}
		p.sequences(literals, n, width, width-literals)
		left -= n
	}
}

// sequences makes a block of n times: literals, and a match of length bytes at
// offset. Being alike, the sequences are told by three symbols (RLE mode) and
// no bits, if they need not name the offset.
func (p *packer) sequences(literals, n, offset, length int) {
	start := len(p.dst)
	p.block(blockCompressed, 0, false)
	size := uint32(n * literals)
	p.dst = append(p.dst, byte(size<<4|3<<2), byte(size>>4), byte(size>>12)) // raw literals, 20 bits of size
	p.literals(literals, n, literals+length)
	switch {
	case n < 128:
		p.dst = append(p.dst, byte(n))
	default:
		p.dst = append(p.dst, byte(n>>8)+128, byte(n))
	}
	var extra, nExtra uint32
	ofCode := byte(0) // the last offset again
	if offset != p.offset {
		value := uint32(offset + 3)
		ofCode = byte(bits.Len32(value) - 1)
		extra, nExtra = value-1<<ofCode, uint32(ofCode)
	}
	mlCode := byte(length - minMatch)
	if length >= 131 {
		h := bits.Len32(uint32(length-minMatch)) - 1
		mlCode = byte(36 + h)
		extra, nExtra = extra<<h|uint32(length-minMatch)&(1<<h-1), nExtra+uint32(h)
	}
	llCode := byte(literals)
	if literals == 16 {
		llCode, extra, nExtra = 16, extra<<1, nExtra+1
	}
	p.dst = append(p.dst, 1<<6|1<<4|1<<2, llCode, ofCode, mlCode)
	for stream := extra | 1<<nExtra; stream > 0; stream >>= 8 {
		p.dst = append(p.dst, byte(stream))
	}
	p.offset = offset
	head := uint32(len(p.dst)-start-3)<<3 | blockCompressed<<1
	p.dst[start], p.dst[start+1], p.dst[start+2] = byte(head), byte(head>>8), byte(head>>16)
}

// literals appends the first size bytes of each of n periods of data.
func (p *packer) literals(size, n, period int) {
	at := len(p.dst)
	need := n*size + 16 // copies are 16 bytes long
	if cap(p.dst)-at < need {
		p.dst = append(p.dst, make([]byte, need)...)
	}
	out, in := p.dst[at:at+need], p.data[p.done:]
	for range n {
		if len(in) < 16 {
			copy(out[:size], in)
		} else {
			*(*[16]byte)(out) = [16]byte(in)
		}
		out, in = out[size:], in[period:]
	}
	p.dst = p.dst[:at+n*size]
	p.done += n * period
}
