package requestlog

import (
	"encoding/binary"
	"strings"
	"testing"
)

// A type's depth is what a file says: no file may make it a depth of calls.
func TestATypeNestedBeyondBoundsIsRefused(t *testing.T) {
	block := func(depth int) []byte {
		kind := strings.Repeat("Array(", depth) + "UInt8" + strings.Repeat(")", depth)
		b := []byte{1, 0, 1, 'c'} // one column, no rows, its name
		b = binary.AppendUvarint(b, uint64(len(kind)))
		return append(b, kind...)
	}
	for depth, ok := range map[int]bool{0: true, 1: true, maxNesting: true, maxNesting + 1: false, 1_000_000: false} {
		if err := skim(block(depth)); (err == nil) != ok {
			t.Errorf("%d levels: %v", depth, err)
		}
	}
}
