package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Damage is a run of bytes of a file that holds no whole block.
type Damage struct {
	Offset, Bytes int64
	Rows          int  // of the blocks whose header could still be read
	Torn          bool // it reaches to the file's end: a write that was cut off
}

// at is one block found in a file.
type at struct {
	Header
	off   int64 // of the header
	frame int64 // of the zstd frame
}

func (a *at) end() int64 { return a.frame + int64(a.size) }

// scan finds the blocks of a file of size bytes. With verify it reads every
// frame and checks it; without, only the headers. Where something is damaged
// it looks for the next header that is whole, so that one flipped bit costs one
// block. The error is one of reading, not of what was read.
//
// Such a header may stand in what a client wrote, with a frame of the client's
// behind it: nothing in them is secret but the id of the process, with which the
// tokens of all its blocks begin. So one that is looked for counts only with the
// id in the file's name or in the blocks before the damage, where there are any.
func scan(f io.ReaderAt, size int64, name string, verify bool) (found []at, damaged []Damage, err error) {
	boots := bootsOf(name)
	scratch := make([]byte, maxHeader)
	var frame []byte
	for off := int64(0); off < size; {
		h, n, err := readHeader(f, off, size, scratch)
		next := at{h, off, off + int64(n)}
		switch {
		case err == nil && next.end() <= size:
			if verify {
				frame, err = readFrame(f, next.frame, &next.Header, frame)
			}
			if err == nil {
				if boot, _, ok := strings.Cut(h.Token, "/"); ok && off == 0 {
					boots = append(boots, boot)
				}
				found = append(found, next)
				off = next.end()
				continue
			}
			if err != errChecksum {
				return found, damaged, err
			}
		case err == nil: // the frame is cut short, or the length is another's
		case err != errNoFrame && err != errCut && err != errChecksum:
			return found, damaged, err
		}
		resume, err := findHeader(f, off+1, size, boots, scratch)
		if err != nil {
			return found, damaged, err
		}
		damaged = append(damaged, Damage{Offset: off, Bytes: resume - off, Rows: h.Rows, Torn: resume == size})
		off = resume
	}
	return found, damaged, nil
}

// bootsOf returns the id of the process that wrote the file of that name, none
// where somebody else named it: names end in the id, a dash and a number, which is
// the file's or, of what was put aside, the block's.
func bootsOf(name string) []string {
	base := baseOf(name)
	base = base[strings.LastIndexByte(base, '.')+1:]
	i := strings.LastIndexByte(base, '-')
	if i <= 0 || i == len(base)-1 || strings.Trim(base[i+1:], "0123456789+") != "" {
		return nil
	}
	return []string{base[:i]}
}

// findHeader returns where the next whole header of a process in boots, or of any
// where there is none, begins at off or later, or size.
func findHeader(f io.ReaderAt, off, size int64, boots []string, scratch []byte) (int64, error) {
	pattern := binary.LittleEndian.AppendUint32(nil, skippable)
	chunk := make([]byte, 64<<10)
	for off < size {
		n, err := f.ReadAt(chunk[:min(int64(len(chunk)), size-off)], off)
		if n == 0 {
			if err == io.EOF {
				err = nil
			}
			return size, err
		}
		i := bytes.Index(chunk[:n], pattern)
		if i < 0 {
			if off+int64(n) >= size {
				return size, nil
			}
			off += int64(max(n-len(pattern)+1, 1)) // the pattern may lie across
			continue
		}
		off += int64(i)
		if h, _, err := readHeader(f, off, size, scratch); err == nil {
			if boot, _, _ := strings.Cut(h.Token, "/"); len(boots) == 0 || slices.Contains(boots, boot) {
				return off, nil
			}
		}
		off++
	}
	return size, nil
}

// Blocks reads the blocks of the file at path one after the other, also while
// it is being written, and calls yield with each header and zstd frame, which
// is yield's until it returns. Blocks for which want is false are passed over
// unread; nil wants all. What is damaged is left out and returned.
func Blocks(path string, want func(*Header) bool, yield func(*Header, []byte) error) ([]Damage, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	found, damaged, err := scan(f, info.Size(), path, false)
	if err != nil {
		return damaged, fmt.Errorf("read %s: %w", path, err)
	}
	var frame []byte
	for i := range found {
		b := &found[i]
		if want != nil && !want(&b.Header) {
			continue
		}
		frame, err = readFrame(f, b.frame, &b.Header, frame)
		if err == errChecksum || err == errCut {
			damaged = append(damaged, Damage{Offset: b.off, Bytes: b.end() - b.off, Rows: b.Rows})
			continue
		}
		if err != nil {
			return damaged, fmt.Errorf("read %s: %w", path, err)
		}
		if err := yield(&b.Header, frame); err != nil {
			return damaged, err
		}
	}
	return damaged, nil
}
