package blackbox

import (
	"fmt"
	"strings"
	"testing"
)

// TestBodiesAreShownToTheRequestLogWhereItWantsThem sends exchanges of every
// kind, with a limit of 1 KiB a body.
func TestBodiesAreShownToTheRequestLogWhereItWantsThem(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: "
	long := `{"model":"m1","messages":[{"role":"user","content":"` + strings.Repeat("x", 3000) + `"}]}`
	stream := streamHead + chunk(content("a")) + chunk(content("b")) + chunk(doneEvent) + lastChunk
	for name, c := range map[string]struct {
		more, request, answer string
		asked, got            string // what is shown
	}{
		"JSON": {
			more: "bodies: all", request: post("/v1/chat/completions", chatPlain), answer: head + "application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
			asked: chatPlain, got: `{"a":1}`,
		},
		"a stream": {
			more: "bodies: all", request: post("/v1/chat/completions", chatStream), answer: stream,
			asked: chatStream, got: content("a") + content("b") + doneEvent,
		},
		"long ones": {
			more: "bodies: errors", request: post("/v1/chat/completions", long), answer: head + "application/json\r\nContent-Length: 3002\r\n\r\n\"" + strings.Repeat("y", 3000) + "\"",
			asked: long[:1024], got: `"` + strings.Repeat("y", 1023),
		},
		"the relay's own refusal": {
			more: "bodies: errors", request: post("/v1/chat/completions", `{"model":`), asked: `{"model":`, got: `{"error":{`,
		},
		"off":            {more: "bodies: off", request: post("/v1/chat/completions", chatPlain), answer: head + "application/json\r\nContent-Length: 2\r\n\r\n{}"},
		"another tenant": {more: "bodies: all, body_tenants: [beta-*]", request: post("/v1/chat/completions", chatPlain), answer: head + "application/json\r\nContent-Length: 2\r\n\r\n{}"},
		"this tenant":    {more: "bodies: all, body_tenants: [beta-*, ac*]", request: post("/v1/chat/completions", chatPlain), answer: head + "application/json\r\nContent-Length: 2\r\n\r\n{}", asked: chatPlain, got: "{}"},
		"sound":          {more: "bodies: all", request: post("/v1/audio/speech", chatPlain), answer: head + "audio/mpeg\r\nContent-Length: 3\r\n\r\nID3", asked: chatPlain},
		"a file":         {more: "bodies: all", request: request("POST", "/v1/files", form("XyZ", "", "data"), "Content-Type: multipart/form-data; boundary=XyZ"), answer: head + "application/json\r\nContent-Length: 2\r\n\r\n{}", got: "{}"},
		"no key":         {more: "bodies: all", request: strings.Replace(post("/v1/chat/completions", chatPlain), testKey, "sk-relay-unknown-unknown", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			rl := relayTo(t, newUpstream(t, func(rq *received) { rq.send(c.answer) }), "request_log: {body_max: 1KiB, "+c.more+"}\n")
			cl := rl.dialFor(t)
			cl.send(c.request)
			_, _ = cl.begin().rest()
			o := rl.one()
			if o.RequestBody != c.asked {
				t.Errorf("request's body %q, want %q", o.RequestBody, c.asked)
			}
			if c.got == `{"error":{` && strings.HasPrefix(o.AnswerBody, c.got) {
				return
			}
			if o.AnswerBody != c.got {
				t.Errorf("answer's body %q, want %q", o.AnswerBody, c.got)
			}
		})
	}
}

// TestCapturedBodiesCountAsHeld leaves less room than is to be captured: the
// exchange goes on, and what is shown ends early.
func TestCapturedBodiesCountAsHeld(t *testing.T) {
	answer := `"` + strings.Repeat("y", 200<<10) + `"`
	up := newUpstream(t, func(rq *received) {
		rq.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer))
	})
	rl := relayTo(t, up, "limits: {max_body: 64KiB, max_held: 64KiB}\nrequest_log: {bodies: all, body_max: 1MiB}\n")
	c := rl.dialFor(t)
	c.send(post("/v1/chat/completions", chatPlain))
	if a := c.answer(); string(a.body) != answer {
		t.Fatalf("status %d, %d bytes", a.status, len(a.body))
	}
	if kept := rl.one().AnswerBody; kept == "" || len(kept) > 32<<10 || !strings.HasPrefix(answer, kept) {
		t.Errorf("%d bytes are shown", len(kept))
	}
}
