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

	interactionsEvents = "event: step.delta\ndata: {\"delta\":{\"type\":\"text\",\"text\":\"Hi\"},\"event_type\":\"step.delta\"}\n\n"
	interactionsDone   = "event: interaction.completed\ndata: {\"interaction\":{\"usage\":{\"total_input_tokens\":5,\"total_output_tokens\":7}},\"event_type\":\"interaction.completed\"}\n\n" +
		"event: done\ndata: [DONE]\n\n"

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
		{"interactions", sse, interactionsEvents + interactionsDone, watch.Interactions},
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
	a.events.Holds = new(watch.Holds)
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

func TestHeldEventsStandInBuffersOfTheServer(t *testing.T) {
	s := newServer(t, oneUpstream("http://127.0.0.1:9"))
	a := &clientOn(s, newWire()).x.ans
	head := h1.Answer{Status: 200, ContentLength: -1, Chunked: true, ContentType: []byte(sse)}
	var timeouts configs.Timeouts
	var stream configs.Stream
	for range 2 { // the second answer of a connection, too
		a.reset()
		a.start(&head, false, dialectOpenAI, watch.Chat, &timeouts, &stream, 0, 0, 0)
		if a.events.Holds != &s.holds {
			t.Error("its own are allocated")
		}
	}
}
