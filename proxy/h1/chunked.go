package h1

import "errors"

// ErrChunk says that a chunked body is not as RFC 9112 §7.1 wants it.
var ErrChunk = errors.New("bad chunked coding")

const (
	maxChunkDigits = 15      // of a size in hex, so that it fits int64
	maxChunkExt    = 4 << 10 // bytes of all chunk extensions between two payload bytes
	maxTrailer     = 16 << 10
)

// Chunked decodes the chunked transfer coding piece by piece. It never waits
// while it holds payload: what a piece carries comes out of that piece's
// Decode. The zero value is at the start of a body.
type Chunked struct {
	state  chunkState
	left   int64 // payload bytes of the chunk still to come
	digits int
	extra  int // bytes of extension or trailer seen
	line   int // length of the trailer line so far
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkSpace
	chunkExt
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	trailerLine
	trailerLF
	chunkDone
)

// Done reports whether the last chunk and the trailers have been read. A read
// after that is the end of the body and not a wait.
func (d *Chunked) Done() bool { return d.state == chunkDone }

// Decode takes the next bytes and returns their payload, gathered within b,
// and how many bytes of b belong to the body: fewer than all only when the
// body is done and something follows it. Trailers are checked and dropped.
func (d *Chunked) Decode(b []byte) (payload []byte, used int, err error) {
	start, end := 0, 0 // of the payload gathered so far
	for i := 0; i < len(b); {
		switch d.state {
		case chunkData:
			n := min(d.left, int64(len(b)-i))
			if start == end {
				start, end = i, i+int(n) // the first run stays where it is
			} else {
				end += copy(b[end:], b[i:i+int(n)])
			}
			i += int(n)
			if d.left -= n; d.left == 0 {
				d.state = chunkDataCR
			}
			continue
		case chunkDone:
			return b[start:end], i, nil
		}
		if err := d.step(b[i]); err != nil {
			return b[start:end], i, err
		}
		i++
	}
	return b[start:end], len(b), nil
}

// step takes one byte of framing.
func (d *Chunked) step(c byte) error {
	switch d.state {
	case chunkSize:
		v := HexValue(c)
		switch {
		case v >= 0:
			if d.digits++; d.digits > maxChunkDigits {
				return ErrChunk
			}
			d.left = d.left<<4 | int64(v)
		case d.digits == 0:
			return ErrChunk
		case c == ';':
			d.state = chunkExt
		case c == ' ' || c == '\t':
			d.state = chunkSpace
		case c == '\r':
			d.state = chunkSizeLF
		default:
			return ErrChunk
		}
	case chunkSpace: // bad white space, which senders of old put before the end
		if d.extra++; d.extra > maxChunkExt {
			return ErrChunk
		}
		switch c {
		case ' ', '\t':
		case ';':
			d.state = chunkExt
		case '\r':
			d.state = chunkSizeLF
		default:
			return ErrChunk
		}
	case chunkExt:
		if c == '\r' {
			d.state = chunkSizeLF
		} else if d.extra++; d.extra > maxChunkExt || c < ' ' && c != '\t' || c == 0x7f {
			return ErrChunk
		}
	case chunkSizeLF:
		if c != '\n' {
			return ErrChunk
		}
		d.digits = 0
		if d.left == 0 {
			d.state, d.extra, d.line = trailerLine, 0, 0
		} else {
			d.state = chunkData
		}
	case chunkDataCR:
		if c != '\r' {
			return ErrChunk
		}
		d.state = chunkDataLF
	case chunkDataLF:
		if c != '\n' {
			return ErrChunk
		}
		d.state, d.extra = chunkSize, 0
	case trailerLine:
		if c == '\r' {
			d.state = trailerLF
			return nil
		}
		d.line++
		if d.extra++; d.extra > maxTrailer || c < ' ' && c != '\t' || c == 0x7f {
			return ErrChunk
		}
	case trailerLF:
		if c != '\n' {
			return ErrChunk
		}
		if d.line == 0 {
			d.state = chunkDone
		} else {
			d.state, d.line = trailerLine, 0
		}
	}
	return nil
}

// HexValue returns the value of a hexadecimal digit, -1 for anything else.
func HexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// ChunkRoom is how many bytes Frame may need in front of a payload of up to
// 2³²−1 bytes; behind it it needs 2.
const ChunkRoom = 10

// Frame makes buf[from:to] one chunk in place and returns the bounds of the
// framed bytes; buf has ChunkRoom bytes before from and two from to on. The
// payload is not empty: an empty chunk would end the body.
func Frame(buf []byte, from, to int) (start, end int) {
	buf[to], buf[to+1] = '\r', '\n'
	return FrameHead(buf[:from], to-from), to + 2
}

// FrameHead writes the line that announces a chunk of n bytes to the end of
// buf, which has room for ChunkRoom bytes, and returns where it starts.
func FrameHead(buf []byte, n int) (start int) {
	const hex = "0123456789abcdef"
	start = len(buf) - 2
	buf[start], buf[start+1] = '\r', '\n'
	for ; n > 0; n >>= 4 {
		start--
		buf[start] = hex[n&15]
	}
	return start
}
