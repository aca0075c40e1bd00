package peek

import "bytes"

// usageSite is how a body can be made to ask for usage.
type usageSite struct {
	how usageEdit
	at  span // of what is replaced; empty, where the text is inserted
}

type usageEdit uint8

const (
	usageAddOptions  usageEdit = iota // no stream_options: add it to the document
	usageSetOptions                   // stream_options is null: put an object there
	usageFillOptions                  // stream_options is {}
	usageAddMember                    // stream_options has other members
	usageSetMember                    // include_usage is false or null
	usageLeave                        // already asked for, or of a type that the provider will refuse
)

// What is written in each case. Nobody writes to these.
var (
	textAddOptions  = []byte(`"stream_options":{"include_usage":true},`)
	textSetOptions  = []byte(`{"include_usage":true}`)
	textFillOptions = []byte(`"include_usage":true`)
	textAddMember   = []byte(`"include_usage":true,`)
	textSetMember   = []byte(`true`)
)

// readStreamOptions notes what stream_options says and where it would be changed.
func (r *Request) readStreamOptions(body []byte, value span) *Error {
	r.HasStreamOptions = true
	switch body[value.from] {
	case 'n':
		r.StreamOptionsNull = true
		r.usage = usageSite{usageSetOptions, value}
		return nil
	case '{':
	default:
		r.usage.how = usageLeave
		return nil
	}

	inside := span{value.from + 1, value.from + 1}
	r.usage = usageSite{usageFillOptions, inside}
	m := members{body: body, at: inside.from, depth: 2}
	var seen field
	for {
		key, member, ok := m.next()
		if !ok {
			return m.err
		}
		f, err := claim(&seen, body, key, optionsFields)
		if err != nil {
			return err
		}
		if f == 0 {
			if seen == 0 {
				r.usage = usageSite{usageAddMember, inside}
			}
			continue
		}
		switch body[member.from] {
		case 't':
			r.IncludeUsage = true
			r.usage.how = usageLeave
		case 'f', 'n':
			r.usage = usageSite{usageSetMember, member}
		default:
			r.usage.how = usageLeave
		}
	}
}

// Edit is one splice: at Off of the body, Del bytes give way to Ins.
type Edit struct {
	Off, Del int
	Ins      []byte // read only; may point into EditOptions.Model or .Scratch
}

// EditOptions says what to change.
type EditOptions struct {
	Model        []byte // the provider's name for the model, UTF-8; empty: leave it
	IncludeUsage bool   // ask for the usage event, where AsksUsage
	Scratch      []byte // overwritten where Model needs escapes, which allocates if this is too small
}

// AsksUsage reports whether Edits with IncludeUsage makes a stream yield a usage
// event that its client did not ask for, and that must not reach it. False where
// the request does not stream, asks by itself, or has a stream_options that the
// provider will refuse.
func (r *Request) AsksUsage() bool { return r.Stream && r.usage.how != usageLeave }

// Edits appends to dst the splices, at most two, in order of Off and not touching,
// that make the body given to Parse say what opt asks. A model is only ever
// replaced, never added.
func (r *Request) Edits(dst []Edit, opt EditOptions) []Edit {
	n := len(dst)
	if len(opt.Model) > 0 && r.HasModel && !bytes.Equal(opt.Model, r.Model) {
		name := opt.Model
		if needsEscape(name) {
			name = appendEscaped(opt.Scratch[:0], name)
		}
		dst = append(dst, Edit{Off: r.modelText.from, Del: r.modelText.to - r.modelText.from, Ins: name})
	}
	if opt.IncludeUsage && r.AsksUsage() {
		e := r.usageEdit()
		dst = append(dst, e)
		if len(dst) == n+2 && e.Off < dst[n].Off {
			dst[n], dst[n+1] = e, dst[n]
		}
	}
	return dst
}

func (r *Request) usageEdit() Edit {
	at := r.usage.at
	e := Edit{Off: at.from, Del: at.to - at.from}
	switch r.usage.how {
	case usageAddOptions:
		// The document has a member, stream, so that the comma is right.
		e.Off, e.Ins = r.brace+1, textAddOptions
	case usageSetOptions:
		e.Ins = textSetOptions
	case usageFillOptions:
		e.Ins = textFillOptions
	case usageAddMember:
		e.Ins = textAddMember
	case usageSetMember:
		e.Ins = textSetMember
	}
	return e
}

// EditedLen is the length of a body of bodyLen bytes after the edits.
func EditedLen(bodyLen int, edits []Edit) int {
	for _, e := range edits {
		bodyLen += len(e.Ins) - e.Del
	}
	return bodyLen
}

// AppendEdited appends body with the edits, as Edits returned them, to dst, which
// must not overlap body.
func AppendEdited(dst, body []byte, edits []Edit) []byte {
	at := 0
	for _, e := range edits {
		dst = append(dst, body[at:e.Off]...)
		dst = append(dst, e.Ins...)
		at = e.Off + e.Del
	}
	return append(dst, body[at:]...)
}
