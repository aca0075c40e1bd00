package watch

// lineAt is the place within a line of an event stream.
type lineAt uint8

const (
	lineStart lineAt = iota
	lineName         // in a field's name
	lineColon        // behind the colon of data or event: one space is dropped
	lineValue        // in the value of data or event
	lineOther        // in what is ignored: a comment, another field
)

// lines is the grammar of an event stream (WHATWG HTML, "Server-sent events"):
// lines that end in LF, CRLF or CR, mixed as they come.
type lines struct {
	at      lineAt
	bom     uint8 // bytes of a leading byte order mark seen, 3: past it
	cr      bool  // the last byte was a CR; an LF now belongs to it
	isEvent bool  // the line is an event field, else data
	comment bool  // comments, before any field, stand in this block
	open    bool  // the block has a field
	data    int   // its data lines
	probe   uint8 // bytes of [DONE] matched by the data, probeNo: other data
	nname   uint8
	name    [maxName]byte // the field's name, then the event's; nname > maxName: too long
	nfield  uint8
	field   [6]byte
}

const (
	bomMark = "\xEF\xBB\xBF"
	doneTag = "[DONE]"
	probeNo = 255
)

// preamble passes a byte order mark at the very start and returns the index
// behind it. One that turns out to be something else is a field of that name.
func (l *lines) preamble(p []byte) int {
	i := 0
	for ; int(l.bom) < len(bomMark) && i < len(p); i++ {
		if p[i] != bomMark[l.bom] {
			if l.bom > 0 {
				l.at, l.open = lineOther, true
			}
			l.bom = uint8(len(bomMark))
			break
		}
		l.bom++
		l.comment = int(l.bom) < len(bomMark)
	}
	return i
}

// done reports whether the event's data begins with [DONE], as SDKs compare it.
func (l *lines) done() bool { return l.probe == uint8(len(doneTag)) }

// event returns what the event field says.
func (l *lines) event() kind {
	if l.nname > maxName {
		return kindOther
	}
	return kindOf(l.name[:l.nname])
}

func (l *lines) closeBlock() {
	l.comment, l.open, l.data, l.probe, l.nname = false, false, 0, 0, 0
}

// part reads a part of a line, which is not empty.
func (s *Stream) part(p []byte) {
	l := &s.lines
	switch l.at {
	case lineStart:
		if p[0] == ':' {
			l.comment = l.comment || !l.open
			l.at = lineOther
			return
		}
		l.open = true
		if len(p) > 5 && string(p[:5]) == "data:" {
			s.beginData()
			if p = p[5:]; p[0] == ' ' {
				p = p[1:]
			}
			l.at = lineValue
			s.value(p)
			return
		}
		l.at, l.nfield = lineName, 0
		s.fieldName(p)
	case lineName:
		s.fieldName(p)
	case lineColon:
		l.at = lineValue
		if p[0] == ' ' {
			p = p[1:]
		}
		s.value(p)
	case lineValue:
		s.value(p)
	}
}

// fieldName reads on in a field's name.
func (s *Stream) fieldName(p []byte) {
	l := &s.lines
	for i, c := range p {
		if c == ':' {
			s.beginValue()
			if i+1 < len(p) {
				s.part(p[i+1:])
			}
			return
		}
		if int(l.nfield) == len(l.field) {
			l.at = lineOther // longer than any name we know
			return
		}
		l.field[l.nfield] = c
		l.nfield++
	}
}

// beginValue acts on a field's name.
func (s *Stream) beginValue() {
	l := &s.lines
	switch string(l.field[:l.nfield]) {
	case "data":
		s.beginData()
		l.at = lineColon
	case "event":
		l.isEvent, l.nname = true, 0
		l.at = lineColon
	default:
		l.at = lineOther
	}
}

// beginData begins a data line; several are joined by LF.
func (s *Stream) beginData() {
	l := &s.lines
	l.isEvent = false
	if l.data++; l.data > 1 {
		s.json.newline()
		if !l.done() {
			l.probe = probeNo
		}
	}
}

// value reads on in the value of an event or data field.
func (s *Stream) value(p []byte) {
	l := &s.lines
	if l.isEvent {
		if n := copy(l.name[min(int(l.nname), maxName):], p); n < len(p) {
			l.nname = maxName + 1
		} else {
			l.nname += uint8(n)
		}
		return
	}
	if l.probe < uint8(len(doneTag)) {
		l.match(p)
	}
	for len(p) > 0 {
		if s.json.state == ended {
			s.json.rest(p)
			return
		}
		p = p[s.json.feed(p):]
	}
}

// match compares the data's beginning with [DONE].
func (l *lines) match(p []byte) {
	for _, c := range p {
		if c != doneTag[l.probe] {
			l.probe = probeNo
			return
		}
		if l.probe++; l.done() {
			return
		}
	}
}

// endLine ends a line that was not empty.
func (s *Stream) endLine() {
	l := &s.lines
	if l.at == lineName { // a name alone is a field with an empty value
		s.beginValue()
	}
	l.at = lineStart
}
