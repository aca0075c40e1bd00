package h1

import "bytes"

// tokenTable marks the bytes of a token (RFC 9110 §5.6.2).
var tokenTable = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

func isToken(b []byte) bool {
	for _, c := range b {
		if !tokenTable[c] {
			return false
		}
	}
	return len(b) > 0
}

// validValue reports whether b is a field value: no control character but the
// tab (RFC 9110 §5.5).
func validValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// EqualFold reports whether b is s but for ASCII case; s is lower case.
func EqualFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// HasToken reports whether the comma-separated list holds the token, in any
// case; token is lower case.
func HasToken(list []byte, token string) bool {
	for len(list) > 0 {
		var one []byte
		one, list, _ = bytes.Cut(list, []byte{','})
		if EqualFold(trimSpace(one), token) {
			return true
		}
	}
	return false
}

// hasTokenFold is HasToken for a token in any case.
func hasTokenFold(list, token []byte) bool {
	for len(list) > 0 {
		var one []byte
		one, list, _ = bytes.Cut(list, []byte{','})
		if bytes.EqualFold(trimSpace(one), token) {
			return true
		}
	}
	return false
}

// Fields walks over the field lines of a head that was found valid: the bytes
// after the first line, each line ended by LF or CRLF, up to the empty line.
type Fields struct {
	rest        []byte
	Name, Value []byte
	Line        []byte // the whole line with its line end
}

// NewFields starts a walk over block.
func NewFields(block []byte) Fields { return Fields{rest: block} }

// Next moves to the next field; false at the end.
func (f *Fields) Next() bool {
	i := bytes.IndexByte(f.rest, '\n')
	if i <= 0 || i == 1 && f.rest[0] == '\r' {
		return false
	}
	f.Line = f.rest[:i+1]
	line := f.rest[:i]
	if line[i-1] == '\r' {
		line = line[:i-1]
	}
	f.rest = f.rest[i+1:]
	c := bytes.IndexByte(line, ':')
	if c < 0 {
		return false
	}
	f.Name, f.Value = line[:c], trimSpace(line[c+1:])
	return true
}
