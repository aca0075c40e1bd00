package watch

import (
	"strings"
	"testing"
)

func TestStripTakesOutTheUsageEventOnly(t *testing.T) {
	usage := `{"id":"c1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}`
	ev := func(s string) string { return "data: " + s + "\n\n" }
	x := ev(chat(`{"content":"x"}`))
	for _, c := range []struct{ name, in, want string }{
		{"as OpenAI sends it", x + ev(stop) + ev(usageChunk) + ev("[DONE]"), x + ev(stop) + ev("[DONE]")},
		{"alone", ev(usageChunk), ""},
		{"first", ev(usage) + x, x},
		{"twice", ev(usage) + x + ev(usage) + ev(usage) + x, x + x},
		{"usage before choices", ev(`{"usage":{"prompt_tokens":1},"choices":[]}`) + x, x},
		{"choices null", ev(`{"choices":null,"usage":{}}`) + x, x},
		{"choices missing", ev(`{"usage":{"prompt_tokens":1}}`) + x, x},
		{"CRLF", x + strings.ReplaceAll(ev(usage), "\n", "\r\n") + x, x + x},
		{"CR", x + strings.ReplaceAll(ev(usage), "\n", "\r") + x, x + x},
		{"CR and CRLF", x + "data: " + usage + "\r\r\n" + x, x + x},
		{"an LF after the removed CRLF stays", x + "data: " + usage + "\r\n\r\n\n" + x, x + "\n" + x},
		{"data over lines", x + "data: {\"choices\":\ndata: [],\ndata:\"usage\":{}}\n\n" + x, x + x},
		{"with id and event", x + "id: 7\nevent: message\ndata: " + usage + "\nretry: 3\n\n" + x, x + x},
		{"order mark stays", bomMark + ev(usage) + x, bomMark + x},
		{"comment block before", ": wait\n\n" + ev(usage) + x, ": wait\n\n" + x},
		{"comment in its block stays, closed", x + ": wait\n" + ev(usage) + x, x + ": wait\n\n" + x},
		{"the same with CRLF", x + ": wait\r\ndata: " + usage + "\r\n\r\n" + x, x + ": wait\r\n\r\n" + x},
		{"comment between its lines goes", x + "id: 7\n: c\ndata: " + usage + "\n\n" + x, x + x},
		{"last, without an empty line", x + "data: " + usage, x},
		{"last, with one line end", x + "data: " + usage + "\n", x},

		{"not Azure's filter chunk", ev(`{"choices":[],"id":"","prompt_filter_results":[{}]}`) + x, "="},
		{"not with usage null", ev(`{"choices":[],"usage":null}`) + x, "="},
		{"not with a choice", ev(`{"choices":[{"delta":{}}],"usage":{}}`) + ev(`{"usage":{},"choices":[{}]}`), "="},
		{"not an error", ev(`{"choices":[],"usage":{},"error":{"message":"m"}}`) + ev(`{"error":"x","usage":{}}`), "="},
		{"not an event named error", "event: error\n" + ev(usage), "="},
		{"not done, text or garbage", ev("[DONE]") + ev("hello") + ev(`{"usage":{}`) + ev(`{"usage":{}} x`) + ev(`[{"usage":{}}]`) + ev(`"usage"`) + ev("1") + ev(""), "="},
		{"not a usage that is none", ev(`{"usage":[],"choices":[]}`) + ev(`{"usage":"x"}`) + ev(`{"usage":1}`) + ev(`{"choices":{},"usage":{}}`) + ev(`{"choices":"x","usage":{}}`) + ev(`{"choices":0,"usage":{}}`), "="},
		{"not a usage inside", ev(`{"choices":[],"x":{"usage":{}},"response":{"usage":{}}}`), "="},
		{"not after half an order mark", bomMark[:2] + "data: x\ndata: y\n" + ev(usage) + x, "="},
		{"not without data", "event: x\nid: 1\n\n" + x, "="},
		{"unfinished last event", x + `data: {"choices":[],"us`, "="},
		{"unfinished last comment", x + ": w", "="},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.want == "=" {
				c.want = c.in
			}
			var plain, s Stream
			run(&plain, Chat, false, c.in, true)
			run(&s, Chat, true, c.in, true)
			want := factsOf(&plain)
			want.mid = factsOf(&s).mid // what was withheld is not begun
			if got := factsOf(&s); got != want {
				t.Fatalf("withholding changes facts:\n got %+v\nwant %+v", got, want)
			}
			checkCuts(t, Chat, true, c.in, true, want, c.want)
		})
	}
}

func TestStripHoldsOnlyWhileUndecided(t *testing.T) {
	for _, c := range []struct {
		name string
		in   string
		// out[i] is sent after piece i; pieces are parted by '|'.
		out string
	}{
		{"a chunk waits until its choice", `data: {"id":"c","choices":|[|{"delta":{|"content":"x"}}]}` + "\n\n", `||data: {"id":"c","choices":[{"delta":{|"content":"x"}}]}` + "\n\n|"},
		{"usage null decides", `data: {"usage":n|ull|,"choices"`, `||data: {"usage":null,"choices"|`},
		{"done is seen at its first letter", `data: |[D|ONE]`, `|data: [D|ONE]|`},
		{"a comment never waits", `: wa|it` + "\n|\n", ": wa|it\n|\n|"},
		{"a held usage event goes", `data: {"usage":{|}}` + "\n|\n|data: x", "|||data: x|"},
		{"and the LF of its CRLF", `data: {"usage":{}}` + "\r\n\r|\n|data: x", "||data: x|"},
		{"what is held goes out at the end", "data: {\"id|\":1", "||data: {\"id\":1"},
		{"with what comes behind it", `data: {"a":1|}` + "\n\ndata: {|}\n\n", `|data: {"a":1}` + "\n\n|data: {}\n\n|"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s Stream
			s.Reset(Chat, true)
			var got []string
			for _, p := range strings.Split(c.in, "|") {
				held, out := s.Feed([]byte(p), 1)
				got = append(got, string(held)+string(out))
			}
			got = append(got, string(s.End(1, true)))
			s.Release()
			if g := strings.Join(got, "|"); g != c.out {
				t.Errorf("\n got %q\nwant %q", g, c.out)
			}
		})
	}
}

func TestStripDropsHalfAnEventAtACut(t *testing.T) {
	var s Stream
	s.Reset(Chat, true)
	_, out := s.Feed([]byte("data: {\"choices\":[{}]}\n\ndata: {\"id\":"), 1)
	if string(out) != "data: {\"choices\":[{}]}\n\n" || s.MidEvent() {
		t.Errorf("sent %q, mid-event %v", out, s.MidEvent())
	}
	if held := s.End(1, false); held != nil || s.MidEvent() {
		t.Errorf("at the cut: %q, mid-event %v", held, s.MidEvent())
	}
}

func TestStripBound(t *testing.T) {
	pad := func(n int) string { // a usage event whose bytes before its empty line are n
		e := `data: {"pad":"","choices":[],"usage":{}}` + "\n"
		return strings.Replace(e, `""`, `"`+strings.Repeat("p", n-len(e))+`"`, 1) + "\n"
	}
	for _, c := range []struct {
		n   int
		out bool
	}{{maxHold - 1, false}, {maxHold, true}, {maxHold + 1, true}, {5 * maxHold, true}} {
		in := pad(c.n)
		for _, step := range []int{1, 100, 4 << 10, 60 << 10, 64 << 10, len(in) - 1, len(in)} {
			var cuts []int
			for i := step; i < len(in); i += step {
				cuts = append(cuts, i)
			}
			var s Stream
			out := run(&s, Chat, true, in, true, cuts...)
			if want := map[bool]string{true: in}[c.out]; out != want {
				t.Errorf("event of %d bytes in steps of %d: %d bytes out", c.n, step, len(out))
			}
		}
	}
}

func TestNothingIsHeldBetweenEvents(t *testing.T) {
	in := strings.Repeat("data: "+chat(`{"content":"x"}`)+"\n\n", 3) + "data: " + usageChunk + "\n\n"
	var s Stream
	s.Reset(Chat, true)
	for i := range len(in) {
		s.Feed([]byte{in[i]}, 1)
		s.Settle()
		if s.lines.open || s.strip.hold.n == 0 && s.strip.hold.small == nil && s.strip.hold.large == nil {
			if s.strip.lent != (hold{}) {
				t.Fatal("a lent buffer is kept after Settle")
			}
			continue
		}
		t.Fatalf("a buffer is held at byte %d, between events", i)
	}
}
