package peek

import (
	"bytes"
	"unicode/utf8"
)

// FormModel looks for the field model in prefix, the first bytes of a
// multipart/form-data body (RFC 7578) with that boundary. found: model, a part of
// prefix from at on, is its value. more: it may still come, call again with more of the body
// (each call starts anew, so grow the prefix by doubling). Neither: the form ended
// without it, or is written in a way that readers disagree on (bare line feeds, a transfer encoding, an escaped or
// case-twisted name, a file called model, a value that is no model name).
//
// Of two fields model the first counts; what follows it is not looked at.
func FormModel(prefix, boundary []byte) (model []byte, at int, found, more bool) {
	if len(boundary) == 0 || len(boundary) > maxBoundary {
		return nil, 0, false, false
	}
	f := form{rest: prefix}
	f.bound(boundary)
	switch f.find() {
	case formFound:
		return f.model, len(prefix) - f.behind, true, false
	case formShort:
		return nil, 0, false, true
	}
	return nil, 0, false, false
}

// formState is how far a look at a form has come.
type formState uint8

const (
	formGoesOn formState = iota
	formFound            // model holds the value
	formShort            // undecided: the bytes that came end here
	formMissed           // it will not be found
)

// form walks over the parts of a form.
type form struct {
	rest   []byte // not read yet
	model  []byte
	behind int                   // bytes from the model's first on
	line   [4 + maxBoundary]byte // CRLF, two dashes, boundary; in here, for a slice would escape
	n      int                   // length of that
}

func (f *form) bound(boundary []byte) {
	f.n = copy(f.line[copy(f.line[:], "\r\n--"):], boundary) + len("\r\n--")
}

func (f *form) delimiter() []byte { return f.line[:f.n] }

// dashes is the delimiter without its CRLF, as it stands at the start of a line.
func (f *form) dashes() []byte { return f.line[2:f.n] }

func (f *form) find() formState {
	state := f.preamble()
	for state == formGoesOn {
		state = f.part()
	}
	return state
}

// preamble reads the first delimiter, which a line break may stand before.
// RFC 2046 lets any text stand there: no client of this API writes one, and a
// server that takes the body for JSON would read it, and not the form.
func (f *form) preamble() formState {
	for _, first := range [...][]byte{f.dashes(), f.delimiter()} {
		if rest, ok := bytes.CutPrefix(f.rest, first); ok {
			f.rest = rest
			return f.delimiterLine()
		}
		if bytes.HasPrefix(first, f.rest) {
			return formShort
		}
	}
	return formMissed
}

// contentEnd returns where the delimiter begins that ends what stands at the
// start of rest, -1 where none is there yet. odd: before it stands one behind
// half a line break, which some readers take.
func (f *form) contentEnd() (at int, odd bool) {
	b, dashes := f.rest, f.dashes()
	for from := 0; ; {
		i := bytes.Index(b[from:], dashes)
		if i < 0 {
			return -1, false
		}
		i += from
		switch {
		case i >= 2 && b[i-2] == '\r' && b[i-1] == '\n':
			return i - 2, false
		case i >= 1 && (b[i-1] == '\n' || b[i-1] == '\r'):
			return -1, true
		}
		from = i + 1
	}
}

// delimiterLine reads what follows a boundary on its line: blanks and a line break,
// or the dashes that end the form. Anything else means a longer boundary to some
// readers and this one to others (RFC 2046 §5.1.1).
func (f *form) delimiterLine() formState {
	b := bytes.TrimLeft(f.rest, " \t")
	switch {
	case len(b) < 2 && (len(b) == 0 || b[0] == '\r' || b[0] == '-'):
		return formShort
	case b[0] == '\r' && b[1] == '\n':
		f.rest = b[2:]
		return formGoesOn
	}
	return formMissed
}

// part reads one part from its first header to the end of the next delimiter line.
func (f *form) part() formState {
	end := bytes.Index(f.rest, []byte("\r\n\r\n"))
	if end < 0 {
		return formShort
	}
	isModel, ok := partIsModel(f.rest[:end+2], f.dashes())
	if !ok {
		return formMissed
	}
	f.rest = f.rest[end+4:]

	// A delimiter right after the blank line ends an empty part to some and is content to others.
	if dashes := f.dashes(); bytes.HasPrefix(f.rest, dashes) {
		return formMissed
	} else if bytes.HasPrefix(dashes, f.rest) {
		return formShort
	}
	at, odd := f.contentEnd()
	if odd {
		return formMissed
	}
	if isModel && (at > MaxModel || at < 0 && len(f.rest) > MaxModel+len(f.delimiter())) {
		return formMissed
	}
	if at < 0 {
		return formShort
	}
	value := f.rest[:at]
	f.behind = len(f.rest)
	f.rest = f.rest[at+len(f.delimiter()):]
	if !isModel {
		return f.delimiterLine()
	}
	if !utf8.Valid(value) || hasControl(value) {
		return formMissed
	}
	if state := f.modelLine(); state != formGoesOn {
		return state
	}
	f.model = value
	return formFound
}

// modelLine is delimiterLine after the model, where the form may end.
func (f *form) modelLine() formState {
	if bytes.HasPrefix(f.rest, []byte("--")) {
		return formGoesOn
	}
	return f.delimiterLine()
}

// partIsModel reads a part's headers, each with its CRLF. ok is false where they
// are not what RFC 7578 §4 asks for, or readers may disagree whether this is the
// model or what its value is.
func partIsModel(head, dashes []byte) (isModel, ok bool) {
	disposed, encoded, file := false, false, false
	for len(head) > 0 {
		if bytes.HasPrefix(head, dashes) {
			return false, false
		}
		var name, value []byte
		if name, value, head, ok = headerField(head); !ok {
			return false, false
		}
		switch {
		case bytes.EqualFold(name, []byte("Content-Transfer-Encoding")):
			p := newParams(value)
			plain := bytes.EqualFold(p.value, []byte("7bit")) || bytes.EqualFold(p.value, []byte("8bit")) ||
				bytes.EqualFold(p.value, []byte("binary"))
			encoded = encoded || !plain
		case bytes.EqualFold(name, []byte("Content-Disposition")):
			if disposed {
				return false, false
			}
			disposed = true
			if isModel, file, ok = disposition(value); !ok {
				return false, false
			}
		}
	}
	return isModel, disposed && !(isModel && (file || encoded))
}

// headerField cuts the first header field, with the lines folded into it, off head.
func headerField(head []byte) (name, value, rest []byte, ok bool) {
	n := 0
	for n < len(head) && isToken(head[n]) {
		n++
	}
	if n == 0 || n == len(head) || head[n] != ':' {
		return nil, nil, nil, false
	}
	for i := n + 1; i+1 < len(head); i++ {
		switch c := head[i]; {
		case c == '\r' && head[i+1] == '\n':
			if i+2 < len(head) && (head[i+2] == ' ' || head[i+2] == '\t') {
				i += 2
				continue
			}
			return head[:n], head[n+1 : i], head[i+2:], true
		case c < 0x20 && c != '\t', c == 0x7f: // RFC 9110 §5.5
			return nil, nil, nil, false
		}
	}
	return nil, nil, nil, false
}

// disposition reads the value of a Content-Disposition header.
func disposition(value []byte) (isModel, file, ok bool) {
	p := newParams(value)
	if !bytes.EqualFold(p.value, []byte("form-data")) {
		return false, false, false
	}
	named := false
	for p.next() {
		switch {
		case bytes.EqualFold(p.name, []byte("name")):
			isModel = string(p.value) == "model"
			twisted := !isModel && bytes.EqualFold(p.value, []byte("model"))
			if named || twisted || bytes.IndexByte(p.value, '\\') >= 0 {
				return false, false, false
			}
			named = true
		case bytes.EqualFold(p.name, []byte("filename")), bytes.EqualFold(p.name, []byte("filename*")):
			file = true
		case bytes.IndexByte(p.name, '*') >= 0: // name*, name*0 of RFC 2231: RFC 7578 §4.2 knows none, some readers do
			return false, false, false
		}
	}
	return isModel, file, p.ok && named
}
