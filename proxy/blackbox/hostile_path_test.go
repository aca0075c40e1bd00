package blackbox

import (
	"streamrelay/auth"
	"strings"
	"testing"
)

// raw is a GET with a target as it stands, which request would quote as well.
func rawGet(target string) string { return request("GET", target, "") }

func TestPathThatLeavesItsRootIsRefused(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	for _, path := range []string{
		"/v1/..", "/v1/../admin", "/v1/models/../../admin", "/v1/models/..", "/..", "/../v1/models",
		"/v1/%2e%2e/admin", "/v1/%2E%2E/admin", "/v1/.%2e/admin", "/v1/%2e./admin", "/v1/%2e%2e",
		"/v1/..%2fadmin", "/v1/..%2Fadmin", "/v1/%2e%2e%2fadmin", "/v1/x%2f..%2fadmin", "/v1/x%2f..", "/v1%2f..%2fadmin",
		"/v1/..\\admin", "/v1/..%5cadmin", "/v1/x\\..\\admin", "/v1/%2e%2e%5c", "/v1/x%5c..",
		"/v1/..;/admin", "/v1/..;a=b/admin", "/v1/%2e%2e;/admin", "/v1/..%3b/admin", "/v1/;/../admin", "/v1/x;..",
		"/v1beta/../v1", "/openai/%2e%2e/x",
		"http://relay/v1/../admin", "http://relay/v1/%2e%2e/admin",
	} {
		t.Run(path, func(t *testing.T) { rl.refusesRequest(t, up, 400, rawGet(path)) })
	}
}

// Spellings that a provider may normalise are refused as well: no client needs
// them, and rules look at the path as it stands.
func TestPathWithBytesThatAreNoPathIsRefused(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	for _, path := range []string{
		"//v1/models", "/%76%31/models", "/v1/./models", "/v1//models", "/v1/%6dodels", "/v1/%00", "/v1/models/a%00b", "/v1/%", "/v1/%2", "/v1/%zz", "/v1/%2g", "/v1/models%", "/v1/a%u002e",
		"/v1/mod#els", "/v1/#", "/v1/caf\xe9", "/v1/\xc0\xae\xc0\xae/admin", "/v1/\xe2\x80\xae",
	} {
		t.Run(path, func(t *testing.T) { rl.refusesRequest(t, up, 400, rawGet(path)) })
	}
}

// refusesRequest is for requests that are well-formed HTTP: their status is
// exact, and whether the connection stays is the relay's choice as long as
// what follows is not served as something else.
func (rl *relay) refusesRequest(t testing.TB, up *upstream, status int, raw string) *answer {
	t.Helper()
	before := up.asked()
	_, a := rl.speak(t, raw)
	if a == nil {
		t.Fatal("no answer")
	}
	if a.status != status {
		t.Errorf("status %d, want %d: %s", a.status, status, clip(a.body))
	}
	if !strings.Contains(string(a.body), `"error"`) || a.get("Content-Type") != "application/json" || a.get("X-Request-Id") == "" {
		t.Errorf("not in an envelope: %s %s", a.head, clip(a.body))
	}
	up.notAsked(t, before)
	return a
}

func TestPathOutsideTheRootsIsUnknown(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	for _, path := range []string{"/", "/v2/models", "/v1x/models", "/V1/models", "/v1%2fmodels", "/api/v1/models", "/v1betax", "/openaix/v1",
		"/metrics/", "/healthz/", "/Healthz", "/debug/pprof/", "/reload", "/config", "http://relay", "http://relay?x=/v1/models", "ftp://relay?/v1/models"} {
		t.Run(path, func(t *testing.T) {
			a := rl.refusesRequest(t, up, 404, rawGet(path))
			if e := decodeOpenAI(t, a.body); e.Code == nil || *e.Code != "unknown_url" {
				t.Errorf("%s", a.body)
			}
		})
	}
}

func TestAbsoluteFormIsServedAsItsPathAndItsAuthorityNeverContacted(t *testing.T) {
	other := untouched(t)
	got := make(chan string, 1)
	up := newUpstream(t, func(rq *received) { got <- rq.line + "\n" + rq.get("Host"); rq.reply(200, "{}") })
	rl := relayTo(t, up, "")
	for target, want := range map[string]string{
		other.url + "/v1/models?a=b":                  "/oai/v1/models?a=b",
		"http://user:secret@" + other.addr + "/v1/m":  "/oai/v1/m",
		"https://" + other.addr + "/v1/models":        "/oai/v1/models",
		"HTTP://" + other.addr + "/v1beta/models":     "/gem/v1beta/models",
		"http://" + other.addr + "/v1/x?u=http://a/b": "/oai/v1/x?u=http://a/b",
	} {
		t.Run(target, func(t *testing.T) {
			c := rl.dialFor(t)
			c.send(rawGet(target))
			if a := c.answer(); a.status != 200 {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			if line := receive(t, got); line != "GET "+want+" HTTP/1.1\n"+up.addr {
				t.Errorf("upstream got %q", line)
			}
		})
	}
	if other.asked() != 0 {
		t.Error("the authority of an absolute form was contacted")
	}
}

// A key that may use some models only must not pass its rule by writing the
// path in a way that the relay does not recognise and the provider does.
func TestAnotherSpellingOfAPathPassesNoModelRule(t *testing.T) {
	up := untouched(t)
	limited := key("limited", "sk-limited-key-000000000000000000000000000", "acme")
	limited.Models = []string{"cheap-*"}
	rl := relayTo(t, up, "", option{keys: []*auth.Record{limited}})
	for _, path := range []string{
		"/v1/chat/completions", "/v1//chat/completions", "/v1/./chat/completions", "/v1/chat//completions", "/v1/chat/./completions",
		"/v1/chat%2fcompletions", "/v1/%63hat/completions", "/v1/chat/completion%73", "/v1/chat/completions/", "/v1/chat\\completions", "/v1/chat;x/completions",
		"/v1/%2e/chat/completions",
		"/v1beta/models/dear:generateContent", "/v1beta/models/dear%3AgenerateContent", "/v1beta//models/dear:generateContent", "/v1beta/./models/dear:generateContent",
		"/v1beta/%6dodels/dear:generateContent", "/v1beta/models/dear:generateContent/", "/v1beta/openai/chat%2fcompletions",
		"/openai/deployments/dear/chat/completions", "/openai/deployments/dear%2Fchat%2Fcompletions", "/openai//deployments/dear/chat/completions",
		"/openai/./deployments/dear/chat/completions", "/openai/%64eployments/dear/chat/completions", "/openai/v1//chat/completions", "/openai/deployments//dear/chat/completions",
		"/v1/messages", "/v1//messages", "/v1/%6dessages",
	} {
		for _, contentType := range []string{"text/plain", "application/json", "multipart/form-data; boundary=x", "application/octet-stream"} {
			t.Run(path+" "+contentType, func(t *testing.T) {
				before := up.asked()
				raw := strings.Replace(request("POST", path, `{"model":"dear","messages":[]}`, "Content-Type: "+contentType), testKey, "sk-limited-key-000000000000000000000000000", 1)
				c, a := rl.speak(t, raw)
				if a == nil || !refusal(a.status) {
					t.Errorf("not refused: %+v", a)
				}
				_ = c.Close()
				up.notAsked(t, before)
			})
		}
	}
}
