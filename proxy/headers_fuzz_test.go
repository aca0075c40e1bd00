package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"streamrelay/configs"
)

// everyDialect is a configuration with an upstream of each dialect, in the order
// of the dialects; the first changes headers.
const everyDialect = `upstreams:
  - {name: openai, dialect: openai, base_url: "http://127.0.0.1:9/oai/v1", credentials: [{value: ` + accountKey + `}], headers: {set: {X-Org: acme}, remove: [X-Stainless-Lang]}}
  - {name: anthropic, dialect: anthropic, base_url: "http://127.0.0.1:9/ant/v1", credentials: [{value: ` + accountKey + `}]}
  - {name: gemini, dialect: gemini, base_url: "http://127.0.0.1:9", credentials: [{value: ` + accountKey + `}]}
  - {name: azure, dialect: azure, base_url: "http://127.0.0.1:9/azu", credentials: [{value: ` + accountKey + `}]}
log: {access: false}
`

// neverUpstream are fields that no upstream may see, in lower case: hop-by-hop
// ones (RFC 9110 §7.6.1) and those that are the relay's business or nobody's.
var neverUpstream = []string{
	"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer", "upgrade", "expect",
	"cookie", "openai-organization", "openai-project", "origin", "referer", "forwarded", "via", "x-real-ip", "true-client-ip",
	"baggage", "x-tenant-id", "x-request-id", "http2-settings",
}

// neverDownstream is the same for clients. Connection is fasthttp's own.
var neverDownstream = []string{
	"keep-alive", "proxy-connection", "proxy-authenticate", "te", "trailer", "upgrade", "set-cookie", "alt-svc",
	"strict-transport-security", "openai-organization", "openai-project", "anthropic-organization-id", "nel", "report-to", "reporting-endpoints", "server",
}

// head is a head taken apart by hand: lines of name and value, in order.
type head [][2]string

func headOf(t *testing.T, raw string) (first string, h head, rest string) {
	t.Helper()
	block, rest, ok := strings.Cut(raw, "\r\n\r\n")
	if !ok {
		t.Fatalf("no end of head in %q", raw)
	}
	first, block, _ = strings.Cut(block, "\r\n")
	for line := range strings.SplitSeq(block, "\r\n") {
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			t.Fatalf("line %q in %q", line, raw)
		}
		h = append(h, [2]string{strings.ToLower(name), strings.Trim(value, " \t")})
	}
	return first, h, rest
}

func (h head) all(name string) (values []string) {
	for _, f := range h {
		if f[0] == name {
			values = append(values, f[1])
		}
	}
	return values
}

// FuzzRequestHead holds that whatever head the relay takes, what it sends to the
// upstream is one well-formed request: none of the client's credentials, exactly
// one of ours, nothing hop-by-hop, one framing, and what is end to end as it came.
func FuzzRequestHead(f *testing.F) {
	for _, fields := range []string{
		"Content-Type: application/json\r\nContent-Length: 2\r\n",
		"content-type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n",
		"Connection: close, x-hop\r\nX-Hop: 1\r\nX-Pass: 2\r\n",
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
		"Cookie: a=b\r\nX-Api-Key: " + clientKey + "\r\nAPI-KEY: " + clientKey + "\r\nX-Goog-Api-Key: " + clientKey + "\r\n",
		"anthropic-version: 2023-06-01\r\nanthropic-beta: a\r\nanthropic-beta: b\r\n",
		"X-Org: theirs\r\nx-stainless-lang: js\r\nX-Empty:\r\nX-High: \xff\xfe\r\n",
		"Expect: 100-continue\r\nContent-Length: 5\r\nContent-Encoding: identity\r\n",
		"TE: trailers\r\nTrailer: x\r\nKeep-Alive: 1\r\nForwarded: for=1\r\nX-Forwarded-For: 1\r\nVia: 1.1 x\r\n",
		"X-Tenant-Id: acme\r\nX-Request-Id: r-1\r\n", "", "X: a\r\n b\r\n", "Content-Length: 1\r\nContent-Length: 1\r\n",
	} {
		for _, target := range []string{"/v1/chat/completions", "/v1/messages?beta=true&key=" + clientKey, "/v1beta/models/m:generateContent?alt=sse&key=" + clientKey, "/openai/deployments/d/chat/completions?api-version=1", "http://x/v1/files?a&&b=%26"} {
			f.Add("POST", target, fields)
		}
		f.Add("GET", "/v1/models", fields)
		f.Add("DELETE", "/v1/files/x", fields)
	}
	s := newServer(f, everyDialect)
	f.Fuzz(func(t *testing.T, method, target, fields string) {
		raw := method + " " + target + " HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer " + clientKey + "\r\n" + fields + "\r\n"
		if len(raw) > 8<<10 {
			return
		}
		c := clientOn(s, newWire())
		ctx, e, ok := received(t, c, []byte(raw))
		if !ok {
			return
		}
		x := &c.x
		defer x.finish(0, nil)
		if e != nil {
			return
		}
		x.toward(s.settings.Load().routing.set.Upstreams[x.adm.target.dialect])
		const bodyLen = 1234
		got := string(x.appendHead(nil, bodyLen))

		first, h, rest := headOf(t, got)
		if rest != "" {
			t.Fatalf("%q stands behind the head", rest)
		}
		req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(got), strings.NewReader(strings.Repeat("x", bodyLen)))))
		if err != nil {
			t.Fatalf("%v in\n%s", err, got)
		}
		if req.Method != string(ctx.Request.Header.Method()) || !strings.HasPrefix(first, req.Method+" "+x.up.Path) {
			t.Errorf("request line %q", first)
		}
		if hosts := h.all("host"); len(hosts) != 1 || hosts[0] != x.up.Host {
			t.Errorf("hosts %q", hosts)
		}
		// Credentials: ours, in the one place of the dialect.
		place := map[configs.Dialect]string{configs.OpenAI: "authorization", configs.Anthropic: "x-api-key", configs.Gemini: "x-goog-api-key", configs.Azure: "api-key"}[x.up.Dialect]
		for _, name := range []string{"authorization", "x-api-key", "api-key", "x-goog-api-key"} {
			values := h.all(name)
			if name != place && len(values) != 0 {
				t.Errorf("%s goes on: %q", name, values)
			}
			if name == place && (len(values) != 1 || strings.TrimPrefix(values[0], "Bearer ") != accountKey) {
				t.Errorf("%s is %q", name, values)
			}
		}
		if query, err := url.ParseQuery(req.URL.RawQuery); err == nil && (query.Has("key") || query.Has("api_key")) {
			t.Errorf("a key stands in the query %q", req.URL.RawQuery)
		}
		for _, name := range neverUpstream {
			if v := h.all(name); v != nil {
				t.Errorf("%s goes on: %q", name, v)
			}
		}
		for _, field := range h {
			if strings.HasPrefix(field[0], "x-forwarded-") || strings.HasPrefix(field[0], "sec-") || strings.HasPrefix(field[0], "cf-") {
				t.Errorf("%s goes on", field[0])
			}
		}
		// Framing: one, and the plan's.
		lengths, codings := h.all("content-length"), h.all("transfer-encoding")
		switch {
		case len(lengths)+len(codings) > 1:
			t.Errorf("lengths %q and codings %q", lengths, codings)
		case x.adm.body == bodyHeld && (req.ContentLength != bodyLen):
			t.Errorf("a held body of %q", lengths)
		case x.adm.body == bodyStream && len(lengths)+len(codings) != 1:
			t.Error("a streamed body without framing")
		case x.adm.body == bodyNone && (len(codings) > 0 || len(lengths) > 0 && lengths[0] != "0"):
			t.Errorf("no body, but %q %q", lengths, codings)
		case x.adm.body == bodyNone && slices.Contains([]string{"POST", "PUT", "PATCH"}, req.Method) && len(lengths) == 0:
			t.Errorf("%s without a length", req.Method)
		}
		// The rest as it came, in its order.
		_, in, _ := headOf(t, raw)
		var hop []string
		for _, v := range in.all("connection") {
			for name := range strings.SplitSeq(v, ",") {
				hop = append(hop, strings.ToLower(string(bytes.TrimSpace([]byte(name)))))
			}
		}
		var want, passed head
		for _, field := range in {
			if classifyRequest([]byte(field[0])) == fieldPass && !slices.Contains(hop, field[0]) && !slices.Contains(x.up.Remove, field[0]) {
				want = append(want, field)
			}
		}
		for _, field := range h {
			if classifyRequest([]byte(field[0])) == fieldPass && (field[0] != "x-org" || len(x.up.Set) == 0) {
				passed = append(passed, field)
			}
		}
		if !slices.Equal(want, passed) {
			t.Errorf("end to end came\n%q\nwent\n%q", want, passed)
		}
		if x.up.Name == "openai" && !slices.Equal(h.all("x-org"), []string{"acme"}) {
			t.Errorf("x-org %q", h.all("x-org"))
		}
	})
}

// FuzzAnswerHead is the same for the way back: whatever head of an upstream the
// relay takes, the client gets one well-formed answer with one framing.
func FuzzAnswerHead(f *testing.F) {
	for _, block := range []string{
		"Content-Type: application/json\r\nContent-Length: 5\r\n",
		"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nCache-Control: public\r\n",
		"content-type: text/event-stream\nServer: x\nSet-Cookie: a=b\nDate: now\n",
		"Connection: x-hop, close\r\nX-Hop: 1\r\nContent-Length: 5\r\n", "X-Request-Id: theirs\r\nRequest-Id: r\r\nX-Ratelimit-Limit: 1\r\nRetry-After: 7\r\n",
		"Trailer: x\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=5\r\nUpgrade: h2\r\n", "Content-Length: 0\r\nX-Empty:\r\nX-High: \xff\r\n",
		"Content-Encoding: gzip\r\nContent-Encoding: br\r\nVary: a\r\nVary: b\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n",
		"Access-Control-Allow-Origin: *\r\nAlt-Svc: h3\r\nNEL: {}\r\nReport-To: {}\r\nCF-Ray: 1\r\nStrict-Transport-Security: x\r\n", "",
	} {
		for _, status := range []int{200, 204, 206, 301, 304, 400, 401, 403, 429, 500, 529} {
			f.Add(status, "OK", block, false)
		}
		f.Add(200, "", block, true)
	}
	s := newServer(f, everyDialect)
	f.Fuzz(func(t *testing.T, status int, reason, block string, isHead bool) {
		if len(block) > 4<<10 || len(reason) > 1<<10 {
			return
		}
		method := "POST"
		if isHead {
			method = "HEAD"
		}
		w := newWire()
		c := clientOn(s, w)
		ctx, e, ok := received(t, c, []byte(method+" /v1/chat/completions HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer "+clientKey+"\r\nX-Request-Id: ours\r\n\r\n"))
		if !ok || e != nil {
			t.Fatal(e)
		}
		x := &c.x
		defer x.finish(0, nil)
		x.toward(s.settings.Load().routing.set.Upstreams[0])
		raw := append([]byte("HTTP/1.1 "), []byte{byte('0' + status/100%10), byte('0' + status/10%10), byte('0' + status%10)}...)
		raw = append(raw, " "+reason+"\r\n"+block+"\r\n"...)
		const body = "hello"
		if !x.answered(t, append(bytes.Clone(raw), "5\r\nhello\r\n0\r\n\r\n"...)) {
			return
		}
		up := x.head
		noBody := up.NoBody(isHead)
		if !up.Chunked && !noBody { // then the body is not in chunks
			x.in.Put()
			n := up.ContentLength
			if n > 1<<10 {
				return
			}
			if !x.answered(t, append(bytes.Clone(raw), strings.Repeat("h", int(max(n, 0)))...)) {
				t.Fatal("the same head was refused")
			}
			up = x.head
		}
		if noBody {
			x.till = x.from
		}
		if untilClose := !noBody && !up.Chunked && up.ContentLength < 0; untilClose && (up.Status == 400 || up.Status == 403) {
			return // it is read to its end, and there is no upstream to close
		}
		contentType := string(up.ContentType) // part of a buffer that is given back
		if e := x.startAnswer(); e != nil {
			t.Fatal(e)
		}
		if e := x.answer(); e != nil {
			if e != errUpstreamAuth && e != errUpstreamRedirect {
				t.Errorf("%v", e)
			}
			return
		}
		if !noBody && !up.Chunked && up.ContentLength < 0 {
			c.gone.Store(true) // the head alone: there is no upstream to wait for
		}
		got := strings.Join(sent(ctx, c, w), "")
		_, h, _ := headOf(t, got)
		res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%v in\n%s", err, got)
		}
		text, err := io.ReadAll(res.Body)
		whole := noBody || up.Chunked || up.ContentLength >= 0
		if (err == nil) != whole {
			t.Errorf("whole %t, %v in\n%q", whole, err, got)
		}
		if res.StatusCode != up.Status {
			t.Errorf("status %d of %d", res.StatusCode, up.Status)
		}
		want := body
		switch {
		case noBody:
			want = ""
		case !up.Chunked:
			want = strings.Repeat("h", int(max(up.ContentLength, 0)))
		}
		if whole && string(text) != want {
			t.Errorf("body %q, want %q", text, want)
		}
		lengths, codings := h.all("content-length"), h.all("transfer-encoding")
		if len(lengths)+len(codings) > 1 || !noBody && len(lengths)+len(codings) != 1 {
			t.Errorf("lengths %q and codings %q", lengths, codings)
		}
		for _, name := range neverDownstream {
			if v := h.all(name); v != nil {
				t.Errorf("%s goes on: %q", name, v)
			}
		}
		for _, field := range h {
			for _, family := range []string{"cf-", "access-control-", "x-ratelimit-", "anthropic-ratelimit-"} {
				if strings.HasPrefix(field[0], family) {
					t.Errorf("%s goes on", field[0])
				}
			}
		}
		if ids := h.all("x-request-id"); !slices.Equal(ids, []string{"ours"}) {
			t.Errorf("request ids %q", ids)
		}
		if types := h.all("content-type"); len(types) > 1 || len(types) == 1 && types[0] != contentType {
			t.Errorf("content types %q, came %q", types, contentType)
		}
		if dates := h.all("date"); len(dates) > 1 {
			t.Errorf("dates %q", dates)
		}
	})
}
