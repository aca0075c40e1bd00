package proxy

import (
	"fmt"
	"strings"
	"testing"

	"streamrelay/proxy/watch"
	"streamrelay/telemetry"
)

// facts is everything that an answer says about its body, as text.
func facts(a *answer, e *apiError) string {
	var o telemetry.Request
	a.observe(&o, 0)
	o.Gaps = nil                // times
	o.FirstEvent, o.TTFT = 0, 0 // of pieces
	code := ""
	if e != nil {
		code = e.code + " " + e.message
	}
	failure := ""
	if a.failed {
		failure = string(a.appendFailure(nil, errUpstreamCut, []byte("id")))
	}
	return fmt.Sprintf("%q over=%t failed=%t bytes=%d reusable=%t reason=%v failure=%q %+v",
		code, a.over, a.failed, a.bytes, a.reusable(), a.reason(200, e, false), failure, o)
}

// inPieces relays raw in pieces that step decides, then the end of the
// connection where the body has not ended by then.
func inPieces(s setting, raw []byte, step func(i int) int) (out string, left int, said string) {
	a := s.answer()
	var b strings.Builder
	var e *apiError
	at := 0
	for i := 0; at < len(raw) && e == nil && !a.ended(); i++ {
		n := min(max(step(i), 1), len(raw)-at)
		piece := append([]byte(nil), raw[at:at+n]...)
		held, o, used, err := a.feed(piece, 1)
		b.Write(held)
		b.Write(o)
		e = err
		if at += used; used < n {
			break
		}
	}
	if !a.ended() {
		e = a.eof()
	}
	b.Write(a.end(1))
	return b.String(), len(raw) - at, facts(a, e)
}

// FuzzAnswerCuts holds that where the network cuts a body changes nothing: not
// what goes out, not what is recorded, not how it ends.
func FuzzAnswerCuts(f *testing.F) {
	for _, body := range []string{
		chatEvents + chatDone, responsesEvents + responsesDone, messagesEvents + messagesDone, geminiEvents + geminiDone, interactionsEvents + interactionsDone,
		chatEvents + errorEvent, ": comment\r\n\r\n" + chatEvents, strings.ReplaceAll(chatEvents+chatDone, "\n", "\r"),
		"\xef\xbb\xbf" + chatEvents, strings.TrimSuffix(chatEvents, "\n"), document,
	} {
		for mode := range byte(16) {
			raw := body
			if mode&3 == 1 {
				raw = chunksOf(body, 23)
			}
			f.Add([]byte(raw), uint64(0x9e3779b97f4a7c15), mode)
		}
	}
	f.Add([]byte("5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200"), uint64(3), byte(1))
	f.Add([]byte("5\r\nhello\r\nz"), uint64(5), byte(1))
	f.Fuzz(func(t *testing.T, raw []byte, seed uint64, mode byte) {
		if len(raw) > 1<<16 {
			return
		}
		s := setting{framing: framing(mode & 3 % 3), length: len(raw) - int(mode>>7), media: sse, strip: mode&4 != 0, family: watch.Family(mode >> 4 % 6)}
		if mode&8 != 0 {
			s.media = "application/json"
		}
		if s.framing == framedByLength && s.length <= 0 {
			return
		}
		if mode&64 != 0 {
			s.max = 100
		}
		whole, left, said := inPieces(s, raw, func(int) int { return len(raw) })
		random := seed | 1
		for name, step := range map[string]func(int) int{
			"bytes": func(int) int { return 1 },
			"random": func(int) int {
				random ^= random << 13
				random ^= random >> 7
				random ^= random << 17
				return int(random % 40)
			},
		} {
			out, l, facts := inPieces(s, raw, step)
			if s.max > 0 && strings.Contains(said, errStreamTooLong.code) && strings.Contains(facts, errStreamTooLong.code) {
				continue // how much of what is too long goes out depends on the pieces
			}
			if out != whole {
				t.Errorf("in %s: out %q, whole %q", name, out, whole)
			}
			if l != left || facts != said {
				t.Errorf("in %s: left %d, %s\nwhole: left %d, %s", name, l, facts, left, said)
			}
		}
		if !s.strip && s.max == 0 && s.framing != framedByChunks {
			if want := string(raw[:len(raw)-left]); whole != want {
				t.Errorf("out %q, came %q", whole, want)
			}
		}
	})
}
