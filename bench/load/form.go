package load

import (
	"bytes"
	"encoding/json"
	"errors"
)

var (
	errNoTerminal = errors.New("clean end, no terminal event")
	errEvent      = errors.New("error event")
	errNotJSON    = errors.New("not JSON")
	errNotStream  = errors.New("not an event stream")
	errNothing    = errors.New("no output in the stream")
	errAfter      = errors.New("more than the answer")
	errUnchecked  = errors.New("JSON above 4 MiB, which is not checked")
)

// form checks an answer of a provider whose bytes nobody knows beforehand: a
// stream must carry output, no error event, and the terminal event of its API
// as its last; anything else must be JSON and no error object. A lost or altered event in between
// cannot be seen; only the simulated provider shows that.
type form struct {
	terminal []byte // what the terminal event's data is or, in quotes, its type
	stream   bool
	line     []byte // the current line, its first maxLine bytes
	held     []byte // a JSON answer, its first maxJSON bytes
	size     int
	done     bool // the terminal event came
	output   bool // an event with output came
	failed   bool
	after    bool // an event came behind the terminal one
}

const (
	maxLine = 64 << 10 // enough to see what an event is
	maxJSON = 4 << 20
)

func (f *form) reset(terminal []byte, stream bool) {
	*f = form{terminal: terminal, stream: stream, line: f.line[:0], held: f.held[:0]}
}

// feed takes the next bytes and calls event for each event with output.
func (f *form) feed(b []byte, event func()) error {
	f.size += len(b)
	if !f.stream {
		f.held = append(f.held, b[:min(len(b), maxJSON-len(f.held))]...)
		return nil
	}
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		part := b
		if i >= 0 {
			part = b[:i]
		}
		f.line = append(f.line, part[:min(len(part), maxLine-len(f.line))]...)
		if i < 0 {
			return nil
		}
		b = b[i+1:]
		if f.see(bytes.TrimRight(f.line, "\r")) {
			event()
		}
		f.line = f.line[:0]
	}
	return nil
}

// see looks at one line and reports whether it carries output.
func (f *form) see(line []byte) bool {
	if name, ok := bytes.CutPrefix(line, []byte("event:")); ok && bytes.HasPrefix(bytes.TrimLeft(name, " "), []byte("error")) {
		f.failed = true
	}
	value, ok := bytes.CutPrefix(line, []byte("data:"))
	if !ok {
		return false
	}
	value = bytes.Trim(value, " ")
	f.after = f.after || f.done
	switch {
	case isError(value):
		f.failed = true
	case bytes.Equal(value, f.terminal), f.terminal[0] == '"' && anyField(value, typeName, f.isTerminal):
		f.done = true
	case hasOutput(value):
		f.output = true
		return true
	}
	return false
}

// isError reports whether JSON is an object with an error in it.
func isError(b []byte) bool {
	if !bytes.Contains(b, []byte(`"error"`)) {
		return false
	}
	var v struct {
		Error json.RawMessage `json:"error"`
	}
	return json.Unmarshal(b, &v) == nil && len(v.Error) > 0 && string(v.Error) != "null"
}

// typeName is the field that holds an event's type.
var typeName = []byte(`"type"`)

func (f *form) isTerminal(value []byte) bool { return bytes.HasPrefix(value, f.terminal) }

// outputs are the fields that carry what a model says, thinks or calls, in the
// streams of OpenAI's three APIs and of Anthropic's.
var outputs = [][]byte{
	[]byte(`"content"`), []byte(`"reasoning_content"`), []byte(`"text"`), []byte(`"delta"`),
	[]byte(`"arguments"`), []byte(`"thinking"`), []byte(`"partial_json"`),
}

// hasOutput reports whether one of the fields is there and not empty.
func hasOutput(event []byte) bool {
	for _, name := range outputs {
		if anyField(event, name, saysSomething) {
			return true
		}
	}
	return false
}

func saysSomething(value []byte) bool { return len(value) > 1 && value[0] == '"' && value[1] != '"' }

// anyField reports whether is says so of one of the fields with a name, which is
// in quotes: it is given what follows the colon and the spaces that some put
// behind it. Within a text the quotes would be escaped.
func anyField(event, name []byte, is func(value []byte) bool) bool {
	for {
		i := bytes.Index(event, name)
		if i < 0 {
			return false
		}
		event = event[i+len(name):]
		if value, ok := bytes.CutPrefix(bytes.TrimLeft(event, " "), []byte(":")); ok && is(bytes.TrimLeft(value, " ")) {
			return true
		}
	}
}

// end says whether the body may end here.
func (f *form) end() error {
	switch {
	case !f.stream:
		switch {
		case f.size > maxJSON:
			return errUnchecked
		case !json.Valid(f.held):
			return errNotJSON
		case isError(f.held):
			return errEvent
		}
		return nil
	case f.failed:
		return errEvent
	case f.after:
		return errAfter
	case !f.done:
		return errNoTerminal
	case !f.output:
		return errNothing
	}
	return nil
}
