package watch

import (
	"encoding/binary"
	"math/bits"
)

// maxName is the longest key, name or id that is looked at; keys and names of
// ours are shorter than 32.
const maxName = 128

// maxCount bounds a believable count; what is above is no count of tokens.
const maxCount = 1 << 40

type state uint8

const (
	wantValue    state = iota
	wantFirst          // after '[': a value or ']'
	wantFirstKey       // after '{': a key or '}'
	wantKey            // after ',' in an object
	wantColon
	wantComma // after a value: ',' or the end of the container
	inKey
	inText
	inScalar
	inSkipped
	inSkippedText
	ended  // the document is complete
	broken // not JSON; the rest is ignored
)

// A scanner reads JSON in pieces of any size and reports what it recognises to
// its document. Between pieces it keeps its place and, in the middle of a short
// name, that name: never a value, never a buffer. It is lenient where strictness
// would teach nothing (escapes, number grammar, brackets in skipped values).
type scanner struct {
	state  state
	field  field // of the value that is due or being read
	sp     uint8
	stack  [12]node // stack[0] is outside; every path we read is shorter
	escape bool     // the last byte of the piece was a backslash in a string
	empty  bool     // nothing of the string was seen yet
	lossy  bool     // the name in hand is too long or has escapes
	bad    bool     // the number in hand is not a count
	lead   byte     // first byte of the scalar in hand
	nname  uint8
	name   [maxName]byte
	depth  int // of a skipped value
	num    int64
	doc    document
}

// reset makes x ready for a new document.
func (x *scanner) reset() {
	x.state, x.field, x.sp = wantValue, fieldRoot, 0
	x.escape = false
	x.doc.reset()
}

// feed reads on and returns the number of bytes used: len(b), or less after a
// root object and at the document's end.
func (x *scanner) feed(b []byte) int {
	for i := 0; i < len(b); {
		c := b[i]
		switch x.state {
		case wantKey, wantFirstKey:
			if c == '"' {
				j := stringEnd(b, i+1)
				if j < len(b) && b[j] == '"' {
					x.field = x.stack[x.sp].member(b[i+1 : j])
					i = j + 1
					x.state = wantColon
					if i+1 < len(b) && b[i] == ':' && b[i+1] > ' ' { // no need to go round
						i = x.value(b, i+1)
					}
					continue
				}
				x.begin(inKey)
			} else if c == '}' && x.state == wantFirstKey {
				if x.pop() {
					return i + 1
				}
			} else if !space(c) {
				x.fail()
				return len(b)
			}
			i++
		case wantColon:
			if c == ':' {
				x.state = wantValue
			} else if !space(c) {
				x.fail()
				return len(b)
			}
			i++
		case wantValue, wantFirst:
			if space(c) {
				i++
				continue
			}
			if x.state == wantFirst {
				if c == ']' {
					x.pop()
					i++
					continue
				}
				x.doc.first(x.stack[x.sp])
			}
			i = x.value(b, i)
		case wantComma:
			switch c {
			case ',':
				x.state = wantKey
				if n := x.stack[x.sp]; n.isArray() {
					x.state, x.field = wantValue, n.element()
				}
			case '}', ']':
				if x.stack[x.sp].isArray() != (c == ']') {
					x.fail()
					return len(b)
				}
				if x.pop() {
					return i + 1
				}
			default:
				if !space(c) {
					x.fail()
					return len(b)
				}
			}
			i++
		case inText, inKey:
			i = x.text(b, i)
		case inScalar:
			i = x.scalar(b, i)
		case inSkipped:
			i = x.skip(b, i)
		case inSkippedText:
			if i = x.pass(b, i); i < len(b) {
				x.state = inSkipped
				i++
			}
		case ended:
			return i
		case broken:
			return len(b)
		}
	}
	return len(b)
}

// value begins the value at b[i], a byte that is not white space.
func (x *scanner) value(b []byte, i int) int {
	switch c := b[i]; c {
	case '"':
		// The common case: the whole string is here.
		if j := stringEnd(b, i+1); j < len(b) && b[j] == '"' && j-i-1 <= maxName {
			if x.field != fieldNone {
				x.doc.text(x.field, b[i+1:j], j == i+1)
			}
			x.after()
			return j + 1
		}
		x.begin(inText)
	case '{':
		x.doc.object(x.field)
		x.push(x.field.object(), wantFirstKey)
	case '[':
		x.doc.array(x.field)
		x.push(x.field.array(), wantFirst)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'n', 't', 'f':
		x.lead, x.num, x.bad = c, 0, false
		x.state = inScalar
		return i // the first byte may be a digit of the count
	default:
		x.fail()
	}
	return i + 1
}

// begin enters a string after its opening quote.
func (x *scanner) begin(s state) {
	x.state, x.empty, x.escape, x.lossy, x.nname = s, true, false, false, 0
}

// pass moves over the text of a string up to its closing quote, of which it
// returns the index, or len(b).
func (x *scanner) pass(b []byte, i int) int {
	if x.escape {
		x.escape = false
		i++
	}
	for {
		i = stringEnd(b, i)
		if i >= len(b) || b[i] == '"' {
			return i
		}
		if i+1 == len(b) {
			x.escape = true
			return i + 1
		}
		i += 2
	}
}

// text reads on in a key or a value.
func (x *scanner) text(b []byte, i int) int {
	j := x.pass(b, i)
	if j > i {
		x.empty = false
		if x.state == inKey || x.field.named() {
			x.keep(b[i:j])
		}
	}
	if j == len(b) {
		return j
	}
	name := x.name[:x.nname]
	if x.lossy {
		name = nil
	}
	if x.state == inKey {
		x.field = x.stack[x.sp].member(name)
		x.state = wantColon
		return j + 1
	}
	x.doc.text(x.field, name, x.empty)
	x.after()
	return j + 1
}

// keep adds a piece to the name in hand.
func (x *scanner) keep(p []byte) {
	if len(p) > maxName-int(x.nname) {
		x.lossy = true
		return
	}
	for _, c := range p {
		if c == '\\' {
			x.lossy = true
			return
		}
	}
	x.nname += uint8(copy(x.name[x.nname:], p))
}

// scalar reads on in a number or literal; it ends before the first byte that
// can be no part of one.
func (x *scanner) scalar(b []byte, i int) int {
	if !x.field.number() {
		for i < len(b) && !scalarEnd(b[i]) {
			i++
		}
		if i < len(b) {
			if x.field != fieldNone {
				x.doc.scalar(x.field, x.lead)
			}
			x.after()
		}
		return i
	}
	for ; i < len(b); i++ {
		c := b[i]
		if scalarEnd(c) {
			if !x.bad {
				x.doc.number(x.field, x.num)
			}
			x.after()
			return i
		}
		if c < '0' || c > '9' {
			x.bad = true // a sign, a fraction, an exponent, null
		} else if x.num = x.num*10 + int64(c-'0'); x.num > maxCount {
			x.num, x.bad = 0, true
		}
	}
	return i
}

func scalarEnd(c byte) bool { return c == ',' || c == '}' || c == ']' || space(c) }

// skip reads on in a container of no interest.
func (x *scanner) skip(b []byte, i int) int {
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			x.escape = false
			if i = x.pass(b, i+1); i == len(b) {
				x.state = inSkippedText
				return i
			}
		case '{', '[':
			x.depth++
		case '}', ']':
			if x.depth--; x.depth == 0 {
				x.after()
				return i + 1
			}
		}
	}
	return i
}

// push enters a container.
func (x *scanner) push(n node, s state) {
	if n == nodeNone {
		x.state, x.depth = inSkipped, 1
		return
	}
	x.sp++
	x.stack[x.sp] = n
	x.state = s
	if n.isArray() {
		x.field = n.element()
	}
}

// pop leaves a container and reports whether it was a root object.
func (x *scanner) pop() bool {
	n := x.stack[x.sp]
	x.sp--
	x.after()
	switch n {
	case nodeUsage, nodeGeminiUsage:
		x.doc.closeUsage()
	case nodeRoot:
		return true
	}
	return false
}

// after goes on behind a value.
func (x *scanner) after() {
	if x.state = wantComma; x.sp == 0 {
		x.state = ended
	}
}

func (x *scanner) fail() {
	x.state = broken
	x.doc.marks |= notUsage
}

// rest takes what follows a complete document: white space, or it was none.
func (x *scanner) rest(b []byte) {
	for _, c := range b {
		if !space(c) {
			x.fail()
			return
		}
	}
}

// newline joins two data lines of one event. Within a token a line feed is no
// JSON.
func (x *scanner) newline() {
	switch x.state {
	case inText, inKey, inSkippedText:
		x.fail()
	case inScalar:
		x.scalar([]byte{'\n'}, 0)
	}
}

func space(c byte) bool { return c <= ' ' && (c == ' ' || c == '\n' || c == '\t' || c == '\r') }

// stringEnd returns the index of the first quote or backslash at or after i, or
// len(b). Eight bytes at a time: a byte of v is zero where w has the wanted one,
// and (v-lo)&^v&hi has its lowest bit at the first such byte.
func stringEnd(b []byte, i int) int {
	const lo, hi = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		q, e := w^(lo*'"'), w^(lo*'\\')
		if m := ((q-lo)&^q | (e-lo)&^e) & hi; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c == '"' || c == '\\' {
			return i
		}
	}
	return len(b)
}
