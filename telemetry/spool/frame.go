package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// A file is a row of pairs: a skippable frame of zstd (RFC 8878 §3.1.2) that
// holds the Header, and a zstd frame that holds one block. Readers of zstd pass
// over the first and see the blocks one after the other.
const (
	skippable = 0x184D2A5B
	magic     = "RLG1"
	// fixedHeader is what every header has: the zstd magic and length, our
	// magic, rows, length and checksum of the block's frame, sequence, time,
	// and the two lengths; the texts and the header's own checksum follow.
	fixedHeader = 8 + 4 + 4 + 4 + 4 + 8 + 8 + 2 + 2
	maxHeader   = fixedHeader + 2*maxHeaderText + 4

	maxHeaderText = 512
	// MaxFrame bounds the zstd frame of one block, in bytes.
	MaxFrame = 256 << 20
)

// Header describes one block.
type Header struct {
	Rows   int
	Seq    uint64 // counts the blocks of one process's folder, from 1
	Sealed int64  // Unix milliseconds
	Token  string // of deduplication; made once, when the block was sealed
	Target string // where the block may have been sent and nowhere else, "": anywhere

	size int    // of the zstd frame
	crc  uint32 // of the zstd frame
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	errNoFrame    = errors.New("no frame begins here")
	errCut        = errors.New("cut short")
	errChecksum   = errors.New("checksum does not match")
	errHeaderText = errors.New("token or target too long")
)

// appendHeader appends h for the zstd frame frame, whose length and checksum it
// puts into h.
func appendHeader(dst []byte, h *Header, frame []byte) ([]byte, error) {
	if len(h.Token) > maxHeaderText || len(h.Target) > maxHeaderText {
		return dst, errHeaderText
	}
	h.size, h.crc = len(frame), crc32.Checksum(frame, castagnoli)
	start := len(dst)
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, skippable)
	dst = le.AppendUint32(dst, uint32(fixedHeader+len(h.Token)+len(h.Target)+4-8))
	dst = append(dst, magic...)
	dst = le.AppendUint32(dst, uint32(h.Rows))
	dst = le.AppendUint32(dst, uint32(h.size))
	dst = le.AppendUint32(dst, h.crc)
	dst = le.AppendUint64(dst, h.Seq)
	dst = le.AppendUint64(dst, uint64(h.Sealed))
	dst = le.AppendUint16(dst, uint16(len(h.Token)))
	dst = append(dst, h.Token...)
	dst = le.AppendUint16(dst, uint16(len(h.Target)))
	dst = append(dst, h.Target...)
	return le.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli)), nil
}

// parseHeader reads a header at the start of b and returns its length. The
// error is errNoFrame, errCut where b ends first, or errChecksum.
func parseHeader(b []byte) (h Header, n int, err error) {
	le := binary.LittleEndian
	if len(b) >= 4 && le.Uint32(b) != skippable || len(b) >= 12 && string(b[8:12]) != magic {
		return h, 0, errNoFrame
	}
	if len(b) < fixedHeader {
		return h, 0, errCut
	}
	n = 8 + int(le.Uint32(b[4:]))
	if n < fixedHeader+4 || n > maxHeader {
		return h, 0, errNoFrame
	}
	if len(b) < n {
		return h, 0, errCut
	}
	b = b[:n]
	if crc32.Checksum(b[:n-4], castagnoli) != le.Uint32(b[n-4:]) {
		return h, 0, errChecksum
	}
	h.Rows, h.size, h.crc = int(le.Uint32(b[12:])), int(le.Uint32(b[16:])), le.Uint32(b[20:])
	h.Seq, h.Sealed = le.Uint64(b[24:]), int64(le.Uint64(b[32:]))
	rest := b[40 : n-4]
	for _, text := range [...]*string{&h.Token, &h.Target} {
		if len(rest) < 2 || len(rest)-2 < int(le.Uint16(rest)) {
			return h, 0, errNoFrame
		}
		end := 2 + int(le.Uint16(rest))
		*text = string(rest[2:end])
		rest = rest[end:]
	}
	if len(rest) != 0 || h.size > MaxFrame {
		return h, 0, errNoFrame
	}
	return h, n, nil
}

// readHeader reads the header at off of a file of size bytes.
func readHeader(f io.ReaderAt, off, size int64, scratch []byte) (h Header, n int, err error) {
	b := scratch[:min(int64(maxHeader), size-off)]
	if _, err := f.ReadAt(b, off); err != nil && err != io.EOF {
		return h, 0, err
	}
	return parseHeader(b)
}

// readFrame reads the zstd frame that h describes, which begins at off.
func readFrame(f io.ReaderAt, off int64, h *Header, dst []byte) ([]byte, error) {
	if cap(dst) < h.size {
		dst = make([]byte, h.size)
	}
	dst = dst[:h.size]
	if _, err := f.ReadAt(dst, off); err != nil {
		if err == io.EOF {
			err = errCut
		}
		return dst, err
	}
	if crc32.Checksum(dst, castagnoli) != h.crc {
		return dst, errChecksum
	}
	return dst, nil
}
