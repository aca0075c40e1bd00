package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
)

// An acknowledgement is 12 bytes: the block's sequence number, and the checksum
// of those 8 bytes.
const ackBytes = 12

func (f *file) ackPath() string { return filepath.Join(filepath.Dir(f.path), f.base+ackEnding) }

func (f *file) closeAck() {
	if f.ack != nil {
		_ = f.ack.Close()
		f.ack = nil
	}
}

// Take returns the oldest block that waits and suits, and makes it the caller's
// until Ack, Return or Discard; nil where there is none.
func (s *Folder) Take(suits func(*Block) bool) *Block {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		if f.store {
			continue
		}
		f.first()
		for _, b := range f.blocks[f.head:] {
			if b.state == stateWaiting && suits(b) {
				b.state = stateTaken
				return b
			}
		}
	}
	return nil
}

// Return gives up a block that was taken, or written and not taken: Take will
// find it again. sent says that it may have been sent meanwhile.
func (s *Folder) Return(b *Block, sent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.Doubtful = b.Doubtful || sent
	if b.state != stateTaken {
		return
	}
	if b.file.gone {
		b.state = stateDone
		s.waiting.Add(-int64(b.Rows))
		s.drop(b.Rows, DropFull, "a block that could not be delivered was dropped with its file")
		return
	}
	b.state = stateWaiting
}

// Ack says that the block is stored elsewhere. The error says that this could
// not be written down, so that a restart would deliver the block again.
func (s *Folder) Ack(b *Block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doneLocked(b)
}

// Discard gives a block up: its bytes are damaged.
func (s *Folder) Discard(b *Block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(b.Rows, DropDamaged, fmt.Sprintf("a block of %d rows in %s is damaged and was left out", b.Rows, b.file.path))
	_ = s.doneLocked(b)
}

func (s *Folder) doneLocked(b *Block) error {
	f := b.file
	if b.state == stateDone {
		return nil
	}
	b.state = stateDone
	s.waiting.Add(-int64(b.Rows))
	if f.gone {
		return nil
	}
	f.unacked--
	defer s.publish()
	if f.unacked == 0 && f != s.active {
		s.forgetLocked(f)
		return nil
	}
	if f.ack == nil {
		var err error
		if f.ack, err = os.OpenFile(f.ackPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
			return fmt.Errorf("write acknowledgement: %w", err)
		}
	}
	var rec [ackBytes]byte
	binary.LittleEndian.PutUint64(rec[:], b.Seq)
	binary.LittleEndian.PutUint32(rec[8:], crc32.Checksum(rec[:8], castagnoli))
	if _, err := f.ack.Write(rec[:]); err != nil {
		return fmt.Errorf("write acknowledgement: %w", err)
	}
	return nil
}

// Acknowledged returns the sequence numbers of those blocks of a spool's file that
// were stored. Without an acknowledgement file none are known to be.
func Acknowledged(path string) map[uint64]bool {
	return readAcks((&file{path: path, base: baseOf(path)}).ackPath())
}

// readAcks returns the sequence numbers in an acknowledgement file. A record
// that was cut off is not there.
func readAcks(path string) map[uint64]bool {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	acked := make(map[uint64]bool, len(data)/ackBytes)
	for ; len(data) >= ackBytes; data = data[ackBytes:] {
		if crc32.Checksum(data[:8], castagnoli) == binary.LittleEndian.Uint32(data[8:]) {
			acked[binary.LittleEndian.Uint64(data)] = true
		}
	}
	return acked
}

// forgetLocked deletes a file that nothing is wanted of any more. The blocks go
// before their acknowledgements.
func (s *Folder) forgetLocked(f *file) {
	if err := remove(f.path); err != nil {
		s.o.Warn("delete " + f.path + ": " + err.Error())
	}
	f.closeAck()
	_ = remove(f.ackPath())
	f.gone = true
	s.unlistLocked(f)
	s.publish()
}

func (s *Folder) unlistLocked(f *file) {
	s.files = slices.DeleteFunc(s.files, func(g *file) bool { return g == f })
	f.gone = true
}

// dropFileLocked deletes a file and counts what waited in it. Blocks that are
// taken are still being delivered.
func (s *Folder) dropFileLocked(f *file, why DropReason) {
	rows := 0
	for _, b := range f.blocks {
		if b.state == stateWaiting {
			b.state = stateDone
			rows += b.Rows
		}
	}
	s.waiting.Add(-int64(rows))
	s.drop(rows, why, fmt.Sprintf("%d rows that could not be delivered were dropped with the oldest spool file (%s): raise request_log.max_bytes or retention, or restore ClickHouse", rows, why))
	s.forgetLocked(f)
}

// Read reads a taken block's zstd frame into dst, which it may grow. A
// damaged block is an error for which IsDamaged is true.
func (s *Folder) Read(b *Block, dst []byte) ([]byte, error) {
	s.mu.Lock()
	path := b.file.path
	f, err := os.Open(path) // before it is renamed
	s.mu.Unlock()
	if err != nil {
		return dst, fmt.Errorf("read spool: %w", err)
	}
	defer f.Close()
	dst, err = readFrame(f, b.off, &b.Header, dst)
	if err != nil {
		return dst, fmt.Errorf("read spool: %s at %d: %w", path, b.off, err)
	}
	return dst, nil
}
