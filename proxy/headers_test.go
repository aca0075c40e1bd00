package proxy

import (
	"bytes"
	"strings"
	"testing"

	"streamrelay/proxy/h1"
)

// spellings of a field name: classes do not depend on case.
func spellings(name string) []string {
	title := []byte(name)
	for i := range title {
		if (i == 0 || title[i-1] == '-') && title[i] >= 'a' && title[i] <= 'z' {
			title[i] -= 'a' - 'A'
		}
	}
	return []string{name, strings.ToUpper(name), string(title)}
}

// TestEveryRequestFieldIsClassified names each field that a rule exists for,
// and what becomes of it on its way to an upstream.
func TestEveryRequestFieldIsClassified(t *testing.T) {
	names := map[fieldClass][]string{
		// Hop-by-hop (RFC 9110 §7.6.1), what the relay writes itself, other
		// accounts' names, what browsers and proxies add.
		fieldDrop: {
			"keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer", "http2-settings",
			"host", "accept-encoding", "cookie", "openai-organization", "openai-project", "origin", "referer",
			"forwarded", "x-real-ip", "via", "true-client-ip", "baggage",
			"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-anything",
			"cf-ray", "cf-connecting-ip", "cf-ipcountry", "sec-websocket-protocol", "sec-websocket-key", "sec-fetch-mode", "sec-ch-ua",
		},
		fieldLength:           {"transfer-encoding", "content-length"},
		fieldConnection:       {"connection"},
		fieldAuthorization:    {"authorization"},
		fieldXAPIKey:          {"x-api-key"},
		fieldAPIKey:           {"api-key"},
		fieldGoogKey:          {"x-goog-api-key"},
		fieldTenant:           {"x-tenant-id"},
		fieldRequestID:        {"x-request-id"},
		fieldExpect:           {"expect"},
		fieldUpgrade:          {"upgrade"},
		fieldContentType:      {"content-type"},
		fieldContentEncoding:  {"content-encoding"},
		fieldAnthropicVersion: {"anthropic-version"},
		fieldUserAgent:        {"user-agent"},
		fieldTraceparent:      {"traceparent"},
		fieldTracestate:       {"tracestate"},
		fieldPass: {
			"accept", "accept-language", "anthropic-beta", "openai-beta", "x-stainless-lang", "x-stainless-retry-count",
			"x-stainless-helper-method", "x-client-request-id", "idempotency-key", "x-anything", "x-goog-api-client",
			"authorization2", "x-api-keys", "connections", "x-forwarded", "sec", "cf", "api", "t", "x-title", "http-referer",
			"a-name-that-is-longer-than-any-other-name-in-the-whole-table",
		},
	}
	for class, list := range names {
		for _, name := range list {
			for _, s := range spellings(name) {
				if got := classifyRequest([]byte(s)); got != class {
					t.Errorf("%s: class %d, want %d", s, got, class)
				}
			}
		}
	}
	for _, rows := range requestFields {
		for _, r := range rows {
			if !strings.Contains(strings.Join(names[r.class], " "), r.name) {
				t.Errorf("%s is in no list of this test", r.name)
			}
			if r.name != strings.ToLower(r.name) {
				t.Errorf("%s is never found: the table is in lower case", r.name)
			}
		}
	}
}

// TestEveryAnswerFieldIsClassified is the same for the way back.
func TestEveryAnswerFieldIsClassified(t *testing.T) {
	names := map[fieldClass][]string{
		fieldDrop: {
			"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "trailer", "upgrade",
			"set-cookie", "alt-svc", "strict-transport-security", "openai-organization", "openai-project", "anthropic-organization-id",
			"server", "date", "nel", "report-to", "reporting-endpoints",
			"cf-ray", "cf-cache-status", "access-control-allow-origin", "access-control-expose-headers",
			"x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests",
			"anthropic-ratelimit-requests-limit", "anthropic-ratelimit-tokens-reset",
		},
		fieldLength:       {"transfer-encoding", "content-length"},
		fieldUpstreamID:   {"x-request-id"},
		fieldCacheControl: {"cache-control"},
		fieldContentType:  {"content-type"},
		fieldPass: {
			"content-encoding", "content-disposition", "retry-after", "retry-after-ms", "x-should-retry",
			"x-siliconcloud-trace-id", "apim-request-id", "x-generation-id", "request-id", "openai-processing-ms", "openai-version", "openai-model",
			"etag", "last-modified", "location", "vary", "x-anything", "x-ms-region", "www-authenticate",
			"servers", "dates", "retry", "a-name-that-is-longer-than-any-other-name-in-the-whole-table",
		},
	}
	for class, list := range names {
		for _, name := range list {
			for _, s := range spellings(name) {
				if got := classifyAnswer([]byte(s)); got != class {
					t.Errorf("%s: class %d, want %d", s, got, class)
				}
			}
		}
	}
	for _, rows := range answerFields {
		for _, r := range rows {
			if r.name != strings.ToLower(r.name) {
				t.Errorf("%s is never found: the table is in lower case", r.name)
			}
		}
	}
}

// lines makes field lines of "name: value" texts, with the empty line.
func lines(fields ...string) []byte {
	return []byte(strings.Join(append(fields, ""), "\r\n") + "\r\n")
}

func TestConnectionMayNameOnlyWhatNobodyReliesOn(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields []string
		ok     bool
	}{
		{"nothing", nil, true},
		{"close", []string{"Connection: close"}, true},
		{"keep-alive", []string{"Connection: Keep-Alive"}, true},
		{"an unknown field", []string{"Connection: x-hop"}, true},
		{"hop-by-hop fields", []string{"Connection: TE, Trailer , keep-alive,transfer-encoding"}, true},
		{"curl --http2", []string{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAA"}, true},
		{"empty members", []string{"Connection: ,, ,"}, true},
		{"several lines", []string{"Connection: a", "Connection: b", "Connection: c", "Connection: close"}, true},
		{"too many lines", []string{"Connection: a", "Connection: b", "Connection: c", "Connection: d", "Connection: e"}, false},
		{"many options", []string{"Connection: " + strings.Repeat("a,", 63) + "a"}, true},
		{"too many options", []string{"Connection: close", "Connection: " + strings.Repeat("a,", 63) + "a"}, false},
		{"the credential", []string{"Connection: Authorization"}, false},
		{"x-api-key", []string{"Connection: close, X-API-Key"}, false},
		{"api-key", []string{"Connection: api-key"}, false},
		{"x-goog-api-key", []string{"Connection: x-goog-api-key"}, false},
		{"the tenant", []string{"Connection: x-tenant-id"}, false},
		{"the request id", []string{"Connection: x-request-id"}, false},
		{"the length", []string{"Connection: content-length"}, false},
		{"the type", []string{"Connection: content-type"}, false},
		{"the coding", []string{"Connection: content-encoding"}, false},
		{"the version", []string{"Connection: anthropic-version"}, false},
		{"host", []string{"Connection: host"}, false},
		{"cookie", []string{"Connection: \tCookie\t"}, false},
		{"expect", []string{"Connection: expect"}, false},
		{"on the last line", []string{"Connection: close", "Connection: x", "Connection: y", "Connection: authorization"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h requestHead
			h.scan(lines(c.fields...))
			want := errConnection
			if strings.HasPrefix(c.name, "too many") {
				want = errConnections
			}
			if e := h.checkConnection(); (e == nil) != c.ok || e != nil && e != want {
				t.Errorf("%v", e)
			}
		})
	}
}

func TestFieldsNamedByConnectionAreHopByHop(t *testing.T) {
	var h requestHead
	h.scan(lines("Connection: close, X-Hop ,\tx-other", "Connection: x-Third"))
	for name, want := range map[string]bool{
		"x-hop": true, "X-HOP": true, "x-other": true, "X-Third": true, "close": true,
		"x-hop2": false, "x": false, "": false, "accept": false,
	} {
		if got := h.namedByConnection([]byte(name)); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
	h.scan(lines("X-Hop: 1"))
	if h.namedByConnection([]byte("x-hop")) {
		t.Error("named by the request before")
	}
}

func TestExactlyOneCredentialIsTaken(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields []string
		query  string
		want   string
		err    *apiError
	}{
		{name: "bearer", fields: []string{"Authorization: Bearer k"}, want: "k"},
		{name: "scheme in any case", fields: []string{"aUTHORIZATION: bEARER k"}, want: "k"},
		{name: "more spaces", fields: []string{"Authorization:   Bearer    k  "}, want: "k"},
		{name: "x-api-key", fields: []string{"X-Api-Key: k"}, want: "k"},
		{name: "api-key", fields: []string{"Api-Key: k"}, want: "k"},
		{name: "x-goog-api-key", fields: []string{"X-Goog-Api-Key: k"}, want: "k"},
		{name: "query", query: "k", want: "k"},
		{name: "the same everywhere", fields: []string{"Authorization: Bearer k", "x-api-key: k", "api-key: k", "x-goog-api-key: k"}, query: "k", want: "k"},
		{name: "basic beside a key", fields: []string{"Authorization: Basic dTpw", "x-api-key: k"}, want: "k"},
		{name: "empty beside a key", fields: []string{"Authorization: Bearer", "x-api-key: k"}, want: "k"},

		{name: "none", err: errNoKey},
		{name: "empty", fields: []string{"Authorization:"}, err: errNoKey},
		{name: "scheme alone", fields: []string{"Authorization: Bearer"}, err: errNoKey},
		{name: "scheme without a space", fields: []string{"Authorization: Bearerk"}, err: errNoKey},
		{name: "another scheme", fields: []string{"Authorization: Basic dTpw"}, err: errNoKey},
		{name: "no scheme", fields: []string{"Authorization: k"}, err: errNoKey},
		{name: "empty x-api-key", fields: []string{"x-api-key:"}, err: errNoKey},

		{name: "two places differ", fields: []string{"Authorization: Bearer k", "x-api-key: l"}, err: errTwoKeys},
		{name: "head and query differ", fields: []string{"Authorization: Bearer k"}, query: "l", err: errTwoKeys},
		{name: "twice, differing", fields: []string{"Authorization: Bearer k", "Authorization: Bearer l"}, err: errTwoKeys},
		{name: "twice, the same", fields: []string{"Authorization: Bearer k", "Authorization: Bearer k"}, err: errTwoKeys},
		{name: "twice, the first empty", fields: []string{"Authorization:", "Authorization: Bearer k"}, err: errTwoKeys},
		{name: "x-api-key twice", fields: []string{"x-api-key: k", "X-API-KEY: k"}, err: errTwoKeys},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h requestHead
			h.scan(lines(c.fields...))
			key, e := h.credential([]byte(c.query))
			if string(key) != c.want || e != c.err {
				t.Errorf("%q, %v; want %q, %v", key, e, c.want, c.err)
			}
		})
	}
}

func TestBearer(t *testing.T) {
	for v, want := range map[string]string{
		"Bearer abc": "abc", "bearer abc": "abc", "BEARER  abc": "abc", "Bearer a b": "a b",
		"Bearer": "", "Bearer ": "", "Bearer  ": "", "Bearerabc": "", "Bear abc": "", "": "", "Bearer\tabc": "", "Basic abc": "",
	} {
		if got := bearer([]byte(v)); string(got) != want {
			t.Errorf("%q: %q, want %q", v, got, want)
		}
	}
}

func TestRequestIDOfTheClientIsTakenOnlyInItsForm(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "7f9c24e8-3b12-4fef-91e0-85a3c1d1f0aa": true, "A.b_C-9": true, strings.Repeat("x", 128): true,
		"": false, strings.Repeat("x", 129): false, "a b": false, "a/b": false, "ä": false, "a\"": false, "a:b": false, "a\n": false, "a\x00": false,
	} {
		if got := validRequestID([]byte(id)); got != want {
			t.Errorf("%q: %t", id, got)
		}
	}
	for c := range 256 {
		want := bytes.IndexByte([]byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"), byte(c)) >= 0
		if got := validRequestID([]byte{'a', byte(c)}); got != want {
			t.Errorf("byte %#x: %t", c, got)
		}
	}
}

func TestScanReadsWhatTheRelayNeeds(t *testing.T) {
	var h requestHead
	h.scan(lines("Content-Type: application/json", "Content-Encoding: gzip", "User-Agent: x/1", "X-Tenant-Id: acme", "X-Request-Id: r1",
		"Anthropic-Version: 2023-06-01", "Upgrade: websocket", "Expect: 100-continue"))
	got := []string{string(h.contentType), string(h.contentEncoding), string(h.userAgent), string(h.tenant), string(h.requestID), string(h.upgrade)}
	if want := "application/json gzip x/1 acme r1 websocket"; strings.Join(got, " ") != want {
		t.Errorf("%q", got)
	}
	if h.tenants != 1 || !h.anthropicVersion || !h.expect || h.twice || h.vague {
		t.Errorf("%+v", h)
	}
	for _, twice := range []string{"Content-Type: a", "Content-Encoding: a"} {
		if h.scan(lines(twice, twice)); !h.vague || h.twice {
			t.Errorf("%s twice: vague %t, twice %t", twice, h.vague, h.twice)
		}
	}
	if h.scan(lines("X-Tenant-Id: a", "x-tenant-id: b")); h.tenants != 2 {
		t.Errorf("%d tenants", h.tenants)
	}
	if h.scan(nil); h.tenants != 0 || h.tenant != nil {
		t.Error("kept the tenant of the request before")
	}
}

func TestHeadScanAllocatesNothing(t *testing.T) {
	block := lines("Host: relay", "Authorization: Bearer k", "Content-Type: application/json", "Connection: close, x-hop",
		"User-Agent: OpenAI/Python 1.0", "X-Stainless-Lang: python", "Accept: */*", "Content-Length: 12")
	if n := testing.AllocsPerRun(100, func() {
		var h requestHead
		h.scan(block)
		if h.checkConnection() != nil {
			t.Fatal("refused")
		}
		if k, e := h.credential(nil); e != nil || len(k) != 1 {
			t.Fatal(e)
		}
		for f := h1.NewFields(block); f.Next(); {
			h.namedByConnection(f.Name)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
