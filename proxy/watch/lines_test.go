package watch

import (
	"strings"
	"testing"
)

func TestGrammar(t *testing.T) {
	const one = `{"choices":[{"delta":{"content":"x"}}]}`
	for _, c := range []struct {
		name, in        string
		events, content int64
		mid             bool
	}{
		{"LF", "data: " + one + "\n\n", 1, 1, false},
		{"CRLF", "data: " + one + "\r\n\r\n", 1, 1, false},
		{"CR", "data: " + one + "\r\r", 1, 1, false},
		{"mixed", "data: " + one + "\r\n\ndata: " + one + "\n\rdata: " + one + "\r\r\n", 3, 3, false},
		{"CR then LF is one end", "data: " + one + "\r\ndata:\n\r\n", 1, 1, false},
		{"no space", "data:" + one + "\n\n", 1, 1, false},
		{"two spaces", "data:  " + one + "\n\n", 1, 1, false},
		{"tab", "data:\t" + one + "\n\n", 1, 1, false},
		{"order mark", bomMark + "data: " + one + "\n\n", 1, 1, false},
		{"order mark later is a field", "\n" + bomMark + "data: " + one + "\n\n", 0, 0, false},
		{"half an order mark is a field", bomMark[:2] + "data: " + one + "\n\ndata: " + one + "\n\n", 1, 1, false},
		{"half an order mark and an end", bomMark[:2] + "\n\ndata: " + one + "\n\n", 1, 1, false},
		{"two order marks", bomMark + bomMark + "data: " + one + "\n\n", 0, 0, false},
		{"data over lines", "data: {\"choices\":[\ndata: {\"delta\":{\"content\":\ndata\ndata:\"x\"}}]}\n\n", 1, 1, false},
		{"a line end in a text is no JSON", "data: {\"choices\":[{\"delta\":{\"content\":\"x\ndata: y\"}}]}\n\n", 1, 0, false},
		{"a line end in a number parts it", "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"n\":1\ndata: 2}\n\n", 1, 0, false},
		{"comments", ": a\n:b\r\n:\n\n", 0, 0, false},
		{"comment within", "data: {\"choices\":\n: c\ndata: [{\"delta\":{\"content\":\"x\"}}]}\n\n", 1, 1, false},
		{"other fields", "id: 1\nretry: 5\nfoo\nfoo: bar\ndata: " + one + "\nevent: x\n\n", 1, 1, false},
		{"no data, no event", "event: x\nid: 1\n\n\n\n", 0, 0, false},
		{"empty data is an event", "data\n\ndata:\n\ndata: \n\n", 3, 0, false},
		{"case matters", "Data: " + one + "\n\nDATA: x\n\n", 0, 0, false},
		{"names that only begin alike", "dat: 1\n\ndata2: 2\n\ndatabase: 3\n\n data: 4\n\n", 0, 0, false},
		{"unterminated last event counts", "data: " + one, 1, 1, true},
		{"unterminated last line counts", "data: " + one + "\n", 1, 1, true},
		{"unfinished last event does not", "data: " + one[:20], 0, 0, true},
		{"open comment", ": wai", 0, 0, true},
		{"comment without an empty line", ": wait\n", 0, 0, true},
		{"closed comment", ": wait\n\n", 0, 0, false},
		{"open field", "ev", 0, 0, true},
		{"order mark alone", bomMark, 0, 0, false},
		{"half an order mark alone", bomMark[:1], 0, 0, true},
		{"nothing", "", 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := facts{usage: none, events: c.events, content: c.content, mid: c.mid, sequence: -1, gaps: uint32(max(c.events, 1) - 1)}
			checkCuts(t, Chat, false, c.in, true, want, c.in)
		})
	}
}

func TestUnterminatedEnd(t *testing.T) {
	for _, c := range []struct {
		name, in string
		eof      bool
		want     facts
	}{
		{"usage without an empty line", "data: " + usageChunk, true, facts{usage: Usage{19, 7, 3, -1, 2}, known: true, final: true, events: 1, mid: true}},
		{"usage without an empty line, then a cut", "data: " + usageChunk, false, facts{usage: Usage{19, 7, 3, -1, 2}, known: true, final: true, mid: true}},
		{"usage object complete, event cut", `data: {"usage":{"prompt_tokens":1,"completion_tokens":2},"x":`, false, facts{usage: Usage{1, 2, -1, -1, -1}, known: true, mid: true}},
		{"usage object incomplete", `data: {"usage":{"prompt_tokens":1,"completion_tokens":2`, false, facts{usage: none, mid: true}},
		{"done without an empty line", "data: [DONE]", true, facts{usage: none, terminal: true, events: 1, mid: true}},
		{"done without an empty line, then a cut", "data: [DONE]\n", false, facts{usage: none, mid: true}},
		{"half of done", "data: [DON", true, facts{usage: none, mid: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.sequence = -1
			checkCuts(t, Chat, false, c.in, c.eof, c.want, c.in)
		})
	}
}

func TestEventNameOfAnyLength(t *testing.T) {
	for _, n := range []int{0, 1, maxName - 1, maxName, maxName + 1, 300} {
		in := "event: " + strings.Repeat("e", n) + "\ndata: {}\n\nevent: error\ndata: x\n\n"
		checkCuts(t, Messages, false, in, true, facts{usage: none, terminal: true, failed: true, events: 2, sequence: -1, gaps: 1}, in)
	}
}

func TestSixteenMegabytesInOneEvent(t *testing.T) {
	big := strings.Repeat(`\"a\" {[,`, 2<<20)
	in := "data: {\"type\":\"response.completed\",\"response\":{\"instructions\":\"" + big + "\",\"output\":[{\"text\":\"" + big[:9<<17] + "\"}],\"usage\":{\"input_tokens\":5,\"output_tokens\":6}}}\n\n"
	var s Stream
	s.Reset(Responses, false)
	p := []byte(in)
	for i, n := 0, 1; i < len(p); i, n = i+n, n%9973+7 {
		s.Feed(p[i:min(i+n, len(p))], 1)
	}
	s.End(1, true)
	if u, _ := s.Usage(); u.Input != 5 || u.Output != 6 || !s.Terminal() || s.Events() != 1 {
		t.Errorf("usage %+v, terminal %v, %d events", u, s.Terminal(), s.Events())
	}
}
