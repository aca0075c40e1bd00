package peek

import (
	"bytes"
	"math"
	"strconv"
)

// MaxTokensCeiling is the largest MaxTokens reported; what the client wrote may be
// larger. Sums of a few of them do not overflow.
const MaxTokensCeiling = 1 << 53

// maxResponseID bounds PreviousResponseID; some gateways' ids carry a base64 payload.
const maxResponseID = 1024

// Request is what a JSON request body says at its top level. The zero value is
// ready for Parse and may be reused for one body after another, by one goroutine
// at a time. Its slices point into the body or into the Request: they hold until
// either is reused. A Request must not be copied after Parse.
type Request struct {
	Model    []byte // unescaped, at most MaxModel bytes of UTF-8 without control characters
	HasModel bool   // false also where it is null

	Stream    bool // literally true
	HasStream bool // a boolean; false also where it is null

	HasStreamOptions  bool // of any type, null included
	StreamOptionsNull bool
	// IncludeUsage: stream_options.include_usage is literally true. Where it is not,
	// the client did not ask for the usage event, and must not see it if the relay
	// asked in its place (see AsksUsage).
	IncludeUsage bool

	// MaxTokens is the largest of max_tokens, max_completion_tokens and
	// max_output_tokens, rounded up and at most MaxTokensCeiling; -1 where none is a
	// number >= 0. Other types are left for the provider to refuse.
	MaxTokens int64

	// PreviousResponseID is nil where it is absent, not a string of UTF-8, or longer
	// than 1,024 bytes, which the provider will refuse. One that holds escapes is allocated.
	PreviousResponseID []byte

	modelText span // content of the model's string, without the quotes
	brace     int  // opening brace of the document
	usage     usageSite
	name      [MaxModel]byte // Model, where it was written with escapes
}

// Parse reads body, which it neither keeps a copy of nor changes. The error is nil
// or an *Error; after one the Request says nothing.
//
// The whole body is checked by RFC 8259, except that invalid UTF-8 inside strings
// passes: the provider judges it. Only keys of the top level and of stream_options
// are interpreted; repetitions of keys that the relay does not read pass as well.
func (r *Request) Parse(body []byte) error {
	*r = Request{}
	r.MaxTokens = -1
	if bytes.HasPrefix(body, []byte("\xef\xbb\xbf")) || bytes.HasPrefix(body, []byte("\xfe\xff")) ||
		bytes.HasPrefix(body, []byte("\xff\xfe")) {
		return &Error{Code: CodeBOM, Message: "The request body must be UTF-8 without a byte order mark."}
	}
	r.brace = skipSpace(body, 0)
	if r.brace >= len(body) || body[r.brace] != '{' {
		return startError(body, r.brace)
	}

	m := members{body: body, at: r.brace + 1, depth: 1}
	var seen field
	for {
		key, value, ok := m.next()
		if !ok {
			break
		}
		f, err := claim(&seen, body, key, topFields)
		if err == nil && f != 0 {
			err = r.read(body, f, value)
		}
		if err != nil {
			return err
		}
	}
	if m.err != nil {
		return m.err
	}
	if end := skipSpace(body, m.at); end < len(body) {
		return &Error{Code: CodeTrailingData, Offset: end,
			Message: "The request body must be a single JSON object; something follows it."}
	}
	return nil
}

// claim finds which of the fields in scope a key stands for, 0 for none, and
// refuses it where that is in doubt.
func claim(seen *field, body []byte, key span, scope field) (field, *Error) {
	f, exact := fieldOf(key.of(body))
	switch {
	case f&scope == 0:
		return 0, nil
	case !exact:
		return 0, keyError(CodeAmbiguousKey, key.from-1, f, "must be written in lower case")
	case *seen&f != 0:
		return 0, keyError(CodeDuplicateKey, key.from-1, f, "must not be given twice")
	}
	*seen |= f
	return f, nil
}

// read takes over the value, which is valid JSON, of a field of the top level.
func (r *Request) read(body []byte, f field, value span) *Error {
	first := body[value.from]
	switch f {
	case fieldModel:
		return r.readModel(body, value)
	case fieldStream:
		if first != 't' && first != 'f' && first != 'n' {
			return keyError(CodeBadType, value.from, f, "must be a boolean")
		}
		r.HasStream = first != 'n'
		r.Stream = first == 't'
	case fieldStreamOptions:
		return r.readStreamOptions(body, value)
	case fieldMaxTokens, fieldMaxCompletionTokens, fieldMaxOutputTokens:
		r.MaxTokens = max(r.MaxTokens, tokenCount(value.of(body)))
	case fieldPreviousResponseID:
		if first == '"' {
			r.PreviousResponseID, _ = unescape(nil, body[value.from+1:value.to-1], maxResponseID)
		}
	}
	return nil
}

func (r *Request) readModel(body []byte, value span) *Error {
	switch body[value.from] {
	case 'n':
		return nil
	case '"':
	default:
		return keyError(CodeBadType, value.from, fieldModel, "must be a string")
	}
	text := span{value.from + 1, value.to - 1}
	name, ok := unescape(r.name[:], text.of(body), MaxModel)
	if !ok || hasControl(name) {
		return keyError(CodeBadValue, value.from, fieldModel,
			"must be at most "+strconv.Itoa(MaxModel)+" bytes of UTF-8 without control characters")
	}
	r.Model, r.HasModel, r.modelText = name, true, text
	return nil
}

// tokenCount is the number that a JSON value is, or -1.
func tokenCount(value []byte) int64 {
	if c := value[0]; c != '-' && c-'0' > 9 {
		return -1
	}
	// 1e3 and 1000.0 are integers to many readers. Up to 32 bytes become a string on
	// the stack; a longer number means nothing, and is taken for the largest.
	if len(value) > 32 {
		if value[0] == '-' {
			return -1
		}
		return MaxTokensCeiling
	}
	n, err := strconv.ParseFloat(string(value), 64)
	if err != nil && !math.IsInf(n, 0) || n < 0 {
		return -1
	}
	return int64(math.Ceil(min(n, MaxTokensCeiling)))
}
