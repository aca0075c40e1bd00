package h1

import (
	"bytes"
	"errors"
)

// What CheckRequest refuses. The texts are public.
var (
	ErrBareLineEnd     = errors.New("a header line does not end in CRLF")
	ErrFieldName       = errors.New("a header name is not a token")
	ErrFieldValue      = errors.New("a header value holds a control character")
	ErrFolded          = errors.New("a header value is continued on a second line")
	ErrContentLength   = errors.New("Content-Length is not one plain number")
	ErrLengthAndCoding = errors.New("both Content-Length and Transfer-Encoding are given")
	ErrTransferCoding  = errors.New("Transfer-Encoding is not exactly chunked")
	ErrHost            = errors.New("exactly one Host is needed")
)

// maxLengthDigits keeps a Content-Length well inside int64.
const maxLengthDigits = 18

// CheckRequest looks at the field lines of a request as they stood on the
// wire, after the request line and up to and including the empty line, and
// refuses what two servers could frame differently (RFC 9112 §5, §6): it is
// the guard in front of a parser that is more lenient. http11 says which
// version the request line named.
func CheckRequest(block []byte, http11 bool) error {
	var lengths, codings, hosts int
	for len(block) > 0 {
		i := bytes.IndexByte(block, '\n')
		if i < 1 || block[i-1] != '\r' {
			return ErrBareLineEnd
		}
		line := block[:i-1]
		block = block[i+1:]
		if len(line) == 0 {
			if len(block) != 0 {
				return ErrBareLineEnd
			}
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			return ErrFolded
		}
		c := bytes.IndexByte(line, ':')
		if c < 0 || !isToken(line[:c]) {
			return ErrFieldName
		}
		name, value := line[:c], trimSpace(line[c+1:])
		if !validValue(value) {
			return ErrFieldValue
		}
		switch len(name) {
		case len("host"):
			if EqualFold(name, "host") {
				hosts++
				if !validHost(value) {
					return ErrHost
				}
			}
		case len("content-length"):
			if EqualFold(name, "content-length") {
				lengths++
				if ParseLength(value) < 0 {
					return ErrContentLength
				}
			}
		case len("transfer-encoding"):
			if EqualFold(name, "transfer-encoding") {
				codings++
				if !http11 || !EqualFold(value, "chunked") {
					return ErrTransferCoding
				}
			}
		}
	}
	switch {
	case lengths > 1:
		return ErrContentLength
	case codings > 1:
		return ErrTransferCoding
	case lengths+codings > 1:
		return ErrLengthAndCoding
	case hosts > 1 || http11 && hosts == 0:
		return ErrHost
	}
	return nil
}

// hostTable marks unreserved, sub-delims without the comma, and :[]%.
var hostTable = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	for _, c := range "-._~!$&'()*+;=:[]%" {
		t[c] = true
	}
	return t
}()

// validHost reports whether b is uri-host [":" port] but for the grammar of
// addresses (RFC 9110 §7.2, RFC 3986 §3.2.2). It may be empty.
func validHost(b []byte) bool {
	for _, c := range b {
		if !hostTable[c] {
			return false
		}
	}
	return true
}

// ParseLength returns the number that b is, or -1 where it is not 1*DIGIT of a
// sane size (RFC 9110 §8.6).
func ParseLength(b []byte) int64 {
	if len(b) == 0 || len(b) > maxLengthDigits {
		return -1
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	return n
}
