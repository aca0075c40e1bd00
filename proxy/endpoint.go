package proxy

import (
	"bytes"

	"streamrelay/configs"
	"streamrelay/proxy/h1"
	"streamrelay/proxy/watch"
)

// dialect is the API that a path belongs to.
type dialect uint8

const (
	dialectOpenAI dialect = iota
	dialectAnthropic
	dialectGemini
	dialectAzure
)

var dialectNames = [...]configs.Dialect{configs.OpenAI, configs.Anthropic, configs.Gemini, configs.Azure}

// endpoint is a row of the table of what is relayed. The order of endpoints
// gives a row its number in metrics.
type endpoint struct {
	name   string // metric label
	prefix string // of the path after the dialect's root
	json   bool   // a POST's body is JSON whatever its Content-Type says, unless it is a form
	model  bool   // a POST names a model that rules apply to
	exact  bool   // … only at the path itself, not below it
	blind  bool   // a body below it, or there, may name models in places that the relay does not know
	files  bool   // … or in files
	family watch.Family
	usage  bool // stream_options.include_usage is understood
	learns bool // answers name objects that only the account has which made them
	stored bool // … and requests that no model is named for may be about any account's
	later  bool // its work may go on behind the answer, which then counts nothing yet
}

// endpoints is searched in order; the last row takes what no other does.
var endpoints = [...]endpoint{
	{name: "chat_completions", prefix: "/chat/completions", json: true, model: true, exact: true, family: watch.Chat, usage: true},
	{name: "completions", prefix: "/completions", json: true, model: true, exact: true, family: watch.Chat, usage: true},
	{name: "responses", prefix: "/responses", json: true, model: true, exact: true, family: watch.Responses, learns: true, stored: true, later: true},
	{name: "embeddings", prefix: "/embeddings", json: true, model: true, exact: true, family: watch.Other},
	{name: "count_tokens", prefix: "/messages/count_tokens", json: true, model: true, exact: true, family: watch.Messages},
	{name: "messages", prefix: "/messages", json: true, model: true, exact: true, blind: true, family: watch.Messages},
	{name: "models", prefix: "/models", blind: true, family: watch.Other},
	{name: "images", prefix: "/images", json: true, model: true, family: watch.Responses},
	{name: "audio", prefix: "/audio", json: true, model: true, family: watch.Responses},
	{name: "moderations", prefix: "/moderations", json: true, model: true, exact: true, family: watch.Other},
	{name: "rerank", prefix: "/rerank", json: true, model: true, exact: true, family: watch.Other},
	{name: "files", prefix: "/files", family: watch.Other, learns: true},
	{name: "uploads", prefix: "/uploads", family: watch.Other, learns: true},
	{name: "batches", prefix: "/batches", blind: true, files: true, family: watch.Other, learns: true, later: true},
	{name: "interactions", prefix: "/interactions", json: true, model: true, exact: true, family: watch.Interactions, learns: true, stored: true, later: true},
	{name: "generate_content", prefix: ":", json: true, model: true, family: watch.Gemini},
	{name: "other", blind: true, family: watch.Other},
}

const (
	endpointGemini = len(endpoints) - 2
	endpointOther  = len(endpoints) - 1
)

// EndpointNames lists the endpoint label's values in the order of their
// numbers.
func EndpointNames() []string {
	names := make([]string, len(endpoints))
	for i, e := range endpoints {
		names[i] = e.name
	}
	return names
}

// target is what a request line asks for.
type target struct {
	path, query []byte // as they came; the query without its ?
	rest        []byte // the path after the dialect's root, with its slash
	dialect     dialect
	endpoint    int
	tail        []byte // what follows the endpoint's prefix
	scratch     []byte // where a path is decoded; nil: allocated
	pathModel   []byte // the model that the path names; nil: none
	compatible  bool   // of Gemini's, a path that speaks the OpenAI API

	// Where the model stands in rest, as it came; both 0 where its segment is
	// spelled so that it cannot be replaced.
	modelFrom, modelTo int
}

// parseTarget splits a request target (RFC 9112 §3.2). An absolute form is
// served as its path; its authority is nobody's business but the client's. The
// dialect is known also where it refuses.
func parseTarget(uri []byte, anthropicVersion bool, t *target) *apiError {
	if len(uri) > 0 && uri[0] != '/' {
		i := bytes.Index(uri, []byte("://"))
		if i < 0 {
			return errTarget // an asterisk, an authority, or nothing that is known
		}
		uri = uri[i+3:]
		if i = bytes.IndexAny(uri, "/?#"); i < 0 || uri[i] != '/' {
			return errUnknownURL
		}
		uri = uri[i:]
	}
	t.path = uri
	if i := bytes.IndexAny(uri, "?#"); i >= 0 { // before it is refused: the path is recorded, what follows may hold a key
		t.path = uri[:i]
		if uri[i] == '?' {
			t.query = uri[i+1:]
		}
	}
	if bytes.IndexByte(uri, '#') >= 0 { // a target has no fragment
		return errPathBytes
	}
	known := true
	switch {
	case underRoot(t.path, "/v1"):
		t.rest = t.path[len("/v1"):]
		if anthropicVersion || underRoot(t.rest, "/messages") {
			t.dialect = dialectAnthropic
		}
	case underRoot(t.path, "/v1beta"):
		t.rest, t.dialect = t.path[len("/v1beta"):], dialectGemini
	case underRoot(t.path, "/openai"):
		t.rest, t.dialect = t.path[len("/openai"):], dialectAzure
	default:
		known = false
	}
	if err := checkPath(t.path); err != nil {
		return err
	}
	twice := t.dialect != dialectAzure && (underRoot(t.rest, "/v1") || underRoot(t.rest, "/v1beta"))
	if !known || twice { // twice: by the base URL and by the SDK
		return errUnknownURL
	}
	return t.classify()
}

// classify finds the endpoint, and the model where the path names it. It refuses
// what a server that ignores case could take for one.
func (t *target) classify() *apiError {
	rest := t.rest
	if bytes.IndexByte(rest, '%') >= 0 {
		// As a server behind would read it, so that no rule is passed by
		// another spelling. Only ids with a slash come here.
		rest = decodeSegment(t.scratch[:0], rest)
	}
	rest = bytes.TrimSuffix(rest, []byte{'/'})
	switch t.dialect {
	case dialectGemini:
		if m, ok := bytes.CutPrefix(rest, []byte("/models/")); ok {
			if i := bytes.LastIndexByte(m, ':'); i >= 0 {
				t.pathModel, t.endpoint, t.tail = m[:i], endpointGemini, m[i+1:]
				t.spanModel("/models/", ':')
				return nil
			}
		}
		if o, ok := bytes.CutPrefix(rest, []byte("/openai")); ok {
			rest, t.compatible = o, true
		}
	case dialectAzure:
		if d, ok := bytes.CutPrefix(rest, []byte("/deployments/")); ok {
			if i := bytes.IndexByte(d, '/'); i > 0 {
				t.pathModel, rest = d[:i], d[i:]
				t.spanModel("/deployments/", '/')
			}
		} else if underRootFold(rest, "/deployments") && !underRoot(rest, "/deployments") {
			return errPathCase
		} else if v, ok := bytes.CutPrefix(rest, []byte("/v1")); ok {
			rest = v
		}
	}
	t.endpoint = endpointOther
	for i := range endpoints[:endpointGemini] {
		if underRoot(rest, endpoints[i].prefix) {
			t.endpoint, t.tail = i, rest[len(endpoints[i].prefix):]
			return nil
		}
	}
	for i := range endpoints[:endpointGemini] {
		if underRootFold(rest, endpoints[i].prefix) {
			return errPathCase
		}
	}
	return nil
}

// spanModel finds the model in rest, between prefix and end: the last one where
// that is a colon, which a model's name may hold.
func (t *target) spanModel(prefix string, end byte) {
	t.modelFrom, t.modelTo = 0, 0
	m, ok := bytes.CutPrefix(t.rest, []byte(prefix))
	i := bytes.IndexByte(m, end)
	if end == ':' {
		i = bytes.LastIndexByte(m, end)
	}
	if ok && i >= 0 {
		t.modelFrom, t.modelTo = len(prefix), len(prefix)+i
	}
}

// underRoot reports whether path is root or lies below it.
func underRoot(path []byte, root string) bool {
	return len(path) >= len(root) && string(path[:len(root)]) == root &&
		(len(path) == len(root) || path[len(root)] == '/')
}

// underRootFold is underRoot to those who ignore case.
func underRootFold(path []byte, root string) bool {
	return hasPrefixFold(path, root) && (len(path) == len(root) || path[len(root)] == '/')
}

// checkPath refuses what a server behind the relay could read as another path
// than the one that rules were applied to: dot segments, encoded or not, empty
// segments, backslashes, path parameters, encodings of characters that need
// none (RFC 3986 §6.2.2.2), and bytes that do not belong into a path.
func checkPath(p []byte) *apiError {
	dots, length := 0, 0 // of the segment so far, decoded
	dotSegment := func() bool { return length == dots && (dots == 1 || dots == 2) }
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c <= ' ' || c >= 0x7f || c == '#' || c == '\\' || c == ';' {
			return errPathBytes
		}
		raw := true
		if c == '%' {
			if i+2 >= len(p) {
				return errPathBytes
			}
			hi, lo := h1.HexValue(p[i+1]), h1.HexValue(p[i+2])
			if hi < 0 || lo < 0 {
				return errPathBytes
			}
			raw, c = false, byte(hi<<4|lo)
			i += 2
			if c < ' ' || c == 0x7f || c == '\\' || c == ';' || c == 0xc0 || c == 0xc1 { // the last two are never UTF-8
				return errPathBytes
			}
		}
		switch {
		case c == '/':
			if dotSegment() {
				return errDotDot
			}
			if length == 0 && i > 0 {
				return errSlashes
			}
			dots, length = 0, 0
		case c == '.':
			dots++
			length++
		case !raw && unreserved(c):
			return errPathBytes
		default:
			length++
		}
	}
	if dotSegment() {
		return errDotDot
	}
	return nil
}

func unreserved(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_' || c == '~'
}

// decodeSegment appends s with its percent-encodings undone; s was checked by
// checkPath.
func decodeSegment(dst, s []byte) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' && i+2 < len(s) {
			c = byte(h1.HexValue(s[i+1])<<4 | h1.HexValue(s[i+2]))
			i += 2
		}
		dst = append(dst, c)
	}
	return dst
}
