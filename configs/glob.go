package configs

import (
	"strings"
	"unsafe"
)

// MatchGlob reports whether s matches pattern, in which * stands for any run of
// characters, also none, and everything else for itself. Time grows with the
// two lengths added, not multiplied; it allocates nothing.
func MatchGlob(pattern, s string) bool {
	part, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, part)
	if !ok {
		return false
	}
	// A part between two stars may be taken where it first stands: what
	// follows a star can only gain by it. So there is no going back.
	for {
		part, rest, star = strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
}

// MatchGlobBytes is MatchGlob for bytes, which it neither keeps nor changes.
func MatchGlobBytes(pattern string, s []byte) bool {
	return MatchGlob(pattern, unsafe.String(unsafe.SliceData(s), len(s)))
}
