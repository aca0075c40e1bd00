package proxy

import (
	"bytes"

	"streamrelay/proxy/h1"
)

// fieldClass says what becomes of a header field.
type fieldClass uint8

const (
	fieldPass   fieldClass = iota // end to end: goes on as it came
	fieldDrop                     // hop-by-hop, the relay's own, or nobody's business upstream
	fieldLength                   // Content-Length, Transfer-Encoding: framing, written anew
	fieldConnection
	fieldAuthorization
	fieldXAPIKey
	fieldAPIKey
	fieldGoogKey
	fieldTenant
	fieldRequestID
	fieldExpect
	fieldUpgrade
	fieldContentType
	fieldContentEncoding
	fieldAnthropicVersion
	fieldUserAgent
	fieldCacheControl
	fieldUpstreamID
	fieldTraceparent
	fieldTracestate
)

type fieldRow struct {
	name  string
	class fieldClass
}

// fieldTable is a list of names by length, so that a field costs one or two
// comparisons.
type fieldTable [32][]fieldRow

func newFieldTable(rows []fieldRow) (t fieldTable) {
	for _, r := range rows {
		t[len(r.name)] = append(t[len(r.name)], r)
	}
	return t
}

func (t *fieldTable) class(name []byte) fieldClass {
	if len(name) < len(t) {
		for i := range t[len(name)] {
			if r := &t[len(name)][i]; h1.EqualFold(name, r.name) {
				return r.class
			}
		}
	}
	return fieldPass
}

// requestFields is what does not go to an upstream as it came: RFC 9110
// §7.6.1, every place a key of ours may stand in, other accounts' names,
// what browsers and proxies add.
var requestFields = newFieldTable([]fieldRow{
	{"connection", fieldConnection},
	{"keep-alive", fieldDrop},
	{"proxy-connection", fieldDrop},
	{"proxy-authenticate", fieldDrop},
	{"proxy-authorization", fieldDrop},
	{"te", fieldDrop},
	{"trailer", fieldDrop},
	{"transfer-encoding", fieldLength},
	{"content-length", fieldLength},
	{"upgrade", fieldUpgrade},
	{"http2-settings", fieldDrop},
	{"host", fieldDrop},
	{"expect", fieldExpect},
	{"accept-encoding", fieldDrop},
	{"authorization", fieldAuthorization},
	{"x-api-key", fieldXAPIKey},
	{"api-key", fieldAPIKey},
	{"x-goog-api-key", fieldGoogKey},
	{"cookie", fieldDrop},
	{"openai-organization", fieldDrop},
	{"openai-project", fieldDrop},
	{"origin", fieldDrop},
	{"referer", fieldDrop},
	{"forwarded", fieldDrop},
	{"x-real-ip", fieldDrop},
	{"via", fieldDrop},
	{"true-client-ip", fieldDrop},
	{"baggage", fieldDrop},
	{"traceparent", fieldTraceparent},
	{"tracestate", fieldTracestate},
	{"x-tenant-id", fieldTenant},
	{"x-request-id", fieldRequestID},
	{"content-type", fieldContentType},
	{"content-encoding", fieldContentEncoding},
	{"anthropic-version", fieldAnthropicVersion},
	{"user-agent", fieldUserAgent},
})

// answerFields is what does not go to a client as it came: hop-by-hop, and
// what speaks of the upstream's host, of its account or to browsers about it.
var answerFields = newFieldTable([]fieldRow{
	{"connection", fieldDrop},
	{"keep-alive", fieldDrop},
	{"proxy-connection", fieldDrop},
	{"proxy-authenticate", fieldDrop},
	{"te", fieldDrop},
	{"trailer", fieldDrop},
	{"upgrade", fieldDrop},
	{"transfer-encoding", fieldLength},
	{"content-length", fieldLength},
	{"set-cookie", fieldDrop},
	{"alt-svc", fieldDrop},
	{"strict-transport-security", fieldDrop},
	{"openai-organization", fieldDrop},
	{"openai-project", fieldDrop},
	{"anthropic-organization-id", fieldDrop},
	{"server", fieldDrop},
	{"date", fieldDrop},
	{"nel", fieldDrop},
	{"report-to", fieldDrop},
	{"reporting-endpoints", fieldDrop},
	{"x-request-id", fieldUpstreamID},
	{"x-upstream-request-id", fieldDrop}, // ours
	{"x-sendfile", fieldDrop},
	{"cache-control", fieldCacheControl},
	{"content-type", fieldContentType},
})

// classifyRequest adds the families of names to the table.
func classifyRequest(name []byte) fieldClass {
	if c := requestFields.class(name); c != fieldPass {
		return c
	}
	if hasPrefixFold(name, "x-forwarded-") || hasPrefixFold(name, "sec-") || hasPrefixFold(name, "cf-") {
		return fieldDrop
	}
	return fieldPass
}

func classifyAnswer(name []byte) fieldClass {
	if c := answerFields.class(name); c != fieldPass {
		return c
	}
	if hasPrefixFold(name, "x-ratelimit-") || hasPrefixFold(name, "anthropic-ratelimit-") {
		return fieldDrop // the shared account's, not the client's
	}
	if hasPrefixFold(name, "cf-") || hasPrefixFold(name, "access-control-") ||
		hasPrefixFold(name, "x-accel-") { // a command to an nginx in front
		return fieldDrop
	}
	return fieldPass
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && h1.EqualFold(b[:len(prefix)], prefix)
}

// requestHead is what the relay reads from a request's field lines. Its slices
// are parts of them.
type requestHead struct {
	authorization, xAPIKey, apiKey, googKey []byte
	tenant, requestID                       []byte
	contentType, contentEncoding            []byte
	userAgent                               []byte
	trace                                   traceContext
	traces                                  int // traceparent fields
	connection                              [maxConnectionFields][]byte
	connections                             int
	tenants                                 int
	length                                  int64 // of the body, or lengthNone, lengthChunked
	upgrade                                 []byte
	anthropicVersion, expect                bool
	twice                                   bool // a credential stands twice
	traced                                  bool // there is one, and it is valid
	vague                                   bool // Content-Type or Content-Encoding stands twice
}

// maxConnectionFields is more than any client sends.
const maxConnectionFields = 4

// maxConnectionOptions bounds what they name together.
const maxConnectionOptions = 64

// scan reads the field lines of a request, which were checked.
func (h *requestHead) scan(block []byte) {
	*h = requestHead{length: lengthNone}
	once := func(p *[]byte, v []byte, again *bool) {
		if *p != nil {
			*again = true
		}
		*p = v
	}
	for f := h1.NewFields(block); f.Next(); {
		switch classifyRequest(f.Name) {
		case fieldPass, fieldDrop, fieldTracestate:
		case fieldLength:
			if h1.EqualFold(f.Name, "content-length") {
				h.length = h1.ParseLength(f.Value)
			} else {
				h.length = lengthChunked
			}
		case fieldAuthorization:
			once(&h.authorization, f.Value, &h.twice)
		case fieldXAPIKey:
			once(&h.xAPIKey, f.Value, &h.twice)
		case fieldAPIKey:
			once(&h.apiKey, f.Value, &h.twice)
		case fieldGoogKey:
			once(&h.googKey, f.Value, &h.twice)
		case fieldTenant:
			h.tenants++
			h.tenant = f.Value
		case fieldRequestID:
			h.requestID = f.Value
		case fieldContentType:
			once(&h.contentType, f.Value, &h.vague)
		case fieldContentEncoding:
			once(&h.contentEncoding, f.Value, &h.vague)
		case fieldUserAgent:
			h.userAgent = f.Value
		case fieldTraceparent:
			h.traces++
			h.traced = h.trace.parse(f.Value) && h.traces == 1
		case fieldAnthropicVersion:
			h.anthropicVersion = true
		case fieldUpgrade:
			h.upgrade = f.Value
		case fieldExpect:
			h.expect = h1.EqualFold(f.Value, "100-continue")
		case fieldConnection:
			if h.connections < maxConnectionFields {
				h.connection[h.connections] = f.Value
			}
			h.connections++
		}
	}
}

// hasBody reports whether a body follows the head.
func (h *requestHead) hasBody() bool { return h.length > 0 || h.length == lengthChunked }

// checkConnection refuses a Connection header that names a field which the
// relay itself relies on: stripping it would change whose request this is.
func (h *requestHead) checkConnection() *apiError {
	if h.connections > maxConnectionFields {
		return errConnections
	}
	options := 0
	for _, list := range h.connection[:h.connections] {
		for len(list) > 0 {
			if options++; options > maxConnectionOptions { // each field would be compared with each
				return errConnections
			}
			var name []byte
			name, list, _ = bytes.Cut(list, comma)
			name = bytes.TrimSpace(name)
			switch classifyRequest(name) {
			case fieldPass, fieldDrop, fieldUpgrade, fieldTraceparent, fieldTracestate:
				if h1.EqualFold(name, "cookie") || h1.EqualFold(name, "host") {
					return errConnection
				}
			default:
				if !h1.EqualFold(name, "transfer-encoding") { // hop-by-hop in any case
					return errConnection
				}
			}
		}
	}
	return nil
}

var comma = []byte{','}

// namedByConnection reports whether the Connection header makes the field
// hop-by-hop.
func (h *requestHead) namedByConnection(name []byte) bool {
	for _, list := range h.connection[:min(h.connections, maxConnectionFields)] {
		for len(list) > 0 {
			var one []byte
			one, list, _ = bytes.Cut(list, comma)
			if bytes.EqualFold(bytes.TrimSpace(one), name) {
				return true
			}
		}
	}
	return false
}

// credential returns the one key that the request presents, or why there is
// none. The key is a part of the head or of the query.
func (h *requestHead) credential(queryKey []byte) ([]byte, *apiError) {
	if h.twice {
		return nil, errTwoKeys
	}
	var key []byte
	for _, k := range [...][]byte{bearer(h.authorization), h.xAPIKey, h.apiKey, h.googKey, queryKey} {
		if len(k) == 0 {
			continue
		}
		if key != nil && !bytes.Equal(key, k) {
			return nil, errTwoKeys
		}
		key = k
	}
	if key == nil {
		return nil, errNoKey
	}
	return key, nil
}

// bearer returns the token of an Authorization value; the scheme is
// case-insensitive (RFC 9110 §11.1).
func bearer(v []byte) []byte {
	if len(v) > 7 && v[6] == ' ' && hasPrefixFold(v, "bearer") {
		return bytes.TrimLeft(v[7:], " ")
	}
	return nil
}

// validRequestID is the form in which a client's own request id is taken over.
func validRequestID(b []byte) bool {
	if len(b) == 0 || len(b) > 128 {
		return false
	}
	for _, c := range b {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
