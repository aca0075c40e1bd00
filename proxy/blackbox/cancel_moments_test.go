package blackbox

import (
	"fmt"
	"strings"
	"testing"

	"streamrelay/telemetry"
)

// leavings are the ways in which a client goes.
var leavings = map[string]func(*client){
	"closes":      func(c *client) { _ = c.Close() },
	"resets":      func(c *client) { c.reset() },
	"half-closes": func(c *client) { _ = c.tcp().CloseWrite() }, // as nginx and net/http have it, gone
}

// cancelMoment is a moment of an exchange at which the client goes.
type cancelMoment struct {
	name    string
	request string
	sent    string // what the upstream has sent until then
	shown   string // the part of the body that the client has then; "" with sent == "": not even the head
	status  int
}

var cancelMoments = []cancelMoment{
	{"before the head", post("/v1/chat/completions", chatStream), "", "", 499},
	{"before the first event", post("/v1/chat/completions", chatStream), streamHead, "", 200},
	{"mid-stream", post("/v1/chat/completions", chatStream), streamHead + chunk(content("a")), content("a"), 200},
	{"within an event", post("/v1/chat/completions", chatStream), streamHead + chunk(content("a")+content("b")[:90]), content("a") + content("b")[:90], 200},
	{"HTTP/1.0 stream", http10(post("/v1/chat/completions", chatStream)), streamHead + chunk(content("a")), content("a"), 200},
	{"JSON before its head", post("/v1/chat/completions", chatPlain), "", "", 499},
	{"JSON of known length", post("/v1/chat/completions", chatPlain), "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n\n\n", "\n\n", 200},
	{"JSON in chunks", post("/v1/chat/completions", chatPlain), "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("\n"), "\n", 200},
	{"binary", post("/v1/audio/speech", `{"model":"m1"}`), "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("ID3"), "ID3", 200},
	{"interim answers only", post("/v1/chat/completions", chatStream), "HTTP/1.1 103 Early Hints\r\n\r\n", "", 499},
}

func TestAClientThatLeavesEndsTheUpstreamsExchange(t *testing.T) {
	cert := newCertificate(t)
	for _, transport := range []string{"plain", "TLS to both", "TLS upstream"} {
		for _, carrier := range carriers {
			for _, w := range cancelMoments {
				for how, leave := range leavings {
					t.Run(fmt.Sprintf("%s, %s, %s, %s", w.name, how, transport, carrier), func(t *testing.T) {
						t.Parallel()
						closed, asked := make(chan bool, 1), make(chan struct{})
						script := func(rq *received) {
							rq.send(w.sent)
							close(asked)
							closed <- rq.gone()
						}
						var up *upstream
						if transport == "plain" {
							up = newUpstream(t, script)
						} else {
							up = newTLSUpstream(t, cert, script)
						}
						more := "stream: {carrier: " + carrier + "}\n"
						if transport == "TLS to both" {
							more += cert.listenerYAML()
						}
						rl := relayTo(t, up, more)
						var c *client
						if transport == "TLS to both" {
							c = rl.dialTLS(cert)
						} else {
							c = rl.dial()
						}
						c.send(w.request)
						receive(t, asked)
						if w.status != 499 {
							c.begin().expect(w.shown)
						}
						leave(c)
						if !receive(t, closed) {
							t.Error("the upstream's connection was not just closed")
						}
						r := rl.one()
						events := strings.Count(w.shown, "\n\n")
						if !strings.Contains(w.shown, "data: ") {
							events = 0
						}
						if r.End != telemetry.ClientGone || r.Status != w.status || r.Cancel <= 0 || r.Events != int64(events) {
							t.Errorf("record: %s, status %d, cancel %d, %d events", r.End, r.Status, r.Cancel, r.Events)
						}
						if r.UsageSource != telemetry.UsageUnknown || r.Usage != unknownTokens {
							t.Errorf("usage %+v of %d, want unknown", r.Usage, r.UsageSource)
						}
					})
				}
			}
		}
	}
}

// openai-python leaves after [DONE] and before the last chunk: that is success,
// and its usage counts (envoyproxy/ai-gateway#2563, QuantumNous/new-api#7062).
func TestLeavingAfterTheTerminalEventIsCompleted(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		events     []string
		usage      telemetry.Usage
	}{
		{"chat", "/v1/chat/completions", []string{content("a"), finalEvent, usageEvent, doneEvent}, tokens(12, 34, 5, -1, 7)},
		{"Responses", "/v1/responses", responsesStream(named("response.completed", `{"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":2}}}`)), tokens(1, 2, -1, -1, -1)},
		{"Responses incomplete", "/v1/responses", responsesStream(named("response.incomplete", `{"type":"response.incomplete","response":{"usage":{"input_tokens":1,"output_tokens":2}}}`)), tokens(1, 2, -1, -1, -1)},
		{"Anthropic", "/v1/messages", messagesStream(named("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}`), named("message_stop", `{"type":"message_stop"}`)), tokens(25, 15, 50, 100, -1)},
	} {
		for _, carrier := range carriers {
			for how, leave := range leavings {
				t.Run(tt.name+", "+how+", "+carrier, func(t *testing.T) {
					t.Parallel()
					closed := make(chan bool, 1)
					up := newUpstream(t, func(rq *received) {
						rq.send(streamHead)
						for _, e := range tt.events {
							rq.send(chunk(e))
						}
						closed <- rq.gone() // no last chunk: the client does not wait for it
					})
					rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
					c := rl.dial()
					c.send(post(tt.path, chatStream))
					c.begin().expect(strings.Replace(strings.Join(tt.events, ""), usageEvent, "", 1))
					leave(c)
					if !receive(t, closed) {
						t.Error("the upstream's connection was not just closed")
					}
					r := rl.one()
					if r.End != telemetry.Completed || r.Usage != tt.usage || r.UsageSource != telemetry.UsageProvider {
						t.Errorf("record: %s, usage %+v of %d", r.End, r.Usage, r.UsageSource)
					}
				})
			}
		}
	}
}

// A client that closes at the very moment it has the whole answer has lost
// nothing, whatever the relay has still to do.
func TestLeavingBehindAWholeAnswerIsCompleted(t *testing.T) {
	for name, tt := range map[string]struct {
		answer string
		end    telemetry.EndReason
	}{
		"JSON of known length": {reply(200, `{"a":1}`), telemetry.Completed},
		"JSON in chunks":       {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(`{"a":1}`) + lastChunk, telemetry.Completed},
		"a stream":             {streamHead + chunk(content("a")+doneEvent) + lastChunk, telemetry.Completed},
		"one without its end":  {streamHead + chunk(content("a")) + lastChunk, telemetry.UpstreamIncomplete},
		"an error":             {reply(503, `{"a":1}`), telemetry.UpstreamStatus},
		"no body":              {"HTTP/1.1 204 No Content\r\n\r\n", telemetry.Completed},
	} {
		for _, carrier := range carriers {
			t.Run(name+", "+carrier, func(t *testing.T) {
				t.Parallel()
				up := newUpstream(t, func(rq *received) { rq.send(tt.answer) })
				rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
				const n = 200
				for range n {
					c := rl.dial()
					c.send(post("/v1/chat/completions", chatStream))
					a := c.answer()
					_ = c.Close()
					if a.err != nil {
						t.Fatal(a.err)
					}
				}
				for i, r := range rl.wait(n) {
					if r.End != tt.end {
						t.Errorf("record %d: %s, want %s", i, r.End, tt.end)
					}
				}
			})
		}
	}
}

// What a client sends ahead is no sign that it has gone.
func TestBytesSentAheadDoNotEndAnExchange(t *testing.T) {
	cert := newCertificate(t)
	for _, transport := range []string{"plain", "TLS"} {
		for _, carrier := range carriers {
			t.Run(transport+", "+carrier, func(t *testing.T) {
				shown := make(chan struct{})
				up := newUpstream(t, func(rq *received) {
					rq.send(streamHead)
					for range 3 {
						if !rq.await(shown) {
							return
						}
						rq.send(chunk(content("a")))
					}
					rq.send(chunk(doneEvent) + lastChunk)
				})
				more := "stream: {carrier: " + carrier + "}\n"
				if transport == "TLS" {
					more += cert.listenerYAML()
				}
				rl := relayTo(t, up, more)
				c := rl.dial
				if transport == "TLS" {
					c = func() *client { return rl.dialTLS(cert) }
				}
				conn := c()
				rq := post("/v1/chat/completions", chatStream)
				conn.send(rq)
				for range 2 { // each is sent on while the one before streams
					a := conn.begin()
					for i := range 3 {
						if i == 1 {
							conn.send(rq[:20])
						}
						shown <- struct{}{}
						a.expect(content("a"))
					}
					conn.send(rq[20:])
					a.finish(doneEvent)
				}
				receive(t, func() chan struct{} { // the third is under way
					ch := make(chan struct{}, 1)
					go func() {
						eventually(t, "a third request", func() bool { return up.requests.Load() == 3 })
						ch <- struct{}{}
					}()
					return ch
				}())
				_ = conn.Close()
				for i, r := range rl.wait(3) {
					if want := []telemetry.EndReason{telemetry.Completed, telemetry.Completed, telemetry.ClientGone}[i]; r.End != want {
						t.Errorf("record %d: %s, want %s", i, r.End, want)
					}
				}
			})
		}
	}
}

// A client that closes between two requests has ended nothing.
func TestAnIdleClientThatLeavesIsNoExchange(t *testing.T) {
	up := newUpstream(t, func(rq *received) { rq.reply(200, "{}") })
	rl := relayTo(t, up, "")
	for range 20 {
		c := rl.dial()
		c.send(post("/v1/chat/completions", chatPlain))
		if a := c.answer(); a.status != 200 {
			t.Fatalf("status %d", a.status)
		}
		_ = c.Close()
	}
	eventually(t, "no client connection", func() bool { return rl.tel.OpenConnections.Load() == 0 })
	for i, r := range rl.wait(20) {
		if r.End != telemetry.Completed {
			t.Errorf("record %d: %s", i, r.End)
		}
	}
	if n := up.connections.Load(); n != 1 {
		t.Errorf("%d upstream connections, want one that is kept", n)
	}
}
