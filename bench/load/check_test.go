package load

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"streamrelay/bench/simulate"
)

func expected(t testing.TB) simulate.Expected {
	t.Helper()
	e, err := simulate.Expect("/v1"+chatPath, streamBody, simulate.Profile{Events: 5, Size: 250, Prompt: 7, ID: "x"}, false)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// feedAll feeds b in pieces of size n.
func feedAll(k *exact, b []byte, n int, event func(int64)) error {
	for len(b) > 0 {
		m := min(n, len(b))
		if err := k.feed(b[:m], event); err != nil {
			return err
		}
		b = b[m:]
	}
	return k.end()
}

func TestCheckerFindsEveryAlteration(t *testing.T) {
	want := expected(t)
	check := func(b []byte, n int) error {
		k := &exact{}
		k.reset(&want)
		return feedAll(k, b, n, func(int64) {})
	}
	whole := string(want.Body)
	if n := len(want.Times); n != 5 {
		t.Fatalf("%d marks", n)
	}
	for n := 1; n < 600; n++ {
		if err := check([]byte(whole), n); err != nil {
			t.Fatalf("whole answer in pieces of %d: %v", n, err)
		}
	}
	events := strings.SplitAfter(whole, "\n\n")
	for name, broken := range map[string]string{
		"one event lost":     strings.Replace(whole, events[2], "", 1),
		"one event doubled":  strings.Replace(whole, events[2], events[2]+events[2], 1),
		"two events swapped": strings.Replace(whole, events[2]+events[3], events[3]+events[2], 1),
		"a comment added":    strings.Replace(whole, events[2], ": hello\n\n"+events[2], 1),
		"no terminal event":  strings.TrimSuffix(whole, "data: [DONE]\n\n"),
		"usage lost":         strings.Replace(whole, events[len(events)-3], "", 1),
		"something behind":   whole + "\n",
		"nothing":            "",
	} {
		if broken == whole {
			t.Fatalf("%s: the test alters nothing", name)
		}
		if check([]byte(broken), 100) == nil {
			t.Errorf("%s: not found", name)
		}
	}
	times := map[int]bool{}
	for _, at := range want.Times {
		for i := range simulate.TimeWidth {
			times[at+i] = true
		}
	}
	for i := range whole {
		b := []byte(whole)
		b[i] ^= 0x80
		if check(b, 64) == nil {
			t.Errorf("byte %d altered (send time: %v): not found", i, times[i])
		}
	}
}

func TestCheckerReadsSendTimes(t *testing.T) {
	want := expected(t)
	b := bytes.Clone(want.Body)
	copy(b[want.Times[3]:], "000000000000003c")
	k := &exact{}
	k.reset(&want)
	var got []int64
	if err := feedAll(k, b, 7, func(sent int64) { got = append(got, sent) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []int64{0, 0, 0, 60, 0}) {
		t.Errorf("send times %v", got)
	}
}

func TestCheckingDoesNotAllocate(t *testing.T) {
	want := expected(t)
	k := &exact{}
	event := func(int64) {}
	if n := testing.AllocsPerRun(100, func() {
		k.reset(&want)
		if err := feedAll(k, want.Body, 200, event); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestFormFindsWhatNeedsNoKnowledge checks streams of other providers in their
// own spellings, in pieces of every size.
func TestFormFindsWhatNeedsNoKnowledge(t *testing.T) {
	const chat = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n" +
		": keep-alive\n\ndata: {\"choices\": [{\"delta\": {\"content\": \"Hi\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"!\"}}]}\n\ndata: [DONE]\n\n"
	const messages = "event: content_block_delta\r\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\r\n\r\n" +
		"event: message_stop\r\ndata: {\"type\":\"message_stop\"}\r\n\r\n"
	const responses = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n" +
		"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"text\":\"Hi\"}]}}\n\n"
	for _, tt := range []struct {
		name, path, body string
		stream           bool
		events           int
		want             error
	}{
		{"chat", "/chat/completions", chat, true, 2, nil},
		{"messages", "/messages", messages, true, 1, nil},
		{"responses", "/responses", responses, true, 1, nil},
		{"no end", "/chat/completions", strings.Replace(chat, "data: [DONE]\n\n", "", 1), true, 2, errNoTerminal},
		{"half an end", "/messages", strings.Split(messages, "event: message_stop")[0], true, 1, errNoTerminal},
		{"no output", "/chat/completions", "data: [DONE]\n\n", true, 0, errNothing},
		{"error in between", "/chat/completions", "data: {\"error\":{\"message\":\"x\"}}\n\n" + chat, true, 2, errEvent},
		{"error event", "/messages", "event: error\ndata: {}\n\n" + messages, true, 1, errEvent},
		{"messages, spaced", "/messages", strings.ReplaceAll(messages, `":"`, `": "`), true, 1, nil},
		{"responses, spaced", "/responses", strings.ReplaceAll(responses, `":"`, `": "`), true, 1, nil},
		{"chat, spaced", "/chat/completions", strings.ReplaceAll(chat, `":"`, `": "`), true, 2, nil},
		{"an end that is said", "/responses", strings.ReplaceAll(responses, `"type":"response.completed"`, `"delta":"\"type\": \"response.completed\""`), true, 2, errNoTerminal},
		{"error event, no space", "/messages", "event:error\ndata: {}\n\n" + messages, true, 1, errEvent},
		{"JSON", "/embeddings", `{"data":[]}`, false, 0, nil},
		{"half JSON", "/embeddings", `{"data":[`, false, 0, errNotJSON},
	} {
		for n := 1; n <= len(tt.body); n++ {
			f, events := &form{}, 0
			f.reset(terminalOf(tt.path), tt.stream)
			for b := []byte(tt.body); len(b) > 0; {
				m := min(n, len(b))
				if err := f.feed(b[:m], func() { events++ }); err != nil {
					t.Fatal(err)
				}
				b = b[m:]
			}
			if err := f.end(); err != tt.want || events != tt.events {
				t.Fatalf("%s in pieces of %d: %d events, %v, want %d, %v", tt.name, n, events, err, tt.events, tt.want)
			}
		}
	}
}

func FuzzForm(f *testing.F) {
	f.Add([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: [DONE]\n\n"), 3)
	f.Add([]byte("event: error\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		n = max(n, 1)
		whole, parts := &form{}, &form{}
		whole.reset(terminalOf(chatPath), true)
		parts.reset(terminalOf(chatPath), true)
		x, y := 0, 0
		_ = whole.feed(b, func() { x++ })
		for len(b) > 0 {
			m := min(n, len(b))
			_ = parts.feed(b[:m], func() { y++ })
			b = b[m:]
		}
		if x != y || whole.end() != parts.end() {
			t.Fatalf("whole: %d events, %v; in pieces of %d: %d, %v", x, whole.end(), n, y, parts.end())
		}
	})
}

func FuzzHead(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n"))
	f.Add([]byte("HTTP/1.0 503 \r\nTransfer-Encoding: chunked\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHead(b)
		if err == nil && (h.status < 100 || h.length < toEnd) {
			t.Fatalf("%+v of %q", h, b)
		}
	})
}

// answerOf is a connection on which an answer lies ready.
type answerOf struct {
	net.Conn
	io.Reader
}

func (a answerOf) Read(b []byte) (int, error) { return a.Reader.Read(b) }

// FuzzAnswer reads arbitrary bytes as an answer, whole and byte by byte: the
// verdict is the same, and nothing panics or goes on for ever.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"2d\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\r\n\r\n10\r\n\n\ndata: [DONE]\n\n\r\n0\r\nX: y\r\n\r\n"), true)
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 no\r\nContent-Length: 3\r\n\r\nabc"), false)
	f.Add([]byte("HTTP/1.0 200 OK\r\n\r\n{}"), false)
	f.Fuzz(func(t *testing.T, b []byte, stream bool) {
		read := func(in io.Reader) string {
			r := &run{}
			c := &client{run: r, arm: &arm{run: r}, nc: answerOf{Reader: in}, buf: make([]byte, smallBuffer)}
			c.onExact, c.onForm = c.exactEvent, c.formEvent
			q := &query{stream: stream, terminal: terminalOf(chatPath)}
			c.ask(q, 1)
			return fmt.Sprint(c.answer(q), c.closing, c.arm.events.Load())
		}
		whole, bytewise := read(bytes.NewReader(b)), read(iotest.OneByteReader(bytes.NewReader(b)))
		if whole != bytewise {
			t.Fatalf("whole: %s\nbyte by byte: %s", whole, bytewise)
		}
	})
}
