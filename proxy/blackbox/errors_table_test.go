package blackbox

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// dialectPath is a path of each dialect with an endpoint of its own.
var dialectPath = map[string]string{
	"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "gemini": "/v1beta/models/m1:generateContent", "azure": "/openai/deployments/m1/chat/completions",
}

// wantError is a refusal in terms of each dialect.
type wantError struct {
	status                  int
	typ, code, param        string // OpenAI and Azure; param "" is null
	anthropic, google       string
	retryAfter, shouldRetry string
	close                   bool
}

// checkError compares a relay's own error with want, exactly: the envelope's
// keys and their order, the fields SDKs act on, the request id.
func checkError(t testing.TB, a *answer, dialect string, want wantError) {
	t.Helper()
	if a == nil {
		t.Fatal("no answer")
	}
	if a.status != want.status {
		t.Fatalf("status %d, want %d: %s", a.status, want.status, clip(a.body))
	}
	id := a.get("X-Request-Id")
	if len(a.all("X-Request-Id")) != 1 || id == "" {
		t.Errorf("x-request-id %q", a.all("X-Request-Id"))
	}
	if got := a.get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	if got := a.get("Content-Length"); got != fmt.Sprint(len(a.body)) {
		t.Errorf("Content-Length %q of %d bytes", got, len(a.body))
	}
	message := messageOf(t, a.body)
	var body string
	switch dialect {
	case "anthropic":
		body = fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":%q},"request_id":%q}`, want.anthropic, message, id)
	case "gemini":
		body = fmt.Sprintf(`{"error":{"code":%d,"message":%q,"status":%q}}`, want.status, message, want.google)
	default:
		param := "null"
		if want.param != "" {
			param = fmt.Sprintf("%q", want.param)
		}
		body = fmt.Sprintf(`{"error":{"message":%q,"type":%q,"param":%s,"code":%q}}`, message, want.typ, param, want.code)
	}
	if string(a.body) != body || message == "" {
		t.Errorf("body %s\nwant %s", a.body, body)
	}
	for name, value := range map[string]string{"Retry-After": want.retryAfter, "X-Should-Retry": want.shouldRetry} {
		if got := a.get(name); got != value {
			t.Errorf("%s %q, want %q", name, got, value)
		}
	}
	// The same in milliseconds, or a more exact word of which the seconds are rounded up.
	seconds, _ := strconv.Atoi(want.retryAfter)
	got, _ := strconv.Atoi(a.get("Retry-After-Ms"))
	if (want.retryAfter == "") != (a.get("Retry-After-Ms") == "") || got > seconds*1000 || seconds > 0 && got <= (seconds-1)*1000 {
		t.Errorf("Retry-After-Ms %q beside %q", a.get("Retry-After-Ms"), want.retryAfter)
	}
	if got := a.get("WWW-Authenticate"); (want.status == 401) != (got == "Bearer") {
		t.Errorf("WWW-Authenticate %q", got)
	}
	if want.close && !strings.EqualFold(a.get("Connection"), "close") {
		t.Errorf("Connection %q, want close", a.get("Connection"))
	}
	if len(a.all("Date")) != 1 || a.get("Server") != "" {
		t.Errorf("Date %q, Server %q", a.all("Date"), a.get("Server"))
	}
}

// messageOf takes the message out of any envelope.
func messageOf(t testing.TB, body []byte) string {
	t.Helper()
	_, rest, ok := strings.Cut(string(body), `"message":"`)
	if !ok {
		t.Fatalf("no message in %s", clip(body))
	}
	message, _, _ := strings.Cut(strings.ReplaceAll(rest, `\"`, "\x00"), `"`)
	return strings.ReplaceAll(message, "\x00", `"`)
}

func TestErrorsInTheEnvelopeOfThePathsDialect(t *testing.T) {
	up := untouched(t)
	disabled := key("gone", "sk-relay-disabled-key-1", "acme")
	disabled.Disabled = true
	narrow := key("narrow", "sk-relay-narrow-key-1", "acme")
	narrow.Models = []string{"other-*"}
	rl := relayTo(t, up, "limits: {max_body: 1KiB, max_header: 16KiB, header_timeout: 2s, body_idle_timeout: 300ms}\n", option{keys: keysOf(disabled, narrow)})
	send := func(path, body string, fields ...string) string {
		return request("POST", path, body, append([]string{"Content-Type: application/json"}, fields...)...)
	}
	withKey := func(raw, k string) string { return strings.Replace(raw, testKey, k, 1) }
	noKey := func(raw string) string {
		return strings.Replace(raw, "Authorization: Bearer "+testKey+"\r\n", "", 1)
	}
	unauthorized := wantError{status: 401, typ: "invalid_request_error", code: "invalid_api_key", anthropic: "authentication_error", google: "UNAUTHENTICATED"}
	badRequest := func(code string) wantError {
		return wantError{status: 400, typ: "invalid_request_error", code: code, anthropic: "invalid_request_error", google: "INVALID_ARGUMENT"}
	}
	framing := badRequest("bad_request")
	framing.close = true
	for dialect, path := range dialectPath {
		for name, c := range map[string]struct {
			raw  string
			want wantError
		}{
			"no key":          {noKey(send(path, chatPlain)), unauthorized},
			"empty key":       {withKey(send(path, chatPlain), ""), unauthorized},
			"bad key":         {withKey(send(path, chatPlain), "nonsense"), unauthorized},
			"disabled key":    {withKey(send(path, chatPlain), "sk-relay-disabled-key-1"), unauthorized},
			"upstream's key":  {withKey(send(path, chatPlain), upstreamKey), unauthorized},
			"key of 10 kB":    {withKey(send(path, chatPlain), strings.Repeat("k", 10000)), unauthorized},
			"two credentials": {send(path, chatPlain, "x-api-key: other"), unauthorized},
			"tenant not the key's": {send(path, chatPlain, "X-Tenant-ID: other"),
				wantError{status: 403, typ: "permission_error", code: "tenant_not_allowed", anthropic: "permission_error", google: "PERMISSION_DENIED"}},
			"two tenants": {send(path, chatPlain, "X-Tenant-ID: acme", "X-Tenant-ID: acme"),
				wantError{status: 403, typ: "permission_error", code: "tenant_not_allowed", anthropic: "permission_error", google: "PERMISSION_DENIED"}},
			"model not allowed": {withKey(send(path, chatPlain), "sk-relay-narrow-key-1"),
				wantError{status: 403, typ: "permission_error", code: "model_not_allowed", param: "model", anthropic: "permission_error", google: "PERMISSION_DENIED"}},
			"too large": {send(path, chatPlain+strings.Repeat(" ", 1024)),
				wantError{status: 413, typ: "invalid_request_error", code: "request_too_large", anthropic: "request_too_large", google: "INVALID_ARGUMENT", close: true}},
			"too slow": {strings.Replace(send(path, ""), "\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", 1),
				wantError{status: 408, typ: "invalid_request_error", code: "request_timeout", anthropic: "invalid_request_error", google: "INVALID_ARGUMENT", close: true}},
			"not JSON":    {send(path, "{"), badRequest("invalid_json")},
			"model twice": {send(path, `{"model":"m1","model":"m1"}`), wantParam(badRequest("duplicate_key"), "model")},
			"compressed": {send(path, chatPlain, "Content-Encoding: gzip"),
				wantError{status: 415, typ: "invalid_request_error", code: "unsupported_content_encoding", anthropic: "invalid_request_error", google: "INVALID_ARGUMENT"}},
			"dot dot":       {send(path+"/../x", chatPlain), badRequest("invalid_path")},
			"bad path":      {send(path+"/%zz", chatPlain), badRequest("invalid_path")},
			"length, chunk": {send(path, chatPlain, "Transfer-Encoding: chunked"), framing},
			"folded":        {send(path, chatPlain, "X: a\r\n b"), framing},
			"connection":    {send(path, chatPlain, "Connection: authorization"), framing},
			"TRACE": {strings.Replace(send(path, ""), "POST", "TRACE", 1),
				wantError{status: 405, typ: "invalid_request_error", code: "method_not_allowed", anthropic: "invalid_request_error", google: "INVALID_ARGUMENT", close: true}},
			"upgrade": {strings.Replace(send(path, "", "Connection: Upgrade", "Upgrade: websocket"), "POST", "GET", 1),
				wantError{status: 426, typ: "invalid_request_error", code: "upgrade_not_supported", anthropic: "invalid_request_error", google: "INVALID_ARGUMENT", close: true}},
		} {
			t.Run(dialect+"/"+name, func(t *testing.T) {
				before := up.asked()
				conn, a := rl.speak(t, c.raw)
				checkError(t, a, dialect, c.want)
				_ = conn.Close()
				up.notAsked(t, before)
			})
		}
	}
}

func wantParam(w wantError, param string) wantError {
	w.param = param
	return w
}

func TestAnthropicErrorsCarryTheHeaderThatItsSDKReads(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	_, a := rl.speak(t, bare("POST", "/v1/messages", chatPlain))
	if id := a.get("request-id"); id == "" || id != a.get("x-request-id") || !strings.Contains(string(a.body), `"request_id":"`+id+`"`) {
		t.Errorf("request-id %q, x-request-id %q, body %s", id, a.get("x-request-id"), a.body)
	}
}

func TestMethodNotAllowedNamesTheMethodsThatAre(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	_, a := rl.speak(t, request("TRACE", "/v1/models", ""))
	if got := a.get("Allow"); got != "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" {
		t.Errorf("Allow %q", got)
	}
}

func TestRequestIDOfTheClientIsTakenOverWhereItIsValid(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	n := 0
	for id, valid := range map[string]bool{
		"abc": true, "A.b_c-9": true, strings.Repeat("x", 128): true,
		strings.Repeat("x", 129): false, "a b": false, "a/b": false, "a\tb": false, "<script>": false, `"`: false, "caf\xe9": false, "": false, "a,b": false,
	} {
		for kind, raw := range map[string]string{
			"answer": request("GET", "/v1/models", "", "X-Request-ID: "+id),
			"error":  request("GET", "/v1/..", "", "x-request-id: "+id),
			"no key": bare("GET", "/v1/models", "", "x-request-id: "+id),
			"head":   request("GET", "/v1/models", "", "x-request-id: "+id, "X: a\r\n b"),
		} {
			t.Run(fmt.Sprintf("%s %.20q", kind, id), func(t *testing.T) {
				c, a := rl.speak(t, raw)
				got := a.all("X-Request-Id")
				if len(got) != 1 {
					t.Fatalf("ids %q", got)
				}
				if kind == "head" { // a head in doubt is not believed in anything
					if !uuid.MatchString(got[0]) && got[0] != id {
						t.Errorf("id %q", got[0])
					}
				} else if valid && got[0] != id || !valid && !uuid.MatchString(got[0]) {
					t.Errorf("id %q for %q", got[0], id)
				}
				_ = c.Close()
				n++
				if r := rl.last(n); r.RequestID != got[0] {
					t.Errorf("recorded as %q, answered as %q", r.RequestID, got[0])
				}
			})
		}
	}
}
