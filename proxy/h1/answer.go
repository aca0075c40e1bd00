package h1

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrAnswer is wrapped by every error about an upstream's head.
var ErrAnswer = errors.New("the upstream's answer is not valid HTTP/1.1")

// Answer is the head of an upstream's answer. Its slices are parts of the
// bytes given to Parse.
type Answer struct {
	Status        int
	HTTP10        bool
	Close         bool  // the connection ends with this answer
	Chunked       bool  // Transfer-Encoding: chunked
	ContentLength int64 // -1: not given

	ContentType     []byte
	ContentEncoding []byte
	Connection      []byte // the value of the last Connection field
	Connections     int    // how many Connection fields there are
	RetryAfter      []byte
	RequestID       []byte // the server's name for the request: x-request-id or request-id

	// Block is the field lines, up to and including the empty line.
	Block []byte
}

// Parse reads the head at the start of b. It returns its length, or 0 while b
// does not hold all of it. Lines may end in LF alone (RFC 9112 §2.2); all else
// that could be framed in two ways is an error wrapping ErrAnswer.
func (a *Answer) Parse(b []byte) (int, error) {
	*a = Answer{ContentLength: -1}
	end := headEnd(b)
	if end == 0 {
		if len(b) > 0 && !bytes.HasPrefix(b, httpSlash[:min(len(b), len(httpSlash))]) {
			return 0, fmt.Errorf("%w: it begins with something else", ErrAnswer)
		}
		return 0, nil
	}
	i := bytes.IndexByte(b[:end], '\n')
	if err := a.statusLine(bytes.TrimSuffix(b[:i], crByte)); err != nil {
		return 0, err
	}
	a.Block = b[i+1 : end]
	if err := a.fields(); err != nil {
		return 0, err
	}
	return end, nil
}

var (
	httpSlash = []byte("HTTP/1.")
	crByte    = []byte{'\r'}
)

// headEnd returns the length of the head up to and including its empty line, 0
// when it is not all there.
func headEnd(b []byte) int {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return 0
		}
		at += i + 1
		switch {
		case at < len(b) && b[at] == '\n':
			return at + 1
		case at+1 < len(b) && b[at] == '\r' && b[at+1] == '\n':
			return at + 2
		}
	}
}

// statusLine reads "HTTP/1.x SP 3DIGIT [SP reason]".
func (a *Answer) statusLine(line []byte) error {
	if len(line) < 12 || !bytes.HasPrefix(line, httpSlash) || line[8] != ' ' ||
		line[7] != '0' && line[7] != '1' || len(line) > 12 && line[12] != ' ' {
		return fmt.Errorf("%w: bad status line", ErrAnswer)
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return fmt.Errorf("%w: bad status", ErrAnswer)
		}
		a.Status = a.Status*10 + int(c-'0')
	}
	if a.Status < 100 || !validValue(line) {
		return fmt.Errorf("%w: bad status line", ErrAnswer)
	}
	a.HTTP10 = line[7] == '0'
	a.Close = a.HTTP10
	return nil
}

func (a *Answer) fields() error {
	for rest := a.Block; ; {
		i := bytes.IndexByte(rest, '\n')
		line := bytes.TrimSuffix(rest[:i], crByte)
		rest = rest[i+1:]
		if len(line) == 0 {
			break
		}
		c := bytes.IndexByte(line, ':')
		if c < 0 || !isToken(line[:c]) {
			return fmt.Errorf("%w: bad header line", ErrAnswer)
		}
		name, value := line[:c], trimSpace(line[c+1:])
		if !validValue(value) {
			return fmt.Errorf("%w: control character in a header", ErrAnswer)
		}
		switch len(name) {
		case len("connection"): // and request-id
			if EqualFold(name, "connection") {
				a.Connection = value
				a.Connections++
				if HasToken(value, "close") {
					a.Close = true
				} else if a.HTTP10 && HasToken(value, "keep-alive") {
					a.Close = false
				}
			} else if EqualFold(name, "request-id") { // Anthropic's
				a.RequestID = value
			}
		case len("retry-after"):
			if EqualFold(name, "retry-after") {
				a.RetryAfter = value
			}
		case len("content-type"): // and x-request-id
			if EqualFold(name, "content-type") {
				a.ContentType = value
			} else if EqualFold(name, "x-request-id") {
				a.RequestID = value
			}
		case len("content-length"):
			if EqualFold(name, "content-length") {
				n := ParseLength(value)
				if n < 0 || a.ContentLength >= 0 && a.ContentLength != n {
					return fmt.Errorf("%w: bad Content-Length", ErrAnswer)
				}
				a.ContentLength = n
			}
		case len("content-encoding"):
			if EqualFold(name, "content-encoding") {
				a.ContentEncoding = value
			}
		case len("transfer-encoding"):
			if EqualFold(name, "transfer-encoding") {
				if a.Chunked || a.HTTP10 || !EqualFold(value, "chunked") {
					return fmt.Errorf("%w: bad Transfer-Encoding", ErrAnswer)
				}
				a.Chunked = true
			}
		}
	}
	if a.Chunked && a.ContentLength >= 0 {
		return fmt.Errorf("%w: both Content-Length and Transfer-Encoding", ErrAnswer)
	}
	return nil
}

// HopByHop reports whether a Connection field makes the field hop-by-hop (RFC
// 9110 §7.6.1).
func (a *Answer) HopByHop(name []byte) bool {
	switch a.Connections {
	case 0:
		return false
	case 1:
		return hasTokenFold(a.Connection, name)
	}
	for f := NewFields(a.Block); f.Next(); {
		if EqualFold(f.Name, "connection") && hasTokenFold(f.Value, name) {
			return true
		}
	}
	return false
}

// NoBody reports whether an answer to method never has a body (RFC 9112 §6.3).
func (a *Answer) NoBody(head bool) bool {
	return head || a.Status == 204 || a.Status == 304 || a.Status < 200
}
