package simulate

import (
	"bytes"
	"encoding/json"
	"net/url"
)

// streaming says when an API answers with a stream.
type streaming int

const (
	never  streaming = iota
	asked            // where the body says "stream": true
	always           // by its path
)

// route is what a method and a path ask for.
type route struct {
	name   string
	shape  *shape
	stream streaming
	model  string // named by the path; "": by the body
	array  bool   // the JSON answer is one element of an array
	drop   bool   // the body is read but not kept
	timed  bool   // a JSON answer takes the time of its tokens
}

// routes by method and the path's end, whatever stands before it, so that the
// provider serves /v1, /openai/deployments/x, /v1beta/openai and a bare base
// alike. The first match wins.
var routes = []struct {
	method, suffix string
	route          route
}{
	{"POST", "/chat/completions", route{name: "chat.completions", shape: &chatShape, stream: asked, timed: true}},
	{"POST", "/messages", route{name: "messages", shape: &messagesShape, stream: asked, timed: true}},
	{"POST", "/messages/count_tokens", route{name: "count_tokens", shape: &countTokensShape}},
	{"POST", "/responses", route{name: "responses", shape: &responsesShape, stream: asked, timed: true}},
	{"POST", "/completions", route{name: "completions", shape: &completionsShape, stream: asked, timed: true}},
	{"POST", "/embeddings", route{name: "embeddings", shape: &embeddingsShape}},
	{"GET", "/models", route{name: "models", shape: &modelsShape}},
	{"POST", "/audio/transcriptions", route{name: "audio.transcriptions", shape: &transcriptionShape, drop: true}},
	{"POST", "/audio/translations", route{name: "audio.translations", shape: &transcriptionShape, drop: true}},
	{"POST", "/audio/speech", route{name: "audio.speech", shape: &speechShape, stream: always}},
	{"POST", "/images/generations", route{name: "images.generations", shape: &imagesShape}},
	{"POST", "/images/edits", route{name: "images.edits", shape: &imagesShape, drop: true}},
}

func findRoute(method, path, query []byte) route {
	for i := range routes {
		r := &routes[i]
		if string(method) == r.method && bytes.HasSuffix(path, []byte(r.suffix)) {
			return r.route
		}
	}
	at := bytes.LastIndex(path, []byte("/models/"))
	if at < 0 {
		return route{name: "unknown", shape: &unknownShape, drop: true}
	}
	id := path[at+len("/models/"):]
	if string(method) == "GET" {
		return route{name: "model", shape: &modelShape, model: quotePath(id)}
	}
	colon := bytes.LastIndexByte(id, ':')
	if string(method) == "POST" && colon > 0 {
		r := route{shape: &geminiShape, model: quotePath(id[:colon]), timed: true}
		switch string(id[colon+1:]) {
		case "streamGenerateContent":
			r.name, r.stream = "gemini.stream", always
			if !bytes.Contains(query, []byte("alt=sse")) {
				// The API then streams the elements of a JSON array; here
				// the array has one.
				r.stream, r.array = never, true
			}
			return r
		case "generateContent":
			r.name = "gemini.generate"
			return r
		}
	}
	return route{name: "unknown", shape: &unknownShape, drop: true}
}

// quotePath decodes a path segment and quotes it as JSON.
func quotePath(b []byte) string {
	s, err := url.PathUnescape(string(b))
	if err != nil {
		s = string(b)
	}
	return quote(s)
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil { // never: any string can be marshalled
		return `""`
	}
	return string(b)
}

// asks is what the provider reads in a JSON body.
type asks struct {
	Model         string `json:"model"`
	Stream        bool   `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	EncodingFormat string `json:"encoding_format"`
	Input          inputs `json:"input"`
}

// inputs is how many texts "input" holds: it is one, as a string or a list of
// tokens, or a list of such.
type inputs int

const maxInputs = 2048 // OpenAI's own bound

// UnmarshalJSON counts.
func (n *inputs) UnmarshalJSON(b []byte) error {
	*n = 1
	var list []json.RawMessage
	if b[0] != '[' {
		return nil
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	if len(list) > 0 && (list[0][0] == '"' || list[0][0] == '[') {
		*n = inputs(min(len(list), maxInputs))
	}
	return nil
}

// bodyMemo remembers the last body of a connection: load generators send the
// same one again and again, and decoding JSON would be most of a request's cost.
type bodyMemo struct {
	body  []byte
	model string
	asks  asks
}

const memoMax = 16 << 10

func (m *bodyMemo) read(body []byte, a *answer) error {
	if len(body) == 0 || !bytes.Equal(body, m.body) {
		m.asks, m.model = asks{}, `"simulated"`
		m.body = m.body[:0]
		if len(bytes.TrimSpace(body)) > 0 {
			if err := json.Unmarshal(body, &m.asks); err != nil {
				return err
			}
		}
		if m.asks.Model != "" {
			m.model = quote(m.asks.Model)
		}
		if len(body) <= memoMax {
			m.body = append(m.body, body...)
		}
	}
	if a.model == "" {
		a.model = m.model
	}
	a.stream = m.asks.Stream
	a.usage = m.asks.Stream && m.asks.StreamOptions != nil && m.asks.StreamOptions.IncludeUsage
	a.inputs = max(int(m.asks.Input), 1)
	a.base64 = m.asks.EncodingFormat == "base64"
	return nil
}
