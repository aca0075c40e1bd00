package peek

import (
	"encoding/binary"
	"math/bits"
)

// MaxDepth is how deep objects and arrays may nest, the top-level object being
// level 1. Beyond it providers' own parsers begin to fail (Python's recursion
// limit is 1,000).
const MaxDepth = 512

// fault is what a scan met.
type fault uint8

const (
	faultNone fault = iota
	faultSyntax
	faultDepth
)

// skipSpace returns the index of the first byte from i on that is not JSON white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) {
		switch b[i] {
		case ' ', '\n', '\r', '\t':
			i++
		default:
			return i
		}
	}
	return i
}

// Bytes repeated over a word, for scanString.
const (
	each     = 0x0101010101010101
	quotes   = each * '"'
	slashes  = each * '\\'
	controls = each * 0x20
	highBits = each * 0x80
)

// scanString takes the index after the opening quote and returns that of the
// closing one. Without one, or at a bad escape or a raw control character, it
// returns the offending index (len(b) where b just ended) and false.
// It does not look at UTF-8.
func scanString(b []byte, i int) (int, bool) {
	for {
		// Eight bytes at a time. Subtracting 1 (or 0x20) from each byte borrows into its high
		// bit exactly where the byte was 0 (or below 0x20); a borrow may spoil the bytes above
		// that one, never those below, so the lowest mark is right. Bytes >= 0x80 are none of
		// the three and are masked out.
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			marks := ((w ^ quotes) - each) | ((w ^ slashes) - each) | (w - controls)
			if marks &= highBits &^ w; marks != 0 {
				i += bits.TrailingZeros64(marks) >> 3
				break
			}
			i += 8
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= 0x20 {
			i++
		}
		// Escapes often stand in a row: text that is not ASCII, as Python writes it.
		for i < len(b) && b[i] == '\\' {
			n := escapeLen(b[i:])
			if n <= 0 {
				return i - n, false
			}
			i += n
		}
		switch {
		case i >= len(b):
			return len(b), false
		case b[i] == '"':
			return i, true
		case b[i] < 0x20:
			return i, false
		}
	}
}

// escapeLen is the length of the escape sequence that begins b. For a bad one it
// is minus the index of the first byte that does not fit.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return -1
	}
	switch b[1] {
	case 'u':
		if len(b) >= 6 && hexDigit(b[2])|hexDigit(b[3])|hexDigit(b[4])|hexDigit(b[5]) >= 0 {
			return 6
		}
		k := 2
		for k < len(b) && hexDigit(b[k]) >= 0 {
			k++
		}
		return -k
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	}
	return -1
}

// hexDigit is the value of the hexadecimal digit c, or -1.
func hexDigit(c byte) rune {
	switch {
	case c >= '0' && c <= '9':
		return rune(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10
	}
	return -1
}

// scanNumber takes the index of a number's first byte and returns the index after
// its last (RFC 8259 §6: no plus sign, no leading zero, digits around the point).
func scanNumber(b []byte, i int) (int, bool) {
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if end := skipDigits(b, i); end > i {
		i = end
	} else {
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		end := skipDigits(b, i+1)
		if end == i+1 {
			return end, false
		}
		i = end
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		end := skipDigits(b, i)
		if end == i {
			return end, false
		}
		i = end
	}
	return i, true
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

// scanLiteral checks that word begins at b[i].
func scanLiteral(b []byte, i int, word string) (int, bool) {
	for k := 0; k < len(word); k++ {
		if i+k >= len(b) || b[i+k] != word[k] {
			return i + k, false
		}
	}
	return i + len(word), true
}

// scanScalar scans the value at b[i] that is neither an object nor an array.
func scanScalar(b []byte, i int) (int, bool) {
	switch c := b[i]; {
	case c == '"':
		end, ok := scanString(b, i+1)
		if !ok {
			return end, false
		}
		return end + 1, true
	case c == '-', c-'0' <= 9:
		return scanNumber(b, i)
	case c == 't':
		return scanLiteral(b, i, "true")
	case c == 'f':
		return scanLiteral(b, i, "false")
	case c == 'n':
		return scanLiteral(b, i, "null")
	}
	return i, false
}

// scanKey scans an object's key at b[i], its colon and the space around that. It
// returns the index of the closing quote and that of the value's first byte
// (possibly len(b)); on a fault both are where it was met.
func scanKey(b []byte, i int) (quote, value int, ok bool) {
	if i >= len(b) || b[i] != '"' {
		return i, i, false
	}
	quote, ok = scanString(b, i+1)
	if !ok {
		return quote, quote, false
	}
	i = skipSpace(b, quote+1)
	if i >= len(b) || b[i] != ':' {
		return i, i, false
	}
	return quote, skipSpace(b, i+1), true
}

// scanValue takes the index of a value's first byte, inside depth levels of
// nesting, and returns the index after its last byte, or where and why it is not
// one. It does not recurse: what is open stands in one bit a level.
func scanValue(b []byte, i, depth int) (int, fault) {
	var objects [MaxDepth/64 + 1]uint64 // bit d: level d is an object, else an array
	base := depth
	for {
		if i >= len(b) {
			return i, faultSyntax
		}
		switch c := b[i]; c {
		case '{', '[':
			if depth++; depth > MaxDepth {
				return i, faultDepth
			}
			i = skipSpace(b, i+1)
			if i < len(b) && b[i] == c+2 { // '{'+2 == '}' and '['+2 == ']'
				i++
				depth--
				break
			}
			level := uint64(1) << (depth & 63)
			if c == '[' {
				objects[depth>>6] &^= level
				continue
			}
			objects[depth>>6] |= level
			_, value, ok := scanKey(b, i)
			if !ok {
				return value, faultSyntax
			}
			i = value
			continue
		default:
			end, ok := scanScalar(b, i)
			if !ok {
				return end, faultSyntax
			}
			i = end
		}

		// A value ended at i. Close what closes with it, or step to the next one.
		for {
			if depth == base {
				return i, faultNone
			}
			i = skipSpace(b, i)
			if i >= len(b) {
				return i, faultSyntax
			}
			object := objects[depth>>6]>>(depth&63)&1 == 1
			if b[i] == ',' {
				i = skipSpace(b, i+1)
				if object {
					_, value, ok := scanKey(b, i)
					if !ok {
						return value, faultSyntax
					}
					i = value
				}
				break
			}
			if object && b[i] != '}' || !object && b[i] != ']' {
				return i, faultSyntax
			}
			i++
			depth--
		}
	}
}

// span is a part of the body: body[from:to].
type span struct{ from, to int }

func (s span) of(body []byte) []byte { return body[s.from:s.to] }

// members reads an object member by member, checking all that it passes.
type members struct {
	body  []byte
	at    int // next byte to read; after the end, the byte after the closing brace
	depth int // level of this object
	begun bool
	err   *Error
}

// next steps to the following member: its key without the quotes, as written, and
// its value. It is false after the last member and on a fault, which err then holds.
func (m *members) next() (key, value span, ok bool) {
	b := m.body
	i := skipSpace(b, m.at)
	if i >= len(b) {
		return m.fail(i, faultSyntax)
	}
	if b[i] == '}' {
		m.at = i + 1
		return key, value, false
	}
	if m.begun {
		if b[i] != ',' {
			return m.fail(i, faultSyntax)
		}
		i = skipSpace(b, i+1)
	}
	m.begun = true
	quote, first, ok := scanKey(b, i)
	if !ok {
		return m.fail(first, faultSyntax)
	}
	end, why := scanValue(b, first, m.depth)
	if why != faultNone {
		return m.fail(end, why)
	}
	m.at = end
	return span{i + 1, quote}, span{first, end}, true
}

func (m *members) fail(offset int, why fault) (key, value span, ok bool) {
	m.err = scanError(m.body, offset, why)
	return span{}, span{}, false
}
