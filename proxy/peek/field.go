package peek

import "unicode/utf8"

// field is a key the relay reads, as a bit, so that a set of them is a word.
type field uint16

const (
	fieldModel field = 1 << iota
	fieldStream
	fieldStreamOptions
	fieldMaxTokens
	fieldMaxCompletionTokens
	fieldMaxOutputTokens
	fieldPreviousResponseID
	fieldIncludeUsage

	topFields     = fieldIncludeUsage - 1 // what is read at the top level
	optionsFields = fieldIncludeUsage     // what is read in stream_options
)

// maxFieldLen is the length of the longest key the relay reads, max_completion_tokens.
const maxFieldLen = 21

// fieldNamed finds the field of a name in lower case; 0 for any other name.
func fieldNamed(name []byte) field {
	switch string(name) {
	case "model":
		return fieldModel
	case "stream":
		return fieldStream
	case "stream_options":
		return fieldStreamOptions
	case "max_tokens":
		return fieldMaxTokens
	case "max_completion_tokens":
		return fieldMaxCompletionTokens
	case "max_output_tokens":
		return fieldMaxOutputTokens
	case "previous_response_id":
		return fieldPreviousResponseID
	case "include_usage":
		return fieldIncludeUsage
	}
	return 0
}

// param is the key as an API's error object names it.
func (f field) param() string {
	switch f {
	case fieldModel:
		return "model"
	case fieldStream:
		return "stream"
	case fieldStreamOptions:
		return "stream_options"
	case fieldMaxTokens:
		return "max_tokens"
	case fieldMaxCompletionTokens:
		return "max_completion_tokens"
	case fieldMaxOutputTokens:
		return "max_output_tokens"
	case fieldPreviousResponseID:
		return "previous_response_id"
	case fieldIncludeUsage:
		return "stream_options.include_usage"
	}
	return ""
}

// fieldOf finds the field that a key, as written between its quotes, stands for;
// 0 for none. exact is false where only readers that ignore case would take it for
// that field: Go's encoding/json does, and some of Java's and C#'s.
func fieldOf(raw []byte) (f field, exact bool) {
	// Most keys are told by their first byte. Other letters than these begin no field.
	if len(raw) > 0 && raw[0] < utf8.RuneSelf && raw[0] != '\\' {
		switch raw[0] | 0x20 {
		case 'm', 's', 'p', 'i':
		default:
			return 0, false
		}
	}
	var name [maxFieldLen]byte
	n, exact := foldKey(&name, raw)
	return fieldNamed(name[:n]), exact
}

// foldKey writes the name that a key may be taken for when case is ignored, and
// returns its length, 0 where it is none of lower-case ASCII letters and
// underscores. exact is false where case was ignored.
func foldKey(name *[maxFieldLen]byte, raw []byte) (n int, exact bool) {
	if len(raw) > 6*maxFieldLen { // even were each letter written \uXXXX
		return 0, false
	}
	exact = true
	for len(raw) > 0 {
		r, size := nextRune(raw)
		raw = raw[size:]
		c := foldRune(r)
		if c == 0 || n == len(name) {
			return 0, false
		}
		exact = exact && rune(c) == r
		name[n] = c
		n++
	}
	return n, exact
}

// foldRune is the lower-case ASCII letter or underscore that r may be taken
// for when case is ignored, or 0. Beside A-Z these are the letters whose Unicode
// case pairs reach into ASCII: ſ and K by simple folding (bytes.EqualFold,
// encoding/json), dotted İ and dotless ı by the upper and lower case of Java.
func foldRune(r rune) byte {
	switch {
	case r >= 'a' && r <= 'z', r == '_':
		return byte(r)
	case r >= 'A' && r <= 'Z':
		return byte(r) | 0x20
	case r == 'ſ': // U+017F
		return 's'
	case r == '\u212A': // Kelvin sign
		return 'k'
	case r == 'İ', r == 'ı': // U+0130, U+0131
		return 'i'
	}
	return 0
}
