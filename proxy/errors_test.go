package proxy

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"streamrelay/configs"
	"streamrelay/telemetry"
)

var update = flag.Bool("update", false, "rewrite golden files")

// listed is a refusal by the name of its variable.
type listed struct {
	name string
	err  *apiError
}

// namedErrors lists every refusal whose text never varies.
var namedErrors = []listed{
	{"errNoKey", errNoKey}, {"errBadKey", errBadKey}, {"errRevoked", errRevoked}, {"errExpired", errExpired}, {"errKeyEnded", errKeyEnded}, {"errTooManyMisses", errTooManyMisses}, {"errPathNotAllowed", errPathNotAllowed}, {"errTwoKeys", errTwoKeys}, {"errKeysUnavailable", errKeysUnavailable},
	{"errTenant", errTenant}, {"errModelNotAllowed", errModelNotAllowed}, {"errModelNotFound", errModelNotFound}, {"errModelFirst", errModelFirst}, {"errTwoModels", errTwoModels},
	{"errUnknownURL", errUnknownURL}, {"errUnknownObject", errUnknownObject}, {"errPreviousResponse", errPreviousResponse}, {"errNoneReady", errNoneReady}, {"errNoUpstream", errNoUpstream}, {"errMethod", errMethod}, {"errVersion", errVersion},
	{"errUpgrade", errUpgrade}, {"errDotDot", errDotDot}, {"errPathBytes", errPathBytes}, {"errPathCase", errPathCase}, {"errConnections", errConnections}, {"errSlashes", errSlashes}, {"errConnection", errConnection}, {"errWantsTLS", errWantsTLS}, {"errTarget", errTarget},
	{"errVague", errVague}, {"errBodyTooBig", errBodyTooBig}, {"errBodyTimeout", errBodyTimeout}, {"errBodyBroken", errBodyBroken},
	{"errEncodedBody", errEncodedBody}, {"errHeld", errHeld}, {"errShed", errShed}, {"errDraining", errDraining}, {"errPanic", errPanic},
	{"errUpstreamBusy", errUpstreamBusy}, {"errUpstreamConnect", errUpstreamConnect}, {"errConnectTimeout", errConnectTimeout},
	{"errUpstreamCut", errUpstreamCut}, {"errUpstreamGarbage", errUpstreamGarbage}, {"errUpstreamAuth", errUpstreamAuth}, {"errUpstreamRedirect", errUpstreamRedirect},
	{"errHeadTimeout", errHeadTimeout}, {"errFirstEventTimeout", errFirstEventTimeout}, {"errIdleTimeout", errIdleTimeout},
	{"errTotalTimeout", errTotalTimeout}, {"errStreamTooLong", errStreamTooLong}, {"errStoppedReading", errStoppedReading},
}

// TestEveryErrorIsListed reads the source, so that no refusal is added without
// being seen by the tests below.
func TestEveryErrorIsListed(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok || d.Tok != token.VAR {
				continue
			}
			for _, spec := range d.Specs {
				v := spec.(*ast.ValueSpec)
				for i, id := range v.Names {
					if i < len(v.Values) && isAPIError(v.Values[i]) && !slices.ContainsFunc(namedErrors, func(l listed) bool { return l.name == id.Name }) {
						t.Errorf("%s of %s is not in the list", id.Name, name)
					}
				}
			}
		}
	}
}

// isAPIError reports whether an expression makes an apiError.
func isAPIError(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.UnaryExpr:
		lit, ok := e.X.(*ast.CompositeLit)
		if !ok {
			return false
		}
		id, ok := lit.Type.(*ast.Ident)
		return ok && id.Name == "apiError"
	case *ast.CallExpr:
		id, ok := e.Fun.(*ast.Ident)
		return ok && (id.Name == "badRequest" || id.Name == "badFraming")
	}
	return false
}

// TestErrorsInEveryDialect compares each refusal, as it leaves in each dialect,
// with the golden file, and holds the keys that the dialect's clients read.
func TestErrorsInEveryDialect(t *testing.T) {
	const id = "7f9c24e8-3b12-7fef-91e0-85a3c1d1f0aa"
	var golden bytes.Buffer
	for _, l := range namedErrors {
		fmt.Fprintf(&golden, "== %s\n", l.name)
		for d := range dialectNames {
			var ctx fasthttp.RequestCtx
			ctx.Response.Header.Set("X-Left-Over", "of what was before")
			ctx.Response.SetBodyString("left over")
			writeError(&ctx, l.err, dialect(d), []byte(id))
			body := ctx.Response.Body()
			t.Run(l.name+"/"+string(dialectNames[d]), func(t *testing.T) {
				checkEnvelope(t, body, l.err, dialectNames[d], id)
				checkErrorHead(t, &ctx.Response, l.err, dialectNames[d], id)
			})
			if dialect(d) == dialectAzure {
				continue // the same as OpenAI's
			}
			fmt.Fprintf(&golden, "%s %d%s\n%s\n", dialectNames[d], l.err.status, headText(&ctx.Response.Header), body)
		}
	}
	path := filepath.Join("testdata", "errors.golden")
	if *update {
		if err := os.WriteFile(path, golden.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := golden.String(); got != string(want) {
		g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range min(len(g), len(w)) {
			if g[i] != w[i] {
				t.Fatalf("line %d:\n got %s\nwant %s\n(go test -update rewrites %s)", i+1, g[i], w[i], path)
			}
		}
		t.Fatalf("%d lines, want %d (go test -update rewrites %s)", len(g), len(w), path)
	}
}

// headText is the header fields that clients act on.
func headText(h *fasthttp.ResponseHeader) string {
	var b strings.Builder
	for _, name := range []string{"WWW-Authenticate", "Allow", "Retry-After", "Retry-After-Ms", "X-Should-Retry", "Connection"} {
		if v := h.Peek(name); len(v) > 0 {
			fmt.Fprintf(&b, " %s=%s", strings.ToLower(name), v)
		}
	}
	return b.String()
}

// checkEnvelope holds that body is d's error object, with the keys that its
// SDKs need.
func checkEnvelope(t *testing.T, body []byte, e *apiError, d configs.Dialect, id string) {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	inner, ok := v["error"].(map[string]any)
	if !ok || inner["message"] != e.message {
		t.Fatalf("no error.message: %s", body)
	}
	keys := func(m map[string]any) string {
		var k []string
		for name := range m {
			k = append(k, name)
		}
		slices.Sort(k)
		return strings.Join(k, " ")
	}
	switch d {
	case configs.Anthropic:
		known := []string{"invalid_request_error", "authentication_error", "permission_error", "not_found_error", "request_too_large", "rate_limit_error", "api_error", "overloaded_error", "timeout_error"}
		if keys(v) != "error request_id type" || v["type"] != "error" || v["request_id"] != id || keys(inner) != "message type" {
			t.Errorf("not Anthropic's envelope: %s", body)
		}
		if typ, _ := inner["type"].(string); !slices.Contains(known, typ) {
			t.Errorf("type %q is none that Anthropic documents", typ)
		}
	case configs.Gemini:
		known := []string{"UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "INVALID_ARGUMENT"}
		if keys(v) != "error" || keys(inner) != "code message status" || inner["code"] != float64(e.status) {
			t.Errorf("not Google's envelope: %s", body)
		}
		if status, _ := inner["status"].(string); !slices.Contains(known, status) {
			t.Errorf("status %q is no google.rpc.Code", status)
		}
	default:
		if keys(v) != "error" || keys(inner) != "code message param type" {
			t.Errorf("not OpenAI's four keys: %s", body)
		}
		if code, _ := inner["code"].(string); code == "" || inner["type"] == "" {
			t.Errorf("no code or type: %s", body)
		}
		if p, ok := inner["param"].(string); inner["param"] != nil && (!ok || p == "") {
			t.Errorf("param is neither null nor a name: %s", body)
		}
	}
}

// checkErrorHead holds what clients read from the head.
func checkErrorHead(t *testing.T, res *fasthttp.Response, e *apiError, d configs.Dialect, id string) {
	t.Helper()
	h := &res.Header
	want := map[string]string{"Content-Type": "application/json", "X-Request-Id": id, "X-Left-Over": "", "Request-Id": "", "Www-Authenticate": ""}
	if d == configs.Anthropic {
		want["Request-Id"] = id
	}
	if e.status == 401 {
		want["Www-Authenticate"] = "Bearer"
	}
	for name, v := range want {
		if got := string(h.Peek(name)); got != v {
			t.Errorf("%s: %q, want %q", name, got, v)
		}
	}
	if res.StatusCode() != e.status || e.status < 400 {
		t.Errorf("status %d, want %d", res.StatusCode(), e.status)
	}
	if e.close != h.ConnectionClose() && e.status != 426 {
		t.Errorf("connection close: %t, want %t", h.ConnectionClose(), e.close)
	}
	if (e.status == 503 || e.status == 429) != (e.retryAfter > 0) && e.status < 500 {
		t.Errorf("status %d with Retry-After %d", e.status, e.retryAfter)
	}
	if e.status == 503 && e.retryAfter == 0 {
		t.Error("503 without Retry-After: SDKs try again at once")
	}
	if e.end == telemetry.Completed {
		t.Error("a refusal that counts as completed")
	}
	if strings.ToLower(e.code) != e.code || strings.ContainsAny(e.code, " -") {
		t.Errorf("code %q", e.code)
	}
}

// TestErrorTextsArePrintableASCII: only of such is the quoted form, which is
// Go's, also JSON's. Nothing of a request stands in a message.
func TestErrorTextsArePrintableASCII(t *testing.T) {
	for _, l := range namedErrors {
		for _, text := range []string{l.err.message, l.err.param, l.err.code, l.err.typ} {
			if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
				t.Errorf("%s: %q at %d", l.name, text, i)
			}
		}
	}
}

func TestErrorsNeverNameTheUpstreamOrItsAccount(t *testing.T) {
	for _, l := range namedErrors {
		for _, word := range []string{"sk-", "http://", "https://", "127.0.0.1", "fasthttp", "panic", "goroutine"} {
			if strings.Contains(strings.ToLower(l.err.message), word) {
				t.Errorf("%s says %q", l.name, word)
			}
		}
	}
}
