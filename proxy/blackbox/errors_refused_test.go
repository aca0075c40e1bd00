package blackbox

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"

	"streamrelay/telemetry"
)

// flagged is how OpenRouter says 403 of what the client sent.
const flagged = `{"error":{"code":403,"message":"Your input was flagged","metadata":{"reasons":["violence"],"flagged_input":"a*b**c"}}}`

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

// forbidden is an answer of 403 with a length.
func forbidden(body string, fields ...string) string {
	head := "HTTP/1.1 403 Forbidden\r\n"
	for _, f := range fields {
		head += f + "\r\n"
	}
	return head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

const (
	ofJSON = "Content-Type: application/json"
	ofGzip = "Content-Encoding: gzip"
)

func TestA403AboutWhatTheClientSentIsTheClients(t *testing.T) {
	head := "HTTP/1.1 403 Forbidden\r\n" + ofJSON + "\r\n"
	for name, tt := range map[string]struct{ raw, body string }{
		"of a known length": {forbidden(flagged, ofJSON), flagged},
		"in chunks":         {head + "Transfer-Encoding: chunked\r\n\r\n" + chunk(flagged[:20]) + chunk(flagged[20:]) + lastChunk, flagged},
		"until the close":   {head + "\r\n" + flagged, flagged},
		"compressed":        {forbidden(zipped(flagged), ofJSON, ofGzip), zipped(flagged)},
		"of a problem":      {forbidden(flagged, "Content-Type: application/problem+json; charset=utf-8"), flagged},
		"large":             {forbidden(flagged+strings.Repeat(" ", 7<<10), ofJSON), flagged + strings.Repeat(" ", 7<<10)},
	} {
		for _, carrier := range carriers {
			t.Run(name+", "+carrier, func(t *testing.T) {
				t.Parallel()
				for cut, cutter := range cuts {
					if len(tt.raw) > 4<<10 && cut != "in one piece" {
						continue
					}
					up := newUpstream(t, func(rq *received) {
						for _, p := range cutter(tt.raw) {
							rq.send(p)
						}
						if name == "until the close" {
							rq.close()
						}
					})
					rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
					_, a := rl.speak(t, post("/v1/chat/completions", chatStream))
					if a.status != 403 || string(a.body) != tt.body || a.err != nil {
						t.Errorf("%s: status %d, %v, %s", cut, a.status, a.err, firstDifference(a.body, []byte(tt.body)))
					}
					if r := rl.one(); r.End != telemetry.UpstreamStatus || r.Status != 403 || r.UpstreamStatus != 403 {
						t.Errorf("%s: recorded as %v, %d, upstream's %d", cut, r.End, r.Status, r.UpstreamStatus)
					}
				}
			})
		}
	}
}

func TestA403ThatMaySpeakOfTheCredentialIsWithheld(t *testing.T) {
	says := func(text string) string { return `{"error":{"message":"` + text + `"}}` }
	suspended := says("Consumer 'api_key:" + upstreamKey + "' has been suspended.")
	masked := says("key sk-u...")
	for name, raw := range map[string]string{
		"the key":          forbidden(suspended, ofJSON),
		"its beginning":    forbidden(masked, ofJSON),
		"its end":          forbidden(says("your key ...-987 may not"), ofJSON),
		"asterisks":        forbidden(says("your key s***x may not"), ofJSON),
		"compressed":       forbidden(zipped(suspended), ofJSON, ofGzip),
		"of another code":  forbidden(flagged, ofJSON, "Content-Encoding: rot13"),
		"badly compressed": forbidden(zipped(flagged)[:30], ofJSON, ofGzip),
		"a bomb":           forbidden(zipped(strings.Repeat(" ", 1<<20)), ofJSON, ofGzip),
		"a page":           forbidden("<html>you have been blocked</html>", "Content-Type: text/html"),
		"of no type":       forbidden(flagged),
		"without a body":   forbidden(""),
		"a stream":         forbidden("data: "+flagged+"\n\n", "Content-Type: text/event-stream"),
		"too long":         forbidden(flagged+strings.Repeat(" ", 9<<10), ofJSON),
		"too long, chunks": "HTTP/1.1 403 Forbidden\r\n" + ofJSON + "\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(flagged) + chunk(strings.Repeat(" ", 9<<10)) + lastChunk,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := newUpstream(t, func(rq *received) { rq.send(raw) })
			rl := relayTo(t, up, "")
			c, a := rl.speak(t, post("/v1/chat/completions", chatStream))
			if a.status != 502 || !strings.Contains(string(a.body), "upstream_auth") {
				t.Errorf("%s%s", a.head, a.body)
			}
			if r := rl.one(); r.End != telemetry.UpstreamStatus || r.Status != 502 || r.UpstreamStatus != 403 || r.Error != "upstream_auth" {
				t.Errorf("recorded as %v, %d, upstream's %d, %q", r.End, r.Status, r.UpstreamStatus, r.Error)
			}
			c.send(post("/v1/chat/completions", chatStream))
			if a := c.answer(); a.status != 502 {
				t.Errorf("the connection's next request: %s%s", a.head, a.body)
			}
		})
	}
	t.Run("cut", func(t *testing.T) {
		up := newUpstream(t, func(rq *received) {
			raw := forbidden(suspended, ofJSON)
			rq.send(raw[:len(raw)-2])
			rq.close()
		})
		rl := relayTo(t, up, "")
		if _, a := rl.speak(t, post("/v1/chat/completions", chatStream)); a.status != 502 || strings.Contains(string(a.body), "sk-") {
			t.Errorf("%s%s", a.head, a.body)
		}
	})
}

// One client's flagged inputs are no reason to leave an account that others use.
func TestAnAccountRestsOnlyAfterSeveral403InARow(t *testing.T) {
	fl := newFleet(t, "", "", func(rq *received) {
		if strings.Contains(rq.body, `"m1"`) {
			rq.reply(403, flagged)
		} else {
			ok("a")(rq)
		}
	}, ok("b"))
	other := post("/v1/chat/completions", strings.Replace(chatPlain, "m1", "m2", 1))
	for i, want := range []string{"ab", "abab", "ababab", "abababb"} {
		if s := fl.ask(); s != 200 || fl.order(t) != want {
			t.Fatalf("request %d: status %d, sent to %s", i+1, s, fl.order(t))
		}
	}
	if n := fl.metrics()[`relay_upstream_credential_state{upstream="a",credential="0",state="refused"}`]; n != 1 {
		t.Error("the state is not shown")
	}

	fl = newFleet(t, "", "", func(rq *received) {
		if strings.Contains(rq.body, `"m1"`) {
			rq.reply(403, flagged)
		} else {
			ok("a")(rq)
		}
	}, ok("b"))
	for i := range 5 {
		fl.ask()
		fl.ask()
		fl.forget()
		if _, a := fl.speak(t, other); a.status != 200 || fl.order(t) != "a" {
			t.Fatalf("what goes well in between: status %d, sent to %s", a.status, fl.order(t))
		}
		fl.wait(3 * (i + 1)) // the account hears of it at the exchange's end
		fl.forget()
	}
}

func TestA400ForAKeyThatIsNotValidIsTheRelaysMatter(t *testing.T) {
	const (
		native = `{"error":{"code":400,"message": "API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}`
		compat = `[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]`
		xai    = `{"code":"Client specified an invalid argument","error":"Incorrect API key provided: AI***01. You can obtain an API key from https://console.x.ai."}`
		other  = `{"error":{"code":400,"message":"contents is not specified","status":"INVALID_ARGUMENT"}}`
		forged = `{"error":{"code":400,"message":"Unknown name \"API_KEY_INVALID\": \"API key not valid.\", \"Incorrect API key provided\"","status":"INVALID_ARGUMENT"}}`
		path   = "/v1beta/models/m1:generateContent"
	)
	for _, tt := range []struct {
		name, dialect, body string
		fields              []string
		status              int
	}{
		{name: "native", dialect: "gemini", body: native, status: 502},
		{name: "compressed", dialect: "gemini", body: zipped(native), fields: []string{ofGzip}, status: 502},
		{name: "OpenAI's surface", dialect: "gemini", body: compat, status: 502},
		{name: "another mistake", dialect: "gemini", body: other, status: 400},
		{name: "the client's own words", dialect: "gemini", body: forged, status: 400},
		{name: "another one, compressed", dialect: "gemini", body: zipped(other), fields: []string{ofGzip}, status: 400},
		{name: "much of it", dialect: "gemini", body: other + strings.Repeat(" ", 20<<10), status: 400},
		{name: "xAI", dialect: "openai", body: xai, status: 502},
		{name: "another provider", dialect: "openai", body: "Incorrect API key provided", status: 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var asked, second int
			bad := newUpstream(t, func(rq *received) {
				asked++
				rq.reply(400, tt.body, tt.fields...)
			})
			good := newUpstream(t, func(rq *received) { second++; rq.reply(200, "{}") })
			at, root := path, "/v1beta"
			if tt.dialect == "openai" {
				at, root = "/v1/chat/completions", "/v1"
			}
			yaml := fmt.Sprintf("upstreams:\n  - {name: a, dialect: %s, base_url: \"%s%s\", credentials: [{value: AIzaSyExample-Key-0001}]}\n", tt.dialect, bad.url, root)
			sole := startRelay(t, yaml)
			_, a := sole.speak(t, post(at, chatPlain))
			if a.status != tt.status || tt.status == 400 && string(a.body) != tt.body || tt.status == 502 && !strings.Contains(string(a.body), "credential") {
				t.Errorf("%s%s", a.head, a.body)
			}
			both := startRelay(t, yaml+fmt.Sprintf("  - {name: b, dialect: %s, base_url: \"%s%s\", priority: 1, credentials: [{value: AIzaSyExample-Key-0002}]}\n", tt.dialect, good.url, root))
			asked = 0
			want, toB := 400, 0
			if tt.status == 502 {
				want, toB = 200, 2
			}
			for range 2 {
				if _, a := both.speak(t, post(at, chatPlain)); a.status != want {
					t.Errorf("%s%s", a.head, a.body)
				}
			}
			if second != toB || asked != 2-toB/2 {
				t.Errorf("%d at the one, %d at the other", asked, second)
			}
		})
	}
}

// Where another account can answer nobody waits for the text of a refusal.
func TestA403IsFollowedByAnotherAccountWhateverItsBody(t *testing.T) {
	head := "HTTP/1.1 403 Status\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
	for name, script := range map[string]func(*received){
		"breaks off":   func(rq *received) { rq.send(head); rq.close() },
		"never ends":   func(rq *received) { rq.send(head); <-rq.up.done },
		"is of events": func(rq *received) { rq.send(forbidden("data: "+flagged+"\n\n", "Content-Type: text/event-stream")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fl := newFleet(t, "", "retry: {on: [connect, auth]}\n", script, ok("b"))
			if s := fl.ask(); s != 200 || fl.order(t) != "ab" {
				t.Errorf("status %d, sent to %s", s, fl.order(t))
			}
		})
	}
}

// What breaks off behind a status is told as it is.
func TestA400ThatBreaksOffBreaksOffForTheClient(t *testing.T) {
	up := newUpstream(t, func(rq *received) {
		rq.send("HTTP/1.1 400 Status\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"error\"")
		rq.close()
	})
	rl := relayTo(t, up, "")
	if _, a := rl.speak(t, post("/v1/chat/completions", chatPlain)); a.status != 400 || string(a.body) != `{"error"` || a.err == nil {
		t.Errorf("%s%s (%v)", a.head, a.body, a.err)
	}
	if r := rl.one(); r.End != telemetry.UpstreamCut || r.Status != 400 {
		t.Errorf("recorded as %v, %d", r.End, r.Status)
	}
}

// The status of a failure counts, not that its body is an event.
func TestAFailureInTheFormOfEventsIsJudgedByItsStatus(t *testing.T) {
	events := func(status int) func(*received) {
		return func(rq *received) {
			rq.send(strings.Replace(forbidden("data: "+flagged+"\n\n", "Content-Type: text/event-stream"), "403 Forbidden", fmt.Sprintf("%d Status", status), 1))
		}
	}
	fl := newFleet(t, "", "retry: {attempts: 1}\n", events(403), ok("b"))
	for range 5 {
		fl.ask()
	}
	m := fl.metrics()
	if m[`relay_upstream_state{upstream="a",state="up"}`] != 1 || m[`relay_upstream_credential_state{upstream="a",credential="0",state="refused"}`] != 1 {
		t.Error("five 403: the upstream must be up, the credential refused")
	}
	for _, status := range []int{400, 429} {
		fl := newFleet(t, "", "retry: {on: [connect, error_event]}\n", events(status), ok("b"))
		if s := fl.ask(); s != status || fl.order(t) != "a" {
			t.Errorf("%d: status %d, sent to %s", status, s, fl.order(t))
		}
		if r := fl.one(); r.End != telemetry.UpstreamStatus {
			t.Errorf("%d: recorded as %v", status, r.End)
		}
	}
}

func TestABadKeyRestsAlsoWhereItsRequestIsNotTriedAgain(t *testing.T) {
	const native = `{"error":{"code":400,"message": "API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}`
	for _, code := range []int{401, 400} {
		fl := newFleet(t, "", "retry: {attempts: 1}\n", func(rq *received) { rq.reply(code, native) }, ok("b"))
		for i, want := range []int{502, 200, 200} {
			if s := fl.ask(); s != want {
				t.Errorf("%d, request %d: status %d", code, i+1, s)
			}
		}
		if strings.Contains(fl.log.String(), "it was accepted") {
			t.Errorf("%d: the log says that the credential was accepted", code)
		}
	}
}

func TestA403ThatShowsASecretOfHeadersSetIsWithheld(t *testing.T) {
	const secret = "sk-of-headers-0123456789abcdef"
	for name, text := range map[string]string{"whole": secret, "its end": "...cdef", "another field": "org-12345678"} {
		t.Run(name, func(t *testing.T) {
			up := newUpstream(t, func(rq *received) {
				rq.send(forbidden(`{"error":{"message":"Key `+text+` has been suspended."}}`, ofJSON))
			})
			rl := startRelay(t, fmt.Sprintf("upstreams:\n  - {name: a, dialect: openai, base_url: \"%s/v1\", headers: {set: {Authorization: \"Bearer %s\", X-Team: org-12345678}}}\n", up.url, secret))
			if _, a := rl.speak(t, post("/v1/chat/completions", chatPlain)); a.status != 502 || strings.Contains(string(a.body), text) {
				t.Errorf("status %d: %s", a.status, a.body)
			}
		})
	}
}
