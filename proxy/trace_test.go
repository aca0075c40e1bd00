package proxy

import (
	"encoding/hex"
	"strings"
	"testing"
)

const validTraceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestTraceparentIsReadAsTheRecommendationSays(t *testing.T) {
	for _, c := range []struct {
		name, in string
		ok       bool
	}{
		{"version 00", validTraceparent, true},
		{"not sampled", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true},
		{"a later version", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true},
		{"a later version with more", "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future", true},
		{"a later version with more and no dash", "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what", false},
		{"version 00 with more", validTraceparent + "-1", false},
		{"version ff", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false},
		{"upper case", strings.ToUpper(validTraceparent), false},
		{"no trace", "00-00000000000000000000000000000000-b7ad6b7169203331-01", false},
		{"no parent", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false},
		{"not hex", "00-0af7651916cd43dd8448eb211c80319x-b7ad6b7169203331-01", false},
		{"flags not hex", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g", false},
		{"underscores", strings.ReplaceAll(validTraceparent, "-", "_"), false},
		{"short", validTraceparent[:54], false},
		{"empty", "", false},
	} {
		var got traceContext
		if ok := got.parse([]byte(c.in)); ok != c.ok {
			t.Errorf("%s: valid = %v, want %v", c.name, ok, c.ok)
		}
		if c.ok != (hex.EncodeToString(got.trace[:]) == "0af7651916cd43dd8448eb211c80319c") ||
			c.ok != (hex.EncodeToString(got.parent[:]) == "b7ad6b7169203331") {
			t.Errorf("%s: read %x and %x", c.name, got.trace, got.parent)
		}
	}
}

func FuzzTraceparent(f *testing.F) {
	f.Add([]byte(validTraceparent))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c traceContext
		if !c.parse(b) {
			return
		}
		want := hex.EncodeToString(c.trace[:]) + "-" + hex.EncodeToString(c.parent[:])
		if string(b[3:52]) != want {
			t.Fatalf("%q read as %s", b, want)
		}
	})
}
