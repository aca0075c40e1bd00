package peek

import "strconv"

// The codes of an Error. All of them are the client's fault: status 400.
const (
	CodeInvalidJSON  = "invalid_json"  // not a JSON text by RFC 8259, or cut short, or empty
	CodeNotObject    = "not_object"    // JSON, but its top level is not an object
	CodeBOM          = "bom"           // begins with a byte order mark (RFC 8259 §8.1 forbids it)
	CodeTrailingData = "trailing_data" // something follows the document
	CodeTooDeep      = "too_deep"      // nested beyond MaxDepth
	CodeDuplicateKey = "duplicate_key" // a key the relay reads stands there twice
	CodeAmbiguousKey = "ambiguous_key" // a key that some readers take for one the relay reads
	CodeBadType      = "bad_type"      // a value the relay reads has the wrong JSON type
	CodeBadValue     = "bad_value"     // a model name too long, not UTF-8, or with control characters
)

// Error says why a body was refused.
type Error struct {
	Code    string // one of the Code constants
	Offset  int    // byte of the body at which it was noticed
	Param   string // the key concerned as the API writes it, such as "stream_options.include_usage", or ""
	Message string // a sentence for the client, without anything of the body
}

func (e *Error) Error() string {
	return e.Code + " at byte " + strconv.Itoa(e.Offset) + ": " + e.Message
}

// keyError is about a key the relay reads; what continues "`key` …".
func keyError(code string, offset int, f field, what string) *Error {
	param := f.param()
	return &Error{Code: code, Offset: offset, Param: param, Message: "`" + param + "` " + what + "."}
}

// scanError tells what the scanner ran into at offset.
func scanError(body []byte, offset int, why fault) *Error {
	switch {
	case why == faultDepth:
		return &Error{Code: CodeTooDeep, Offset: offset,
			Message: "The request body nests more than " + strconv.Itoa(MaxDepth) + " levels deep."}
	case offset >= len(body):
		return &Error{Code: CodeInvalidJSON, Offset: offset,
			Message: "The request body ends before its JSON document does."}
	default:
		return &Error{Code: CodeInvalidJSON, Offset: offset,
			Message: "The request body is not valid JSON at byte " + strconv.Itoa(offset) + "."}
	}
}

// startError tells why no object begins at offset, the first byte that is not white space.
func startError(body []byte, offset int) *Error {
	if offset >= len(body) {
		return &Error{Code: CodeInvalidJSON, Offset: offset,
			Message: "The request body is empty; a JSON object is expected."}
	}
	switch c := body[offset]; {
	case c == '[', c == '"', c == '-', c >= '0' && c <= '9', c == 't', c == 'f', c == 'n':
		return &Error{Code: CodeNotObject, Offset: offset,
			Message: "The request body must be a JSON object."}
	}
	return scanError(body, offset, faultSyntax)
}
