package proxy

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"

	"streamrelay/configs"
	"streamrelay/proxy/h1"
	"streamrelay/proxy/watch"
	"streamrelay/telemetry"
)

// The answers that the tests are about.
const (
	chatEvents = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n" +
		"data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n" +
		"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n" +
		chatUsage
	chatUsage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12}}\n\n"
	chatDone  = "data: [DONE]\n\n"

	responsesEvents = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"usage\":null}}\n\n" +
		"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"Hi\"}\n\n"
	responsesDone = "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":7}}}\n\n"

	messagesEvents = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n" +
		"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n" +
		"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":7}}\n\n"
	messagesDone = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"

	geminiEvents = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}]}}]}\r\n\r\n"
	geminiDone   = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"!\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":5,\"candidatesTokenCount\":7}}\r\n\r\n"

	errorEvent = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n"

	document = `{"object":"chat.completion","choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":5,"completion_tokens":7}}`
)

// setting is an answer's head and what surrounds it.
type setting struct {
	framing framing
	length  int // of a body that is framed by it
	media   string
	coding  string
	closes  bool // Connection: close
	dialect dialect
	family  watch.Family
	strip   bool
	noBody  bool
	max     int64

	timeouts configs.Timeouts
	stream   configs.Stream
	began    int64 // when the exchange did, ns
	sent     int64 // when the request had left
	now      int64 // when the head came
}

const sse = "text/event-stream; charset=utf-8"

// answer returns the answer of the setting, before its body.
func (s setting) answer() *answer {
	head := h1.Answer{Status: 200, ContentLength: -1, Close: s.closes, ContentType: []byte(s.media), ContentEncoding: []byte(s.coding)}
	switch s.framing {
	case framedByLength:
		head.ContentLength = int64(s.length)
	case framedByChunks:
		head.Chunked = true
	}
	a := new(answer)
	a.reset()
	a.begin(&s.timeouts, s.began)
	a.strip = s.strip
	a.start(&head, s.noBody, s.dialect, s.family, &s.timeouts, &s.stream, s.max, s.sent, s.now)
	return a
}

// feedAll feeds a with a copy of raw in pieces of size bytes, nanoseconds apart,
// and returns what goes out and the bytes that are not of the body.
func feedAll(a *answer, raw string, size int) (out, rest string, e *apiError) {
	var b strings.Builder
	for now := int64(1); len(raw) > 0 && e == nil && !a.ended(); now++ {
		piece := []byte(raw[:min(size, len(raw))])
		held, o, used, err := a.feed(piece, now)
		b.Write(held)
		b.Write(o)
		e = err
		raw = raw[used:]
		if used < len(piece) {
			break
		}
	}
	b.Write(a.end(int64(1) << 40))
	return b.String(), raw, e
}

func gzipped(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// chunksOf is body as chunks of at most size bytes, with an extension and a
// trailer, as a chatty server would send it.
func chunksOf(body string, size int) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x;q=1\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\nX-Trailer: 1\r\n\r\n"
}

func TestAnswerGoesOutAsItCameHoweverItIsFramedAndCut(t *testing.T) {
	for _, kind := range []struct {
		name, media, body string
		family            watch.Family
	}{
		{"chat", sse, chatEvents + chatDone, watch.Chat},
		{"responses", "Text/Event-Stream", responsesEvents + responsesDone, watch.Responses},
		{"messages", sse, messagesEvents + messagesDone, watch.Messages},
		{"gemini", sse, geminiEvents + geminiDone, watch.Gemini},
		{"document", "application/json", document, watch.Chat},
		{"lines", "application/x-ndjson", document + "\n" + document + "\n", watch.Chat},
		{"problem", "application/problem+json", document, watch.Chat},
		{"opaque", "audio/mpeg", "\x00\x01\r\n\xff0\r\n\r\n", watch.Other},
	} {
		for _, coding := range []string{"", "identity", "gzip", "GZIP", "x-unheard-of"} {
			body := kind.body
			if strings.EqualFold(coding, "gzip") {
				body = gzipped(t, body)
			}
			for _, f := range []framing{framedByLength, framedByChunks, framedByClose} {
				raw, behind := body, "HTTP/1.1 200 next"
				switch f {
				case framedByChunks:
					raw = chunksOf(body, 11)
				case framedByClose:
					behind = ""
				}
				for _, size := range []int{1, 7, 1 << 20} {
					name := fmt.Sprintf("%s/coding %q/framing %d/in pieces of %d", kind.name, coding, f, size)
					t.Run(name, func(t *testing.T) {
						a := setting{framing: f, length: len(body), media: kind.media, coding: coding, family: kind.family}.answer()
						var out, rest string
						var e *apiError
						if f == framedByClose {
							var b strings.Builder
							for i := 0; i < len(raw); i += size {
								_, o, _, err := a.feed([]byte(raw[i:min(i+size, len(raw))]), int64(i+1))
								b.Write(o)
								if err != nil {
									e = err
								}
							}
							if e == nil {
								e = a.eof()
							}
							b.Write(a.end(1 << 40))
							out = b.String()
						} else {
							out, rest, e = feedAll(a, raw+behind, size)
						}
						if e != nil || !a.over || a.failed {
							t.Fatalf("did not end: %v, over %t, failed %t", e, a.over, a.failed)
						}
						if out != body {
							t.Errorf("out %q, want %q", out, body)
						}
						if f != framedByClose && behind[len(behind)-len(rest):] != rest {
							t.Errorf("left %q, want an end of %q", rest, behind)
						}
						if got, want := a.reusable(), f != framedByClose; got != want {
							t.Errorf("reusable %t, want %t", got, want)
						}
						if a.bytes != int64(len(body)) {
							t.Errorf("counted %d bytes, want %d", a.bytes, len(body))
						}
						var o telemetry.Request
						o.Usage = telemetry.Usage{Input: -1, Output: -1, Cached: -1, CacheWrite: -1, Reasoning: -1}
						a.observe(&o, 0)
						want := telemetry.Usage{Input: 5, Output: 7, Cached: -1, CacheWrite: -1, Reasoning: -1}
						if a.kind != kindOpaque && o.Usage != want {
							t.Errorf("usage %+v, want %+v", o.Usage, want)
						}
						if a.kind == kindOpaque && o.Usage.Input != -1 {
							t.Errorf("usage %+v of what nobody can read", o.Usage)
						}
						if got := a.reason(200, nil, false); got != telemetry.Completed {
							t.Errorf("reason %v", got)
						}
					})
				}
			}
		}
	}
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
		{name: "close, binary", framing: framedByClose, media: audio, body: "abc", end: connection, reason: telemetry.Completed},
		{name: "close, chat to its end", framing: framedByClose, media: sse, body: chatEvents + chatDone, end: connection, reason: telemetry.Completed},
		{name: "close, chat without its last event", framing: framedByClose, media: sse, body: chatEvents, end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "close, chat within an event", framing: framedByClose, media: sse, body: chatEvents[:20], end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "close, chat before its first byte", framing: framedByClose, media: sse, end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "close, responses to its end", framing: framedByClose, media: sse, family: watch.Responses, body: responsesEvents + responsesDone, end: connection, reason: telemetry.Completed},
		{name: "close, responses cut", framing: framedByClose, media: sse, family: watch.Responses, body: responsesEvents, end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "close, messages to its end", framing: framedByClose, media: sse, family: watch.Messages, body: messagesEvents + messagesDone, end: connection, reason: telemetry.Completed},
		{name: "close, messages cut", framing: framedByClose, media: sse, family: watch.Messages, body: messagesEvents, end: connection, verdict: errUpstreamCut, reason: telemetry.UpstreamCut},
		{name: "close, gemini names no last event", framing: framedByClose, media: sse, family: watch.Gemini, body: geminiEvents, end: connection, reason: telemetry.Completed},
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

func TestAnswerLongerThanMaxStreamFails(t *testing.T) {
	for _, c := range []struct {
		name string
		max  int64
		body string
		want *apiError
	}{
		{"at the limit", 10, "0123456789", nil},
		{"over it by one", 10, "0123456789a", errStreamTooLong},
		{"no limit", 0, "0123456789a", nil},
	} {
		for _, f := range []framing{framedByLength, framedByChunks, framedByClose} {
			t.Run(fmt.Sprintf("%s/framing %d", c.name, f), func(t *testing.T) {
				a := setting{framing: f, length: len(c.body), max: c.max}.answer()
				raw := c.body
				if f == framedByChunks {
					raw = chunksOf(c.body, 4)
				}
				_, _, e := feedAll(a, raw, 3)
				if e != c.want || a.failed != (c.want != nil) || e != nil && a.over {
					t.Errorf("%v, over %t, failed %t; want %v", e, a.over, a.failed, c.want)
				}
			})
		}
	}
}

func TestAnswerTakesOutExactlyTheUsageEventThatTheRelayAskedFor(t *testing.T) {
	const usageWithChoice = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7}}\n\n"
	for _, c := range []struct{ name, body, out string }{
		{"the usage event", chatEvents + chatDone, strings.Replace(chatEvents, chatUsage, "", 1) + chatDone},
		{"with CRLF", strings.ReplaceAll(chatEvents+chatDone, "\n", "\r\n"), strings.ReplaceAll(strings.Replace(chatEvents, chatUsage, "", 1)+chatDone, "\n", "\r\n")},
		{"usage beside content stays", usageWithChoice + chatDone, usageWithChoice + chatDone},
		{"the last event, unended", strings.TrimSuffix(chatEvents, "\n"), strings.Replace(chatEvents, chatUsage, "", 1)},
		{"another last event, unended", "data: {\"choices\":[]}", "data: {\"choices\":[]}"},
		{"none", chatDone, chatDone},
	} {
		for _, size := range []int{1, 13, 1 << 20} {
			t.Run(fmt.Sprintf("%s/in pieces of %d", c.name, size), func(t *testing.T) {
				a := setting{framing: framedByChunks, media: sse, strip: true}.answer()
				out, _, e := feedAll(a, chunksOf(c.body, 1<<20), size)
				if e != nil || out != c.out {
					t.Errorf("%v, out %q, want %q", e, out, c.out)
				}
				var o telemetry.Request
				a.observe(&o, 0)
				if strings.Contains(c.body, "usage") && (o.Usage.Input != 5 || o.Usage.Output != 7) {
					t.Errorf("usage %+v", o.Usage)
				}
			})
		}
	}
}

func TestAnswerCompressedIsNeverTouched(t *testing.T) {
	body := gzipped(t, chatEvents+chatDone)
	a := setting{framing: framedByLength, length: len(body), media: sse, coding: "gzip", strip: true, stream: configs.Stream{KeepaliveComment: 1}}.answer()
	if a.quiet != 0 {
		t.Error("would put comments between compressed bytes")
	}
	out, _, e := feedAll(a, body, 9)
	if e != nil || out != body {
		t.Errorf("%v: %d bytes out, want the %d that came", e, len(out), len(body))
	}
	var o telemetry.Request
	a.observe(&o, 0)
	if o.Events != 5 || o.Usage.Output != 7 || o.UsageSource != telemetry.UsageProvider {
		t.Errorf("%d events, usage %+v from %v", o.Events, o.Usage, o.UsageSource)
	}
}

func TestAnswerObservesWhatHappenedWhen(t *testing.T) {
	a := setting{framing: framedByChunks, media: sse}.answer()
	at := int64(1000)
	for i, event := range strings.SplitAfter(chatEvents+chatDone, "\n\n") {
		if event == "" {
			continue
		}
		chunk := fmt.Sprintf("%x\r\n%s\r\n", len(event), event)
		if _, _, _, e := a.feed([]byte(chunk), at+int64(i)*10); e != nil {
			t.Fatal(e)
		}
	}
	a.end(2000)
	var o telemetry.Request
	a.observe(&o, 900)
	if o.FirstEvent != 100 || o.TTFT != 110 || o.Events != 5 || o.ContentEvents != 1 || !o.Stream {
		t.Errorf("first event %d, ttft %d, %d events, %d with content, stream %t", o.FirstEvent, o.TTFT, o.Events, o.ContentEvents, o.Stream)
	}
	if o.UsageSource != telemetry.UsageProvider {
		t.Errorf("usage source %v", o.UsageSource)
	}
}

func TestAnswerUsageOfACutAnswerIsPartial(t *testing.T) {
	running := strings.Replace(messagesEvents[:strings.Index(messagesEvents, "event: content_block_delta")], "\n\n", "\n\n", 1)
	a := setting{framing: framedByChunks, media: sse, family: watch.Messages, dialect: dialectAnthropic}.answer()
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(running), running)
	_, _, _, _ = a.feed([]byte(chunk), 1)
	_ = a.eof()
	a.end(2)
	var o telemetry.Request
	a.observe(&o, 0)
	if o.UsageSource != telemetry.UsagePartial || o.Usage.Input != 5 {
		t.Errorf("usage %+v from %v", o.Usage, o.UsageSource)
	}
}

func TestAnswerAllocatesNothing(t *testing.T) {
	raw := []byte(chunksOf(chatEvents+chatDone, 60))
	scratch := make([]byte, len(raw))
	a := setting{framing: framedByChunks, media: sse, strip: true}.answer()
	head := h1.Answer{Status: 200, ContentLength: -1, Chunked: true, ContentType: []byte(sse)}
	var timeouts configs.Timeouts
	var stream configs.Stream
	run := func() {
		copy(scratch, raw)
		a.reset()
		a.strip = true
		a.start(&head, false, dialectOpenAI, watch.Chat, &timeouts, &stream, 0, 0, 0)
		for b := scratch; len(b) > 0; {
			_, _, used, _ := a.feed(b[:min(97, len(b))], 1)
			b = b[used:]
		}
		a.end(2)
		if !a.over {
			t.Fatal("not over")
		}
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 && !raceEnabled {
		t.Errorf("%v allocations per answer", n)
	}
}
