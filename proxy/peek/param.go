package peek

import "bytes"

// maxBoundary is the longest multipart boundary, RFC 2046 §5.1.1.
const maxBoundary = 70

// Boundary finds the boundary in the value of a Content-Type header. It is false
// where the type is not multipart/form-data, or the boundary is missing, given
// twice, longer than 70 bytes or of characters that RFC 2046 §5.1.1 does not list.
// Of these all but the space may stand unquoted, as many clients write them.
func Boundary(contentType []byte) ([]byte, bool) {
	p := newParams(contentType)
	if !bytes.EqualFold(p.value, []byte("multipart/form-data")) {
		return nil, false
	}
	var boundary []byte
	for p.next() {
		// boundary*= and boundary*0=, the forms of RFC 2231, are read by some and not by others.
		if bytes.IndexByte(p.name, '*') >= 0 {
			return nil, false
		}
		if !bytes.EqualFold(p.name, []byte("boundary")) {
			continue
		}
		if boundary != nil || !validBoundary(p.value) {
			return nil, false
		}
		boundary = p.value
	}
	if !p.ok {
		return nil, false
	}
	return boundary, boundary != nil
}

func validBoundary(b []byte) bool {
	if len(b) == 0 || len(b) > maxBoundary || b[len(b)-1] == ' ' {
		return false
	}
	for _, c := range b {
		if !isAlphanumeric(c) && bytes.IndexByte([]byte("'()+_,-./:=? "), c) < 0 {
			return false
		}
	}
	return true
}

// params reads a header value of the form `value; name=value; name="value"`
// (RFC 2045 §5.1, RFC 9110 §5.6.6), which may hold folded lines.
type params struct {
	rest        []byte
	name, value []byte // of the parameter read last; at first value is what stands before them all
	ok          bool   // no fault so far
}

func newParams(header []byte) params {
	p := params{rest: header, ok: true}
	p.skipSpace()
	p.value = p.token()
	return p
}

// next reads one more parameter. It is false at the end, and at a fault, which
// clears ok. Names and values point into the header. A quoted value that holds a
// quote is a fault: some readers take the backslash before it for itself. A
// backslash before anything else stays in the value.
func (p *params) next() bool {
	p.skipSpace()
	if len(p.rest) == 0 {
		return false
	}
	if p.rest[0] != ';' {
		return p.fail()
	}
	p.rest = p.rest[1:]
	p.skipSpace()
	if len(p.rest) == 0 { // a semicolon at the end
		return false
	}
	n := 0
	for n < len(p.rest) && isToken(p.rest[n]) {
		n++
	}
	p.name, p.rest = p.rest[:n], p.rest[n:]
	p.skipSpace()
	if n == 0 || len(p.rest) == 0 || p.rest[0] != '=' {
		return p.fail()
	}
	p.rest = p.rest[1:]
	p.skipSpace()
	if len(p.rest) > 0 && p.rest[0] == '"' {
		return p.quoted()
	}
	p.value = p.token()
	return len(p.value) > 0 || p.fail()
}

func (p *params) quoted() bool {
	text := p.rest[1:]
	end := bytes.IndexByte(text, '"')
	if end < 0 || end > 0 && text[end-1] == '\\' {
		return p.fail()
	}
	for _, c := range text[:end] {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return p.fail()
		}
	}
	p.value, p.rest = text[:end], text[end+1:]
	return true
}

// token takes what stands before white space, a semicolon or the end. That is
// wider than RFC 9110's token; callers compare or check what they get.
func (p *params) token() []byte {
	n := 0
	for n < len(p.rest) {
		if c := p.rest[n]; c <= ' ' || c == ';' || c == '"' || c >= 0x7f {
			break
		}
		n++
	}
	t := p.rest[:n]
	p.rest = p.rest[n:]
	return t
}

// skipSpace skips blanks, and line breaks that a blank follows (folding).
func (p *params) skipSpace() {
	b := p.rest
	for len(b) > 0 {
		switch {
		case b[0] == ' ' || b[0] == '\t':
			b = b[1:]
		case len(b) > 2 && b[0] == '\r' && b[1] == '\n' && (b[2] == ' ' || b[2] == '\t'):
			b = b[3:]
		default:
			p.rest = b
			return
		}
	}
	p.rest = b
}

func (p *params) fail() bool {
	p.ok = false
	return false
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// isToken reports whether c may stand in a token, RFC 9110 §5.6.2.
func isToken(c byte) bool {
	return isAlphanumeric(c) || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}
