package peek

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxModel is the longest model name in bytes; real ones are below 100.
const MaxModel = 256

// badRune stands for bytes that are no character: invalid UTF-8 or half a
// surrogate pair. Readers disagree on them (an error, U+FFFD, dropped).
const badRune rune = -1

// nextRune decodes the first character of a JSON string's content, which
// scanString has passed and which is not empty, and its length as written.
func nextRune(raw []byte) (rune, int) {
	if raw[0] != '\\' {
		r, size := utf8.DecodeRune(raw)
		if r == utf8.RuneError && size == 1 {
			return badRune, 1
		}
		return r, size
	}
	switch raw[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r := hex4(raw[2:])
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if len(raw) >= 12 && raw[6] == '\\' && raw[7] == 'u' {
			if pair := utf16.DecodeRune(r, hex4(raw[8:])); pair != utf8.RuneError {
				return pair, 12
			}
		}
		return badRune, 6
	}
	return rune(raw[1]), 2 // quote, backslash, slash
}

// hex4 is the value of four hexadecimal digits.
func hex4(b []byte) rune {
	return hexDigit(b[0])<<12 | hexDigit(b[1])<<8 | hexDigit(b[2])<<4 | hexDigit(b[3])
}

// unescape is the text of a JSON string's content: raw itself where nothing is
// escaped, else appended to dst[:0]. It is false where the text would be longer
// than limit bytes or has a badRune.
func unescape(dst, raw []byte, limit int) ([]byte, bool) {
	if bytes.IndexByte(raw, '\\') < 0 {
		if len(raw) > limit || !utf8.Valid(raw) {
			return nil, false
		}
		return raw, true
	}
	dst = dst[:0]
	for len(raw) > 0 {
		r, size := nextRune(raw)
		if r == badRune || len(dst)+utf8.RuneLen(r) > limit {
			return nil, false
		}
		dst = utf8.AppendRune(dst, r)
		raw = raw[size:]
	}
	return dst, true
}

// hasControl reports whether b has an ASCII control character. A model name with
// one would end early in a C program and forge lines in a careless log.
func hasControl(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c == 0x7f {
			return true
		}
	}
	return false
}

// appendEscaped appends text as the content of a JSON string. Beyond what RFC 8259
// §7 demands nothing is escaped.
func appendEscaped(dst, text []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range text {
		switch {
		case c == '"', c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// needsEscape reports whether appendEscaped would change text.
func needsEscape(text []byte) bool {
	for _, c := range text {
		if c < 0x20 || c == '"' || c == '\\' {
			return true
		}
	}
	return false
}
