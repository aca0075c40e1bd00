package peek

import "bytes"

// maxPartHead is the longest head of a part that is read; SDKs write some 200
// bytes.
const maxPartHead = 8 << 10

// FormWatch reads a form on behind its model, in pieces of any size, and finds
// whether another field model follows: of two, readers differ which one counts.
// It keeps what it cannot decide on yet, at most the head of a part.
type FormWatch struct {
	form  form // its boundary, and what is read
	keep  []byte
	state watchState
}

type watchState uint8

const (
	watchContent watchState = iota // of a part
	watchLine                      // behind a boundary
	watchHead                      // of a part
	watchFirst                     // the first bytes of its content
	watchEnded                     // the form has
	watchFailed
)

// NewFormWatch begins within the content of a part, as behind FormModel's model.
func NewFormWatch(boundary []byte) *FormWatch {
	w := new(FormWatch)
	w.form.bound(boundary)
	return w
}

// Feed takes the next bytes and reports whether the form has one model so far,
// and is written as FormModel wants it.
func (w *FormWatch) Feed(p []byte) (one bool) {
	if w.state >= watchEnded {
		return w.state == watchEnded
	}
	w.keep = append(w.keep, p...)
	w.form.rest = w.keep
	for w.step() {
	}
	n := copy(w.keep, w.form.rest)
	w.keep = w.keep[:n]
	return w.state != watchFailed
}

// step goes on, and reports false where it needs more, or nothing any more.
func (w *FormWatch) step() bool {
	f := &w.form
	switch w.state {
	case watchContent:
		at, odd := f.contentEnd()
		if odd {
			w.state = watchFailed
			return false
		}
		if at < 0 {
			f.rest = f.rest[max(0, len(f.rest)-len(f.delimiter())+1):]
			return false
		}
		f.rest = f.rest[at+len(f.delimiter()):]
		w.state = watchLine
	case watchLine:
		if len(f.rest) < 2 {
			return false
		}
		if f.rest[0] == '-' && f.rest[1] == '-' {
			f.rest, w.state = nil, watchEnded
			return false
		}
		switch f.delimiterLine() {
		case formGoesOn:
			w.state = watchHead
		case formShort:
			return w.bounded()
		default:
			w.state = watchFailed
		}
	case watchHead:
		end := bytes.Index(f.rest, []byte("\r\n\r\n"))
		if end < 0 {
			return w.bounded()
		}
		if end > maxPartHead {
			w.state = watchFailed
			return false
		}
		isModel, ok := partIsModel(f.rest[:end+2], f.dashes())
		if isModel || !ok {
			w.state = watchFailed
			return false
		}
		f.rest, w.state = f.rest[end+4:], watchFirst
	case watchFirst:
		// A boundary at once ends an empty part to some and is content to others.
		switch dashes := f.dashes(); {
		case bytes.HasPrefix(f.rest, dashes):
			w.state = watchFailed
			return false
		case bytes.HasPrefix(dashes, f.rest):
			return false
		}
		w.state = watchContent
	default:
		return false
	}
	return true
}

// bounded ends it where what is kept has become too long.
func (w *FormWatch) bounded() bool {
	if len(w.form.rest) > maxPartHead {
		w.state = watchFailed
	}
	return false
}
