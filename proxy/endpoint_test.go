package proxy

import (
	"bytes"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"streamrelay/configs"
)

// TestPathsOfEveryAPI says of each path that clients use whose API it is, which
// row of the table it belongs to, what is appended to the upstream's base URL,
// what stands behind the endpoint, and which model the path names.
func TestPathsOfEveryAPI(t *testing.T) {
	const o, a, g, z = configs.OpenAI, configs.Anthropic, configs.Gemini, configs.Azure
	for _, c := range []struct {
		uri                  string
		dialect              configs.Dialect
		endpoint, rest, tail string
		model, query         string
		anthropicVersion     bool
	}{
		{uri: "/v1/chat/completions", dialect: o, endpoint: "chat_completions", rest: "/chat/completions"},
		{uri: "/v1/chat/completions/", dialect: o, endpoint: "chat_completions", rest: "/chat/completions/"},
		{uri: "/v1/chat/completions/chatcmpl-1/messages", dialect: o, endpoint: "chat_completions", rest: "/chat/completions/chatcmpl-1/messages", tail: "/chatcmpl-1/messages"},
		{uri: "/v1/completions", dialect: o, endpoint: "completions", rest: "/completions"},
		{uri: "/v1/responses", dialect: o, endpoint: "responses", rest: "/responses"},
		{uri: "/v1/responses/resp_1?include[]=a&include[]=b", dialect: o, endpoint: "responses", rest: "/responses/resp_1", tail: "/resp_1", query: "include[]=a&include[]=b"},
		{uri: "/v1/embeddings", dialect: o, endpoint: "embeddings", rest: "/embeddings"},
		{uri: "/v1/models", dialect: o, endpoint: "models", rest: "/models"},
		{uri: "/v1/models/Qwen%2FQwen2.5-7B-Instruct", dialect: o, endpoint: "models", rest: "/models/Qwen%2FQwen2.5-7B-Instruct", tail: "/Qwen/Qwen2.5-7B-Instruct"},
		{uri: "/v1/images/generations", dialect: o, endpoint: "images", rest: "/images/generations", tail: "/generations"},
		{uri: "/v1/images/edits", dialect: o, endpoint: "images", rest: "/images/edits", tail: "/edits"},
		{uri: "/v1/audio/transcriptions", dialect: o, endpoint: "audio", rest: "/audio/transcriptions", tail: "/transcriptions"},
		{uri: "/v1/audio/speech", dialect: o, endpoint: "audio", rest: "/audio/speech", tail: "/speech"},
		{uri: "/v1/moderations", dialect: o, endpoint: "moderations", rest: "/moderations"},
		{uri: "/v1/rerank", dialect: o, endpoint: "rerank", rest: "/rerank"},
		{uri: "/v1/files", dialect: o, endpoint: "files", rest: "/files"},
		{uri: "/v1/files/file-1/content", dialect: o, endpoint: "files", rest: "/files/file-1/content", tail: "/file-1/content"},
		{uri: "/v1/uploads/u/parts", dialect: o, endpoint: "uploads", rest: "/uploads/u/parts", tail: "/u/parts"},
		{uri: "/v1/batches", dialect: o, endpoint: "batches", rest: "/batches"},
		{uri: "/v1", dialect: o, endpoint: "other", rest: ""},
		{uri: "/v1/", dialect: o, endpoint: "other", rest: "/"},
		{uri: "/v1?x=/v1/messages", dialect: o, endpoint: "other", rest: "", query: "x=/v1/messages"},
		{uri: "/v1/realtime", dialect: o, endpoint: "other", rest: "/realtime"},
		{uri: "/v1/chat", dialect: o, endpoint: "other", rest: "/chat"},
		{uri: "/v1/chat/completionsx", dialect: o, endpoint: "other", rest: "/chat/completionsx"},
		{uri: "/v1/chat%2Fcompletions", dialect: o, endpoint: "chat_completions", rest: "/chat%2Fcompletions"},
		{uri: "/v1/chat/completions?", dialect: o, endpoint: "chat_completions", rest: "/chat/completions"},
		{uri: "/v1/chat/completions?a?b", dialect: o, endpoint: "chat_completions", rest: "/chat/completions", query: "a?b"},
		{uri: "http://api.openai.com/v1/models", dialect: o, endpoint: "models", rest: "/models"},
		{uri: "https://user@h:1/v1/models?a=b", dialect: o, endpoint: "models", rest: "/models", query: "a=b"},

		{uri: "/v1/messages", dialect: a, endpoint: "messages", rest: "/messages"},
		{uri: "/v1/messages?beta=true", dialect: a, endpoint: "messages", rest: "/messages", query: "beta=true"},
		{uri: "/v1/messages/count_tokens", dialect: a, endpoint: "count_tokens", rest: "/messages/count_tokens"},
		{uri: "/v1/messages/batches", dialect: a, endpoint: "messages", rest: "/messages/batches", tail: "/batches"},
		{uri: "/v1/messagesx", dialect: o, endpoint: "other", rest: "/messagesx"},
		{uri: "/v1/models", anthropicVersion: true, dialect: a, endpoint: "models", rest: "/models"},
		{uri: "/v1/files", anthropicVersion: true, dialect: a, endpoint: "files", rest: "/files"},

		{uri: "/v1beta/models/gemini-2.0-flash:generateContent", dialect: g, endpoint: "generate_content", rest: "/models/gemini-2.0-flash:generateContent", tail: "generateContent", model: "gemini-2.0-flash"},
		{uri: "/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse", dialect: g, endpoint: "generate_content", rest: "/models/gemini-2.0-flash:streamGenerateContent", tail: "streamGenerateContent", model: "gemini-2.0-flash", query: "alt=sse"},
		{uri: "/v1beta/models/tuned%2Fmine:countTokens", dialect: g, endpoint: "generate_content", rest: "/models/tuned%2Fmine:countTokens", tail: "countTokens", model: "tuned/mine"},
		{uri: "/v1beta/models", dialect: g, endpoint: "models", rest: "/models"},
		{uri: "/v1beta/models/gemini-2.0-flash", dialect: g, endpoint: "models", rest: "/models/gemini-2.0-flash", tail: "/gemini-2.0-flash"},
		{uri: "/v1beta/files", dialect: g, endpoint: "files", rest: "/files"},
		{uri: "/v1beta/openai/chat/completions", dialect: g, endpoint: "chat_completions", rest: "/openai/chat/completions"},
		{uri: "/v1beta/interactions", dialect: g, endpoint: "interactions", rest: "/interactions"},
		{uri: "/v1beta/interactions/v1_x?stream=true", dialect: g, endpoint: "interactions", rest: "/interactions/v1_x", tail: "/v1_x", query: "stream=true"},
		{uri: "/v1beta/interactions/v1_x/cancel", dialect: g, endpoint: "interactions", rest: "/interactions/v1_x/cancel", tail: "/v1_x/cancel"},
		{uri: "/v1beta/cachedContents", dialect: g, endpoint: "other", rest: "/cachedContents"},
		{uri: "/v1beta/openai", dialect: g, endpoint: "other", rest: "/openai"},
		{uri: "/v1beta/messages", anthropicVersion: true, dialect: g, endpoint: "messages", rest: "/messages"},

		{uri: "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21", dialect: z, endpoint: "chat_completions", rest: "/deployments/my-gpt/chat/completions", model: "my-gpt", query: "api-version=2024-10-21"},
		{uri: "/openai/deployments/my-gpt/embeddings", dialect: z, endpoint: "embeddings", rest: "/deployments/my-gpt/embeddings", model: "my-gpt"},
		{uri: "/openai/deployments/my-gpt/audio/transcriptions", dialect: z, endpoint: "audio", rest: "/deployments/my-gpt/audio/transcriptions", model: "my-gpt", tail: "/transcriptions"},
		{uri: "/openai/deployments/my-gpt", dialect: z, endpoint: "other", rest: "/deployments/my-gpt"},
		{uri: "/openai/deployments", dialect: z, endpoint: "other", rest: "/deployments"},
		{uri: "/openai/v1/responses", dialect: z, endpoint: "responses", rest: "/v1/responses"},
		{uri: "/openai/v1/chat/completions", dialect: z, endpoint: "chat_completions", rest: "/v1/chat/completions"},
		{uri: "/openai/models", dialect: z, endpoint: "models", rest: "/models"},
		{uri: "/openai", dialect: z, endpoint: "other", rest: ""},
	} {
		t.Run(c.uri, func(t *testing.T) {
			var got target
			if e := parseTarget([]byte(c.uri), c.anthropicVersion, &got); e != nil {
				t.Fatal(e)
			}
			if d := dialectNames[got.dialect]; d != c.dialect {
				t.Errorf("dialect %s, want %s", d, c.dialect)
			}
			if name := endpoints[got.endpoint].name; name != c.endpoint {
				t.Errorf("endpoint %s, want %s", name, c.endpoint)
			}
			if string(got.rest) != c.rest || string(got.tail) != c.tail || string(got.query) != c.query || string(got.pathModel) != c.model {
				t.Errorf("rest %q, tail %q, query %q, model %q; want %q, %q, %q, %q", got.rest, got.tail, got.query, got.pathModel, c.rest, c.tail, c.query, c.model)
			}
			if (got.pathModel != nil) != (c.model != "") {
				t.Errorf("path model %q", got.pathModel)
			}
		})
	}
}

func TestPathsThatAreNobodys(t *testing.T) {
	for _, uri := range []string{
		"", "/", "/v2/models", "/v1x/models", "/V1/models", "/v1betax", "/openaix", "/x/v1/models",
		"/v1/v1/messages", "/v1/v1", "/v1/v1beta/models", "/v1beta/v1beta/models/m:generateContent",
		"http://relay", "http://relay?x=/v1/models", "http://relay#/v1/models", "://", "http:///x/v1",
	} {
		var got target
		if e := parseTarget([]byte(uri), false, &got); e != errUnknownURL {
			t.Errorf("%q: %v", uri, e)
		}
	}
	for _, uri := range []string{"*", "relay:443", "v1/models", ":"} {
		var got target
		if e := parseTarget([]byte(uri), false, &got); e != errTarget {
			t.Errorf("%q: %v", uri, e)
		}
	}
}

// The path of a refused request is recorded too.
func TestAQueryIsNoPartOfThePathWhereAFragmentFollows(t *testing.T) {
	for _, uri := range []string{"/v1/models?key=secret#x", "/v1/models#key=secret", "/v1/models#?key=secret", "http://relay/v1/models?key=secret#x", "/v1/models?#"} {
		var got target
		if e := parseTarget([]byte(uri), false, &got); e != errPathBytes || string(got.path) != "/v1/models" {
			t.Errorf("%q: path %q, %v", uri, got.path, e)
		}
	}
}

func TestPathInAnotherCaseIsRefused(t *testing.T) {
	for path, want := range map[string]*apiError{
		"/v1/Chat/completions": errPathCase, "/v1/EMBEDDINGS": errPathCase, "/v1beta/openai/Responses": errPathCase, "/v1/Files/a": errPathCase,
		"/openai/Deployments/m/chat/completions": errPathCase, "/openai/deployments/m/Chat/Completions": errPathCase, "/openai/v1/Models": errPathCase,
		"/openai/%44eployments/m": errPathBytes, "/v1/chat/completions/A": nil, "/v1/files/A": nil, "/v1/Filesystem": nil, "/openai/deployments/M/chat/completions": nil, "/V1/models": errUnknownURL,
	} {
		var to target
		if got := parseTarget([]byte(path), false, &to); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}

func TestPathThatCouldBeReadAsAnotherIsRefused(t *testing.T) {
	for _, c := range []struct {
		path string
		err  *apiError
	}{
		{"/v1/models", nil},
		{"/v1/models/", nil},
		{"/v1/files/a.b", nil},
		{"/v1/files/..a", nil},
		{"/v1/files/a..", nil},
		{"/v1/files/...", nil},
		{"/v1/files/.hidden", nil},
		{"/v1/files/%E4%BD%A0", nil},
		{"/v1/files/a%20b", nil},
		{"/v1/models/a%2Fb%2fc", nil},
		{"/v1/models/a%3Ab:c@d!$&'()*+,=", nil},

		{"/v1/../x", errDotDot}, {"/v1/..", errDotDot}, {"/../v1", errDotDot}, {"/v1/../../..", errDotDot},
		{"/v1/./x", errDotDot}, {"/v1/.", errDotDot},
		{"/v1/%2e%2e/x", errDotDot}, {"/v1/%2E./x", errDotDot}, {"/v1/.%2e", errDotDot}, {"/v1/%2e", errDotDot},
		{"/v1/a%2F..%2Fb", errDotDot}, {"/v1/a%2f%2e%2e", errDotDot},
		{"/v1//x", errSlashes}, {"/v1/x//", errSlashes}, {"/v1/a%2F%2Fb", errSlashes}, {"/v1/%2Fx", errSlashes},
		{"/v1/a\\..\\b", errPathBytes}, {"/v1/a%5c..%5Cb", errPathBytes},
		{"/v1/..;/x", errPathBytes}, {"/v1/a;b", errPathBytes}, {"/v1/a%3bb", errPathBytes},
		{"/v1/%63hat", errPathBytes}, {"/v1/%7e", errPathBytes}, {"/v1/%2d", errPathBytes}, {"/v1/%5F", errPathBytes}, {"/v1/%30", errPathBytes},
		{"/v1/%", errPathBytes}, {"/v1/%2", errPathBytes}, {"/v1/%zz", errPathBytes}, {"/v1/%2g", errPathBytes}, {"/v1/%+2", errPathBytes},
		{"/v1/%00", errPathBytes}, {"/v1/%0a", errPathBytes}, {"/v1/%0D", errPathBytes}, {"/v1/%7f", errPathBytes},
		{"/v1/a b", errPathBytes}, {"/v1/a\tb", errPathBytes}, {"/v1/a\x00", errPathBytes}, {"/v1/a\x7f", errPathBytes}, {"/v1/\xc0\xae", errPathBytes}, {"/v1/ä", errPathBytes},
		{"/v1/a#b", errPathBytes},
	} {
		if got := checkPath([]byte(c.path)); got != c.err {
			t.Errorf("%q: %v, want %v", c.path, got, c.err)
		}
	}
}

func TestDialectIsKnownOfARefusedPath(t *testing.T) {
	for uri, want := range map[string]dialect{
		"/v1/../x": dialectOpenAI, "/v1/messages/../x": dialectAnthropic, "/v1beta/a b": dialectGemini, "/openai/%zz": dialectAzure,
	} {
		var got target
		if e := parseTarget([]byte(uri), false, &got); e == nil || got.dialect != want {
			t.Errorf("%q: %v, dialect %s", uri, e, dialectNames[got.dialect])
		}
	}
}

func TestDecodeSegment(t *testing.T) {
	for in, want := range map[string]string{"": "", "abc": "abc", "a%2Fb": "a/b", "%E4%bd%A0": "你", "a+b": "a+b", "%25%32": "%2", "a%2": "a%2"} {
		if got := decodeSegment(nil, []byte(in)); string(got) != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestEndpointTable(t *testing.T) {
	names := EndpointNames()
	if slices.Contains(names, "") || len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(endpoints) {
		t.Errorf("names are not unique: %v", names)
	}
	if endpoints[endpointGemini].name != "generate_content" || endpoints[endpointOther].name != "other" {
		t.Error("the last two rows have moved")
	}
	// The first row that fits counts: a longer prefix stands before a shorter one.
	for i, e := range endpoints {
		for _, later := range endpoints[i+1:] {
			if later.prefix != "" && e.prefix != "" && strings.HasPrefix(later.prefix, e.prefix+"/") {
				t.Errorf("%s is never found behind %s", later.name, e.name)
			}
		}
	}
}

func TestParseTargetAllocatesNothing(t *testing.T) {
	uri := []byte("/v1/chat/completions?a=b")
	if n := testing.AllocsPerRun(100, func() {
		var got target
		if parseTarget(uri, false, &got) != nil {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzTarget holds that no accepted path leads out of where it begins, however
// a server behind reads it, and that nothing of it is changed.
func FuzzTarget(f *testing.F) {
	for _, uri := range []string{
		"/v1/chat/completions?x=1", "/v1/../x", "/v1/%2e%2E/x", "/v1/a%2f..%2fb", "/v1/..;/x", "/v1/.%2e", "/v1/a/%2e%2e%2f",
		"/v1beta/models/m:generateContent", "/openai/deployments/a%2Fb/chat/completions", "http://h/v1/models?q", "/v1//x", "/v1/%252e%252e",
	} {
		f.Add([]byte(uri), false)
	}
	f.Fuzz(func(t *testing.T, uri []byte, version bool) {
		var got target
		if parseTarget(uri, version, &got) != nil {
			return
		}
		if !bytes.HasSuffix(uri, got.path) && !bytes.HasSuffix(uri, slices.Concat(got.path, []byte("?"), got.query)) {
			t.Errorf("path %q and query %q are no part of %q", got.path, got.query, uri)
		}
		if !bytes.HasSuffix(got.path, got.rest) {
			t.Errorf("rest %q is no end of %q", got.rest, got.path)
		}
		decoded, err := url.PathUnescape(string(got.path))
		if err != nil {
			t.Fatalf("%q: %v", got.path, err)
		}
		for _, text := range []string{string(got.path), decoded, strings.ReplaceAll(decoded, `\`, "/")} {
			for _, segment := range strings.FieldsFunc(text, func(r rune) bool { return r == '/' || r == '\\' || r == ';' }) {
				if segment == ".." || segment == "." {
					t.Errorf("%q holds %q", text, segment)
				}
			}
		}
		// Normalised it is the same path: no rule is passed by another spelling.
		if clean := path.Clean(decoded); clean != decoded && clean+"/" != decoded {
			t.Errorf("%q is %q to others", decoded, clean)
		}
		for _, c := range got.path {
			if c <= ' ' || c >= 0x7f || c == '#' || c == '\\' {
				t.Errorf("byte %#x in %q", c, got.path)
			}
		}
		if got.endpoint < 0 || got.endpoint > endpointOther {
			t.Errorf("endpoint %d", got.endpoint)
		}
	})
}
