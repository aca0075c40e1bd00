package blackbox

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"streamrelay/telemetry"
)

// cutDialect is a stream of one dialect, and the shape of its error event.
type cutDialect struct {
	name, path string
	events     []string
	seen       telemetry.Usage // what events[:len-1] say, all but the terminal one
	source     telemetry.UsageSource
	terminals  []string // what only the upstream may say
	check      func(event string) error
}

var cutDialects = []cutDialect{
	{"chat", "/v1/chat/completions", []string{roleEvent, content("a"), content("b"), finalEvent, usageEvent, doneEvent},
		tokens(12, 34, 5, -1, 7), telemetry.UsageProvider, []string{"[DONE]"}, checkChatError},
	{"Responses", "/v1/responses", responsesStream(named("response.completed", `{"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":2}}}`)),
		unknownTokens, telemetry.UsageUnknown, []string{"response.completed", "response.failed", "[DONE]"}, checkResponsesError},
	{"Anthropic", "/v1/messages", messagesStream(named("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}`), named("message_stop", `{"type":"message_stop"}`)),
		tokens(25, 15, 50, 100, -1), telemetry.UsageProvider, []string{"message_stop", "[DONE]"}, checkMessagesError},
}

// errorData returns the data line of an error event of the form prefix+JSON.
func errorData(event, prefix string) (map[string]any, error) {
	text, ok := strings.CutPrefix(event, prefix)
	if !ok || !strings.HasSuffix(text, "\n\n") || strings.Count(text, "\n") != 2 {
		return nil, fmt.Errorf("no error event: %q", event)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return nil, fmt.Errorf("error event %q: %w", event, err)
	}
	return v, nil
}

func checkChatError(event string) error {
	v, err := errorData(event, "data: ")
	if err != nil {
		return err
	}
	e, _ := v["error"].(map[string]any)
	_, param := e["param"]
	if len(v) != 1 || len(e) != 4 || e["message"] == "" || e["type"] == "" || e["code"] == "" || !param {
		return fmt.Errorf("error event %q", event)
	}
	return nil
}

func checkResponsesError(event string) error {
	v, err := errorData(event, "event: error\ndata: ")
	if err != nil {
		return err
	}
	_, param := v["param"]
	_, sequence := v["sequence_number"].(float64)
	if v["type"] != "error" || v["code"] == "" || v["message"] == "" || !param || !sequence {
		return fmt.Errorf("error event %q", event)
	}
	return nil
}

func checkMessagesError(event string) error {
	v, err := errorData(event, "event: error\ndata: ")
	if err != nil {
		return err
	}
	e, _ := v["error"].(map[string]any)
	if v["type"] != "error" || e["type"] == "" || e["message"] == "" {
		return fmt.Errorf("error event %q", event)
	}
	return nil
}

// cutPlace is where the upstream's connection ends.
type cutPlace struct {
	name   string
	events int    // whole ones before it
	half   bool   // a part of another one after them
	raw    string // bytes of framing after them
}

var cutPlaces = []cutPlace{
	{name: "before the first event"},
	{name: "within the first event", half: true},
	{name: "between events", events: 3},
	{name: "within an event", events: 2, half: true},
	{name: "within the size of a chunk", events: 3, raw: "1"},
	{name: "before the terminal event", events: -1},
}

// maximhq/bifrost#5546: an upstream's death became an empty chunk and [DONE];
// BerriAI/litellm#41777, preloop/preloop#117.
func TestACutStreamNeverEndsCleanly(t *testing.T) {
	for _, d := range cutDialects {
		for _, place := range cutPlaces {
			for _, how := range []string{"FIN", "RST"} {
				for _, framing := range []string{"chunked", "close delimited", "HTTP/1.0"} {
					if framing != "chunked" && place.raw != "" {
						continue
					}
					for _, client := range []string{"reader", "writer", "HTTP/1.0 client"} {
						t.Run(strings.Join([]string{d.name, place.name, how, framing, client}, ", "), func(t *testing.T) {
							t.Parallel()
							cutStream(t, &d, place, how, framing, client)
						})
					}
				}
			}
		}
	}
}

func cutStream(t *testing.T, d *cutDialect, place cutPlace, how, framing, client string) {
	f := framings[framing]
	whole := place.events
	if whole < 0 {
		whole = len(d.events) - 1
	}
	sent := strings.Join(d.events[:whole], "")
	if place.half {
		sent += d.events[whole][:len(d.events[whole])*2/3]
	}
	shown := make(chan struct{})
	up := newUpstream(t, func(rq *received) {
		out := f.head
		if sent != "" {
			out += f.piece(sent)
		}
		rq.send(out + place.raw)
		if !rq.await(shown) {
			return
		}
		if how == "RST" {
			rq.reset()
		} else {
			rq.close()
		}
	})
	carrier := client
	if client == "HTTP/1.0 client" {
		carrier = "reader"
	}
	rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
	c := rl.dial()
	rq := post(d.path, chatStream)
	if client == "HTTP/1.0 client" {
		rq = http10(rq)
	}
	c.send(rq)
	a := c.begin()
	want := strings.Replace(sent, usageEvent, "", 1)
	a.expect(want)
	close(shown)
	rest, err := a.rest()
	if err == nil {
		t.Errorf("the transfer ended cleanly")
	}
	if place.half {
		var ok bool
		if rest, ok = strings.CutPrefix(rest, "\n\n"); !ok {
			t.Errorf("the half event was not closed: %q", rest)
		}
	}
	if err := d.check(rest); err != nil {
		t.Error(err)
	}
	for _, text := range d.terminals {
		if strings.Contains(rest, text) {
			t.Errorf("the relay said %s: %q", text, rest)
		}
	}
	r := rl.one()
	if r.End != telemetry.UpstreamCut || r.Status != 200 || r.Error == "" || r.BytesOut != int64(len(want)+len(rest)+2*btoi(place.half)) {
		t.Errorf("record: %s, status %d, error %q, %d bytes out", r.End, r.Status, r.Error, r.BytesOut)
	}
	if place.events < 0 && (r.Usage != d.seen || r.UsageSource != d.source) {
		t.Errorf("usage %+v of %d, want %+v of %d", r.Usage, r.UsageSource, d.seen, d.source)
	}
	if n := up.requests.Load(); n != 1 {
		t.Errorf("the upstream got %d requests", n)
	}
	if got := sumOf(rl.metrics(), "relay_upstream_errors_total", `reason="truncated"`); got != 1 {
		t.Errorf("relay_upstream_errors_total of truncated is %v", got)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Before a head has left, a cut is a plain 502 in the dialect's envelope.
func TestAnUpstreamThatDiesBeforeItsHeadIsA502(t *testing.T) {
	for _, d := range cutDialects {
		for name, sent := range map[string]string{"nothing": "", "half a head": "HTTP/1.1 200 OK\r\nContent-Ty", "an interim answer": "HTTP/1.1 100 Continue\r\n\r\n"} {
			for _, how := range []string{"FIN", "RST"} {
				t.Run(d.name+", "+name+", "+how, func(t *testing.T) {
					t.Parallel()
					up := newUpstream(t, func(rq *received) {
						rq.send(sent)
						if how == "RST" {
							rq.reset()
						} else {
							rq.close()
						}
					})
					rl := relayTo(t, up, "")
					c := rl.dial()
					for i := range 2 {
						c.send(post(d.path, chatStream))
						a := c.answer()
						checkEnvelope(t, a, d.name, 502)
						if a.get("X-Should-Retry") != "false" {
							t.Errorf("head: %s", a.head)
						}
						if r := rl.last(i + 1); r.End != telemetry.UpstreamCut || r.Status != 502 || r.Attempts != 1 {
							t.Errorf("record: %s, status %d, %d attempts", r.End, r.Status, r.Attempts)
						}
					}
					if n := up.requests.Load(); n != 2 {
						t.Errorf("the upstream got %d requests for 2", n)
					}
				})
			}
		}
	}
}

// checkEnvelope looks at an error of the relay's own in the dialect's shape.
func checkEnvelope(t *testing.T, a *answer, dialect string, status int) {
	t.Helper()
	if a.status != status || a.err != nil || a.get("Content-Type") != "application/json" || a.get("X-Request-Id") == "" {
		t.Errorf("answer: %s%s (%v)", a.head, a.body, a.err)
		return
	}
	var err error
	if dialect == "Anthropic" {
		err = checkMessagesError("event: error\ndata: " + string(a.body) + "\n\n")
	} else {
		err = checkChatError("data: " + string(a.body) + "\n\n")
	}
	if err != nil {
		t.Error(err)
	}
}

// Where the client has the terminal event, it has all that it waits for: the
// relay adds nothing, and the exchange is completed.
func TestACutAfterTheTerminalEventIsNoError(t *testing.T) {
	for _, d := range cutDialects {
		for _, how := range []string{"FIN", "RST"} {
			for _, carrier := range carriers {
				t.Run(strings.Join([]string{d.name, how, carrier}, ", "), func(t *testing.T) {
					t.Parallel()
					shown := make(chan struct{})
					up := newUpstream(t, func(rq *received) {
						rq.send(streamHead + chunk(strings.Join(d.events, "")))
						if !rq.await(shown) {
							return
						}
						if how == "RST" {
							rq.reset()
						} else {
							rq.close()
						}
					})
					rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
					c := rl.dial()
					c.send(post(d.path, chatStream))
					a := c.begin()
					a.expect(strings.Replace(strings.Join(d.events, ""), usageEvent, "", 1))
					close(shown)
					if rest, _ := a.rest(); rest != "" {
						t.Errorf("the relay added %q", rest)
					}
					if r := rl.one(); r.End != telemetry.Completed || r.UsageSource != telemetry.UsageProvider {
						t.Errorf("record: %s, usage of %d", r.End, r.UsageSource)
					}
				})
			}
		}
	}
}

// Plain bodies have no place for an error: a broken transfer says it alone.
func TestACutBodyThatIsNoStreamBreaksTheTransfer(t *testing.T) {
	for _, tt := range []struct{ name, head, sent, shown string }{
		{"JSON of known length", "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n", `{"a":`, `{"a":`},
		{"JSON in chunks", "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(`{"a":1}`), `{"a":1}`},
		{"JSON until the close", "Content-Type: application/json\r\n\r\n", `{"a":`, `{"a":`},
		{"audio", "Content-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n", chunk("ID3"), "ID3"},
		{"within a chunk", "Content-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n", "8\r\nabcd", "abcd"},
		{"before the last line end", "Content-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n", chunk("ID3") + "0\r\n", "ID3"},
		{"compressed stream", "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", chunk("\x1f\x8b\x08\x00"), "\x1f\x8b\x08\x00"},
	} {
		for _, how := range []string{"FIN", "RST"} {
			for _, client := range []string{"reader", "writer", "HTTP/1.0 client"} {
				t.Run(strings.Join([]string{tt.name, how, client}, ", "), func(t *testing.T) {
					t.Parallel()
					shown := make(chan struct{})
					up := newUpstream(t, func(rq *received) {
						rq.send("HTTP/1.1 200 OK\r\n" + tt.head + tt.sent)
						if !rq.await(shown) {
							return
						}
						if how == "RST" {
							rq.reset()
						} else {
							rq.close()
						}
					})
					more, rq := "", post("/v1/chat/completions", chatPlain)
					if client == "HTTP/1.0 client" {
						rq = http10(rq)
					} else {
						more = "stream: {carrier: " + client + "}\n"
					}
					rl := relayTo(t, up, more)
					c := rl.dial()
					c.send(rq)
					a := c.begin()
					a.expect(tt.shown)
					close(shown)
					if rest, err := a.rest(); rest != "" || err == nil {
						t.Errorf("rest: %q, %v", rest, err)
					}
					if r := rl.one(); r.End != telemetry.UpstreamCut || r.Usage != unknownTokens {
						t.Errorf("record: %s, usage %+v", r.End, r.Usage)
					}
				})
			}
		}
	}
}
