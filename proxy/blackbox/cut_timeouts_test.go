package blackbox

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"streamrelay/telemetry"
)

// Each deadline of the upstream ends its exchange with its own reason: as a 504
// before the head has left, as an error event after it.
func TestAnUpstreamThatIsTooLateEndsTheExchange(t *testing.T) {
	for _, tt := range []struct {
		name, timeouts, sent string
		end                  telemetry.EndReason
		series               string
	}{
		{"head", "head: 100ms", "", telemetry.TimeoutHead, "timeout_head"},
		{"head after an interim answer", "head: 100ms", "HTTP/1.1 103 Early Hints\r\n\r\n", telemetry.TimeoutHead, "timeout_head"},
		{"half a head", "head: 100ms", "HTTP/1.1 200 OK\r\n", telemetry.TimeoutHead, "timeout_head"},
		{"total before the head", "total: 100ms", "", telemetry.TimeoutTotal, "timeout_total"},
		{"first event", "first_event: 100ms", streamHead, telemetry.TimeoutFirstEvent, "timeout_first_event"},
		{"first event, comments do not count", "first_event: 100ms", streamHead + chunk(": wait\n\n"), telemetry.TimeoutFirstEvent, "timeout_first_event"},
		{"first event, half of one does not count", "first_event: 100ms", streamHead + chunk(roleEvent[:100]), telemetry.TimeoutFirstEvent, "timeout_first_event"},
		{"idle before the first event", "idle: 100ms", streamHead, telemetry.TimeoutIdle, "timeout_idle"},
		{"idle between events", "idle: 100ms, first_event: 50ms", streamHead + chunk(content("a")), telemetry.TimeoutIdle, "timeout_idle"},
		{"idle within an event", "idle: 100ms", streamHead + chunk(content("a")+content("b")[:100]), telemetry.TimeoutIdle, "timeout_idle"},
		{"total within a stream", "total: 1s", streamHead + chunk(content("a")), telemetry.TimeoutTotal, "timeout_total"},
	} {
		for _, d := range cutDialects[:1] {
			for _, client := range []string{"reader", "writer", "HTTP/1.0 client"} {
				t.Run(strings.Join([]string{tt.name, d.name, client}, ", "), func(t *testing.T) {
					t.Parallel()
					closed := make(chan bool, 1)
					up := newUpstream(t, func(rq *received) {
						rq.send(tt.sent)
						closed <- rq.gone()
					})
					more, rq := "timeouts: {"+tt.timeouts+"}\n", post(d.path, chatStream)
					if client == "HTTP/1.0 client" {
						rq = http10(rq)
					} else {
						more += "stream: {carrier: " + client + "}\n"
					}
					rl := relayTo(t, up, more)
					c := rl.dial()
					c.send(rq)
					a := c.answer()
					_, body, stream := strings.Cut(tt.sent, "text/event-stream")
					status := 504
					if !stream {
						checkEnvelope(t, a, d.name, 504)
					} else {
						status = 200
						checkLateStream(t, a, d, body)
					}
					if !receive(t, closed) {
						t.Error("the upstream's connection was not just closed")
					}
					r := rl.one()
					if r.End != tt.end || r.Status != status || r.Error != "upstream_timeout" {
						t.Errorf("record: %s, status %d, error %q", r.End, r.Status, r.Error)
					}
					if got := sumOf(rl.metrics(), "relay_upstream_errors_total", fmt.Sprintf("reason=%q", tt.series)); got != 1 {
						t.Errorf("relay_upstream_errors_total of %s is %v", tt.series, got)
					}
				})
			}
		}
	}
}

// checkLateStream looks at a stream that a deadline ended: what had come, then
// an error event, then a broken transfer.
func checkLateStream(t *testing.T, a *answer, d cutDialect, sent string) {
	t.Helper()
	shown := ""
	for _, line := range strings.SplitAfter(sent, "\n") { // what stood in chunks
		if strings.HasPrefix(line, "data: ") || strings.HasPrefix(line, ": ") {
			shown += strings.TrimSuffix(line, "\r\n")
			if strings.HasSuffix(line, "\n") && !strings.HasSuffix(line, "\r\n") {
				shown += "\n"
			}
		}
	}
	rest, ok := strings.CutPrefix(string(a.body), shown)
	if !ok {
		t.Errorf("body %q does not begin with %q", a.body, shown)
	}
	if a.status != 200 || a.err == nil {
		t.Errorf("status %d, ended cleanly: %t", a.status, a.err == nil)
	}
	if err := d.check(strings.TrimLeft(rest, "\n")); err != nil {
		t.Error(err)
	}
}

// What keeps a connection alive is no silence: comments, and the blank lines
// before a JSON answer.
func TestSignsOfLifeKeepAnUpstreamFromBeingIdle(t *testing.T) {
	for _, tt := range []struct{ name, head, life, end string }{
		{"comments", streamHead, chunk(": keep-alive\n\n"), chunk(doneEvent) + lastChunk},
		{"blank lines", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", chunk("\n"), chunk("{}") + lastChunk},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			up := newUpstream(t, func(rq *received) {
				rq.send(tt.head)
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for range 40 { // longer than the timeout in all
					<-tick.C
					rq.send(tt.life)
				}
				rq.send(tt.end)
			})
			rl := relayTo(t, up, "timeouts: {idle: 1s, first_event: 10s}\n")
			c := rl.dial()
			c.send(post("/v1/chat/completions", chatStream))
			if a := c.answer(); a.err != nil || a.status != 200 {
				t.Errorf("status %d: %s (%v)", a.status, a.body, a.err)
			}
			if r := rl.one(); r.End != telemetry.Completed {
				t.Errorf("record: %s", r.End)
			}
		})
	}
}

// The TLS handshake is a part of connecting.
func TestAnUpstreamThatNeverShakesHandsIsA504(t *testing.T) {
	cert := newCertificate(t)
	up := newRawUpstream(t, nil, func(c *upstreamConn) { _, _ = io.Copy(io.Discard, c.r) })
	up.url, up.caFile = "https://"+up.addr, cert.certFile
	rl := relayTo(t, up, "timeouts: {connect: 100ms}\n")
	c := rl.dial()
	c.send(post("/v1/messages", chatStream))
	checkEnvelope(t, c.answer(), "Anthropic", 504)
	if r := rl.one(); r.End != telemetry.TimeoutConnect || r.UpstreamStatus != 0 {
		t.Errorf("record: %s", r.End)
	}
	if got := sumOf(rl.metrics(), "relay_upstream_errors_total", `reason="timeout_connect"`); got != 1 {
		t.Errorf("relay_upstream_errors_total of timeout_connect is %v", got)
	}
}

// A certificate that nobody vouches for is not accepted.
func TestAnUpstreamWithAnUnknownCertificateIsA502(t *testing.T) {
	up := newTLSUpstream(t, newCertificate(t), func(rq *received) { rq.reply(200, "{}") })
	up.caFile = newCertificate(t).certFile
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(post("/v1/chat/completions", chatStream))
	checkEnvelope(t, c.answer(), "chat", 502)
	if n := up.requests.Load(); n != 0 {
		t.Errorf("the upstream got %d requests", n)
	}
	if r := rl.one(); r.End != telemetry.UpstreamError {
		t.Errorf("record: %s", r.End)
	}
}

// Answers larger than limits.max_stream are ended, with an event where there
// can be one.
func TestAnEndlessAnswerIsEnded(t *testing.T) {
	for _, kind := range []string{"stream", "one event", "audio"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			closed := make(chan struct{})
			up := newUpstream(t, func(rq *received) {
				defer close(closed)
				rq.over = true
				head, piece := streamHead, chunk(content(strings.Repeat("x", 1000)))
				if kind == "audio" {
					head = strings.Replace(streamHead, "text/event-stream", "audio/mpeg", 1)
				}
				if kind == "one event" {
					head, piece = head+chunk(content("x")[:90]), chunk(strings.Repeat("x", 1000))
				}
				rq.send(head)
				for range 1 << 20 {
					if _, err := io.WriteString(rq.Conn, piece); err != nil {
						return
					}
				}
			})
			rl := relayTo(t, up, "limits: {max_stream: 1MiB}\n")
			c := rl.dial()
			c.send(post("/v1/audio/speech", chatStream))
			a := c.answer()
			if a.err == nil || len(a.body) > 2<<20 {
				t.Errorf("%d bytes, ended cleanly: %t", len(a.body), a.err == nil)
			}
			if has := strings.Contains(string(a.body), "answer_too_large"); has != (kind != "audio") {
				t.Errorf("error event: %t: %s", has, clip(a.body))
			}
			receive(t, closed)
			if r := rl.one(); r.End != telemetry.UpstreamError || r.Error != "answer_too_large" {
				t.Errorf("record: %s, error %q", r.End, r.Error)
			}
		})
	}
}

const keepalive = ": keep-alive\n\n"

// A comment goes into silence alone, as a block of its own (earendil-works/pi#9633).
func TestKeepAliveCommentsStandBetweenEvents(t *testing.T) {
	for _, client := range []string{"reader", "writer", "HTTP/1.0 client"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			shown := make(chan struct{})
			up := newUpstream(t, func(rq *received) {
				rq.send(streamHead)
				for _, e := range []string{content("a"), content("b"), usageEvent, doneEvent} {
					if !rq.await(shown) {
						return
					}
					rq.send(chunk(e))
				}
				rq.send(lastChunk)
			})
			more, rq := "stream: {keepalive_comment: 20ms", post("/v1/chat/completions", chatStream)
			if client == "HTTP/1.0 client" {
				rq = http10(rq)
			} else {
				more += ", carrier: " + client
			}
			rl := relayTo(t, up, more+"}\n")
			c := rl.dial()
			c.send(rq)
			a := c.begin()
			for _, e := range []string{content("a"), content("b"), "", doneEvent} {
				for range 3 {
					a.expect(keepalive)
				}
				shown <- struct{}{}
				if e != "" {
					skipComments(a, e)
				}
			}
			a.finish("")
			if r := rl.one(); r.End != telemetry.Completed || r.Events != 4 || r.ContentEvents != 2 {
				t.Errorf("record: %s, %d events, %d with content", r.End, r.Events, r.ContentEvents)
			}
		})
	}
}

// skipComments reads event, and whole comments before it.
func skipComments(a *answer, event string) {
	a.c.t.Helper()
	for {
		first := make([]byte, 1)
		if _, err := io.ReadFull(a, first); err != nil {
			a.c.t.Fatal(err)
		}
		if first[0] != ':' {
			if first[0] != event[0] {
				a.c.t.Fatalf("neither a comment nor the event: %q", first)
			}
			a.expect(event[1:])
			return
		}
		a.expect(keepalive[1:])
	}
}

// However long an event takes, no comment comes into it.
func TestKeepAliveCommentsNeverComeIntoAnEvent(t *testing.T) {
	whole := content("a") + "event: x\r\ndata: 1\r\n\r\n" + doneEvent
	for _, at := range []int{1, 5, len(content("a")) / 2, len(content("a")) - 1, len(content("a")) + 3, len(content("a")) + 10, len(content("a")) + 19} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			up := newUpstream(t, func(rq *received) {
				rq.send(streamHead + chunk(whole[:at]))
				time.Sleep(200 * time.Millisecond) // room for many comments
				rq.send(chunk(whole[at:]) + lastChunk)
			})
			rl := relayTo(t, up, "stream: {include_usage: off, keepalive_comment: 10ms}\n")
			c := rl.dial()
			c.send(post("/v1/chat/completions", chatStream))
			if a := c.answer(); string(a.body) != whole || a.err != nil {
				t.Errorf("%q (%v)", a.body, a.err)
			}
		})
	}
}

// Nothing can be put between compressed bytes, nor into what is no stream.
func TestKeepAliveCommentsComeIntoStreamsAlone(t *testing.T) {
	for name, head := range map[string]string{
		"compressed": strings.Replace(streamHead, "\r\n\r\n", "\r\nContent-Encoding: gzip\r\n\r\n", 1),
		"JSON":       strings.Replace(streamHead, "text/event-stream", "application/json", 1),
		"NDJSON":     strings.Replace(streamHead, "text/event-stream", "application/x-ndjson", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := newUpstream(t, func(rq *received) {
				rq.send(head + chunk("{"))
				time.Sleep(200 * time.Millisecond)
				rq.send(chunk("}") + lastChunk)
			})
			rl := relayTo(t, up, "stream: {keepalive_comment: 10ms}\n")
			c := rl.dial()
			c.send(post("/v1/chat/completions", chatStream))
			if a := c.answer(); string(a.body) != "{}" || a.err != nil {
				t.Errorf("%q (%v)", a.body, a.err)
			}
		})
	}
}

// The time for all of an exchange runs while its request is sent, too.
func TestTheTotalTimeEndsARequestThatIsNotRead(t *testing.T) {
	stop := make(chan struct{})
	up := newRawUpstream(t, nil, func(c *upstreamConn) { c.await(stop) })
	defer close(stop)
	rl := relayTo(t, up, "timeouts: {head: 10m, total: 1s}\n", option{noCheck: true})
	for i, raw := range []string{
		post("/v1/chat/completions", `{"model":"m1","messages":[{"role":"user","content":"`+strings.Repeat("x", 32<<20)+`"}]}`),
		request("POST", "/v1/files", strings.Repeat("x", 32<<20), "Content-Type: application/octet-stream"),
	} {
		_, a := rl.speak(t, raw)
		if a == nil || a.status != 504 {
			t.Errorf("%+v, want 504", a)
		}
		if r := rl.last(i + 1); r.End != telemetry.TimeoutTotal {
			t.Errorf("ended by %v", r.End)
		}
	}
}
