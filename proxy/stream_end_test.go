package proxy

import (
	"fmt"
	"strings"
	"testing"

	"streamrelay/configs"
	"streamrelay/proxy/watch"
	"streamrelay/telemetry"
)

// geminiArray is a stream of Gemini's as it comes without alt=sse.
func geminiArray(events ...string) string {
	for i, e := range events {
		events[i] = strings.TrimSpace(strings.TrimPrefix(e, "data: "))
	}
	return "[" + strings.Join(events, ",\r\n") + "]"
}

// TestAnswerSaysHowItEnded covers what a body came to: framing, dialect, how
// far it came and what happened then.
func TestAnswerSaysHowItEnded(t *testing.T) {
	const (
		byItself   = iota // the framing said so
		connection        // the upstream closed
		client            // the client left
	)
	type row struct {
		name    string
		framing framing
		media   string
		coding  string
		family  watch.Family
		body    string // raw, but for the chunks that the test makes of it
		missing string // what the length counts or the chunks end with, but never came
		end     int
		status  int
		stored  bool // no output of a model was asked for
		verdict *apiError
		reason  telemetry.EndReason
	}
	const json, audio = "application/json", "audio/mpeg"
	for _, c := range []row{
		{name: "length, whole", framing: framedByLength, media: json, body: document, reason: telemetry.Completed},
		{name: "length, cut", framing: framedByLength, media: json, body: document[:40], missing: document[40:], end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "length, cut before its first byte", framing: framedByLength, media: json, missing: document, end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "chunks, whole", framing: framedByChunks, media: sse, body: chatEvents + chatDone, reason: telemetry.Completed},
		{name: "chunks, cut between events", framing: framedByChunks, media: sse, body: chatEvents, missing: "0\r\n\r\n", end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "chunks, whole but without the last event", framing: framedByChunks, media: sse, body: chatEvents, reason: telemetry.Completed},
		{name: "chunks, last event but no last chunk", framing: framedByChunks, media: sse, body: chatEvents + chatDone, missing: "0\r\n\r\n", end: connection, verdict: errUpstreamCut, reason: telemetry.Completed},
		{name: "close, document", framing: framedByClose, media: json, body: document, end: connection, reason: telemetry.Completed},
		{name: "close, document cut", framing: framedByClose, media: json, body: document[:40], end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "close, what says that it is JSON and is not", framing: framedByClose, media: json, body: "upstream busy {", end: connection, reason: telemetry.Completed},
		{name: "close, compressed document: only its coding knows", framing: framedByClose, media: json, coding: "gzip", body: "\x1f\x8b", end: connection, reason: telemetry.Completed},
		{name: "close, binary", framing: framedByClose, media: audio, body: "abc", end: connection, reason: telemetry.Completed},
		{name: "close, chat to its end", framing: framedByClose, media: sse, body: chatEvents + chatDone, end: connection, reason: telemetry.Completed},
		{name: "close, chat without its last event", framing: framedByClose, media: sse, body: chatEvents, end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "close, chat within an event", framing: framedByClose, media: sse, body: chatEvents[:20], end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "close, chat before its first byte", framing: framedByClose, media: sse, end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "close, responses to its end", framing: framedByClose, media: sse, family: watch.Responses, body: responsesEvents + responsesDone, end: connection, reason: telemetry.Completed},
		{name: "close, responses cut", framing: framedByClose, media: sse, family: watch.Responses, body: responsesEvents, end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "close, interactions to its end", framing: framedByClose, media: sse, family: watch.Interactions, body: interactionsEvents + interactionsDone, end: connection, reason: telemetry.Completed},
		{name: "close, interactions cut", framing: framedByClose, media: sse, family: watch.Interactions, body: interactionsEvents, end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "close, messages to its end", framing: framedByClose, media: sse, family: watch.Messages, body: messagesEvents + messagesDone, end: connection, reason: telemetry.Completed},
		{name: "close, messages cut", framing: framedByClose, media: sse, family: watch.Messages, body: messagesEvents, end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "close, gemini to its end", framing: framedByClose, media: sse, family: watch.Gemini, body: geminiEvents + geminiDone, end: connection, reason: telemetry.Completed},
		{name: "close, gemini without a finishReason", framing: framedByClose, media: sse, family: watch.Gemini, body: geminiEvents, end: connection, reason: telemetry.UpstreamIncomplete},
		{name: "gemini without a finishReason", framing: framedByChunks, media: sse, family: watch.Gemini, body: geminiEvents, reason: telemetry.UpstreamIncomplete},
		{name: "gemini as an array", framing: framedByChunks, media: json, family: watch.Gemini, body: geminiArray(geminiEvents, geminiDone), reason: telemetry.Completed},
		{name: "gemini as an array, without a finishReason", framing: framedByChunks, media: json, family: watch.Gemini, body: geminiArray(geminiEvents), reason: telemetry.UpstreamIncomplete},
		{name: "gemini as an array that is not closed", framing: framedByChunks, media: json, family: watch.Gemini, body: strings.TrimSuffix(geminiArray(geminiEvents), "]"), reason: telemetry.UpstreamIncomplete},
		{name: "gemini as an array, an error", framing: framedByChunks, media: json, family: watch.Gemini, body: geminiArray(errorEvent), reason: telemetry.UpstreamError},
		{name: "gemini as an array, compressed: nobody knows how far it was read", framing: framedByChunks, media: json, coding: "gzip", family: watch.Gemini, body: gzipped(t, geminiArray(geminiEvents)), reason: telemetry.Completed},
		{name: "gemini as an object has no chunks", framing: framedByLength, media: json, family: watch.Gemini, body: `{"totalTokens":31}`, reason: telemetry.Completed},
		{name: "an array of another dialect", framing: framedByChunks, media: json, family: watch.Other, body: geminiArray(geminiEvents), reason: telemetry.Completed},
		{name: "close, others name no last event", framing: framedByClose, media: sse, family: watch.Other, body: "data: x\n\n", end: connection, reason: telemetry.Completed},
		{name: "close, compressed chat: nobody may put anything behind it", framing: framedByClose, media: sse, coding: "gzip", body: "\x1f\x8b", end: connection, reason: telemetry.Completed},
		{name: "error event", framing: framedByChunks, media: sse, body: chatEvents + errorEvent, reason: telemetry.UpstreamError},
		{name: "error event, then a cut", framing: framedByChunks, media: sse, body: errorEvent, missing: "0\r\n\r\n", end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamError},
		{name: "error event, then the close", framing: framedByClose, media: sse, body: errorEvent, end: connection, reason: telemetry.UpstreamError},
		{name: "error event, then the client leaves", framing: framedByChunks, media: sse, body: errorEvent, missing: "0\r\n\r\n", end: client, reason: telemetry.UpstreamError},
		{name: "client leaves after the last event", framing: framedByChunks, media: sse, body: chatEvents + chatDone, missing: "0\r\n\r\n", end: client, reason: telemetry.Completed},
		{name: "client leaves before the last event", framing: framedByChunks, media: sse, body: chatEvents, missing: "0\r\n\r\n", end: client, reason: telemetry.ClientGone},
		{name: "client leaves within a document", framing: framedByLength, media: json, body: document[:9], missing: document[9:], end: client, reason: telemetry.ClientGone},
		{name: "client leaves while the last bytes of a document are written", framing: framedByLength, media: json, body: document, end: client, reason: telemetry.ClientGone},
		{name: "status 400", framing: framedByLength, media: json, body: document, status: 400, reason: telemetry.UpstreamStatus},
		{name: "document that is an error", framing: framedByLength, media: json, body: `{"error":{"message":"no capacity","code":502}}`, reason: telemetry.UpstreamError},
		{name: "document that is an error, compressed", framing: framedByLength, media: json, coding: "gzip", body: gzipped(t, `{"error":{"message":"no capacity"}}`), reason: telemetry.UpstreamError},
		{name: "document with a choice that failed", framing: framedByChunks, media: json, body: `{"choices":[{"finish_reason":"error"}],"usage":{}}`, reason: telemetry.UpstreamError},
		{name: "lines, of which one is an error", framing: framedByChunks, media: json, body: "{\"error\":\"busy\"}\n{}\n", reason: telemetry.UpstreamError},
		{name: "document whose error is null", framing: framedByLength, media: json, body: `{"error":null}`, reason: telemetry.Completed},
		{name: "document of a status that says it", framing: framedByLength, media: json, body: `{"error":{}}`, status: 400, reason: telemetry.UpstreamStatus},
		{name: "stored object that failed once", framing: framedByLength, media: json, body: `{"status":"failed","error":{}}`, stored: true, reason: telemetry.Completed},
		{name: "page of a gateway", framing: framedByChunks, media: "text/html; charset=utf-8", body: "<html>Log in</html>", reason: telemetry.UpstreamError},
		{name: "page of a gateway, compressed", framing: framedByLength, media: "text/html", coding: "gzip", body: "\x1f\x8b", reason: telemetry.UpstreamError},
		{name: "page, where anything may be stored", framing: framedByChunks, media: "text/html", body: "<html>", stored: true, reason: telemetry.Completed},
		{name: "status 529, cut", framing: framedByLength, media: json, body: "{", missing: "}", end: connection, status: 529, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "status 500 as a stream to its end", framing: framedByChunks, media: sse, body: chatDone, status: 500, reason: telemetry.UpstreamStatus},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := c.body
			if c.framing == framedByChunks {
				raw = strings.TrimSuffix(chunksOf(c.body, 1<<20), "0\r\nX-Trailer: 1\r\n\r\n")
				if c.missing == "" {
					raw += "0\r\n\r\n"
				}
			}
			a := setting{framing: c.framing, length: len(c.body) + len(c.missing), media: c.media, coding: c.coding, family: c.family}.answer()
			a.output = !c.stored
			if len(raw) > 0 {
				if _, _, used, e := a.feed([]byte(raw), 1); e != nil || used != len(raw) {
					t.Fatalf("used %d of %d, %v", used, len(raw), e)
				}
			}
			var e *apiError
			if c.end == connection {
				if a.ended() {
					t.Fatal("ended before the connection did")
				}
				e = a.eof()
			}
			a.end(2)
			if e != c.verdict {
				t.Errorf("verdict %v, want %v", e, c.verdict)
			}
			if c.end == connection && (a.failed != (c.verdict != nil) || a.over == a.failed) {
				t.Errorf("over %t, failed %t", a.over, a.failed)
			}
			if a.failed && a.reusable() {
				t.Error("the connection of a cut body is reusable")
			}
			status := max(c.status, 200)
			if got := a.reason(status, e, c.end == client); got != c.reason {
				t.Errorf("reason %v, want %v", got, c.reason)
			}
		})
	}
}

func TestAnswerWhatEndedItFirstIsTheReason(t *testing.T) {
	a := setting{framing: framedByChunks, media: sse}.answer()
	if got := a.reason(200, errIdleTimeout, true); got != telemetry.TimeoutIdle {
		t.Errorf("a timeout, then the client leaves: %v", got)
	}
	if got := a.reason(200, nil, false); got != telemetry.UpstreamCut {
		t.Errorf("neither over nor told why: %v", got)
	}
}

func TestAnswerWithoutABodyIsOver(t *testing.T) {
	for _, s := range []setting{
		{noBody: true, framing: framedByChunks, media: sse},
		{noBody: true, framing: framedByLength, length: 12, media: "application/json"},
		{noBody: true, framing: framedByClose, media: sse, coding: "gzip"},
		{framing: framedByLength, length: 0, media: sse},
	} {
		a := s.answer()
		if !a.over || !a.reusable() || a.deadline() != 0 {
			t.Errorf("%+v: over %t, reusable %t", s, a.over, a.reusable())
		}
		if held := a.end(1); len(held) != 0 || a.reason(204, nil, false) != telemetry.Completed {
			t.Errorf("%+v: held %q, reason %v", s, held, a.reason(204, nil, false))
		}
	}
}

func TestAnswerConnectionThatSaysCloseIsNotReusable(t *testing.T) {
	a := setting{framing: framedByLength, length: 1, closes: true}.answer()
	if _, _, _, e := a.feed([]byte("x"), 1); e != nil || !a.over || a.reusable() {
		t.Errorf("%v, over %t, reusable %t", e, a.over, a.reusable())
	}
}

func TestAnswerOfTheExchangeBeforeIsForgotten(t *testing.T) {
	old := setting{framing: framedByChunks, media: sse, coding: "gzip", strip: true, timeouts: configs.Timeouts{Total: 5}, began: 1}
	a := old.answer()
	_, _, _, _ = a.feed([]byte("zz"), 1)
	a.end(1)
	a.reset()
	if a.begun || a.over || a.failed || a.strip || a.coded || a.total != 0 || a.bytes != 0 || a.reusable() {
		t.Errorf("kept something: begun %t over %t failed %t strip %t coded %t total %d bytes %d", a.begun, a.over, a.failed, a.strip, a.coded, a.total, a.bytes)
	}
	var o, zero telemetry.Request
	a.observe(&o, 0)
	if fmt.Sprint(o) != fmt.Sprint(zero) {
		t.Error("observed something of an answer that never began")
	}
}

func TestAnswerGarbageEndsItBehindWhatWasGood(t *testing.T) {
	for _, c := range []struct{ name, raw, out string }{
		{"no size", "x", ""},
		{"signed size", "+5\r\nhello\r\n", ""},
		{"a size too large for any number", "fffffffffffffffff\r\n", ""},
		{"after a chunk", "3\r\nabc\r\nX", "abc"},
		{"longer than its size", "3\r\nabcd\r\n", "abc"},
		{"bare LF", "3\nabc\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := setting{framing: framedByChunks, media: "text/plain"}.answer()
			_, out, _, e := a.feed([]byte(c.raw), 1)
			if e != errUpstreamGarbage || string(out) != c.out || a.over || !a.failed || a.reusable() {
				t.Errorf("out %q, %v, over %t, failed %t", out, e, a.over, a.failed)
			}
		})
	}
}
