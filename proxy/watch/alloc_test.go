package watch

import (
	"bytes"
	"strings"
	"testing"
)

// TestNoAllocations covers every path of a stream and of a JSON answer: whole
// events, events cut anywhere, events held, released and taken out.
func TestNoAllocations(t *testing.T) {
	streams := map[string]struct {
		f     Family
		strip bool
		in    string
	}{
		"chat":      {Chat, false, strings.Repeat(chunk, 20) + "data: " + usageChunk + "\n\ndata: [DONE]\n\n"},
		"strip":     {Chat, true, strings.Repeat(chunk, 20) + "data: " + usageChunk + "\n\ndata: [DONE]\n\n"},
		"long hold": {Chat, true, `data: {"pad":"` + strings.Repeat("p", 30<<10) + "\"}\n\n" + `data: {"pad":"` + strings.Repeat("p", 80<<10) + "\"}\n\n"},
		"responses": {Responses, false, named(`{"type":"response.output_text.delta","sequence_number":5,"delta":"Hi \n"}`, `{"type":"response.completed","sequence_number":7,"response":{"usage":{"input_tokens":36,"output_tokens":87}}}`)},
		"messages":  {Messages, false, named(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}`, `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15,"iterations":[{"input_tokens":3,"output_tokens":7},{"output_tokens":8}]}}`)},
		"two lines": {Other, true, "data: {\"a\":1\ndata: }\n\n"},
	}
	for name, c := range streams {
		for _, size := range []int{1, 7, 100, 4096, 1 << 20} {
			src, buf := []byte(c.in), make([]byte, len(c.in))
			s := Stream{Holds: new(Holds)}
			if n := testing.AllocsPerRun(20, func() {
				copy(buf, src)
				s.Reset(c.f, c.strip)
				for i := 0; i < len(buf); i += size {
					s.Feed(buf[i:min(i+size, len(buf))], int64(i))
				}
				s.End(1, true)
				s.Release()
			}); n != 0 && !raceEnabled {
				t.Errorf("%s in pieces of %d: %v allocations", name, size, n)
			}
		}
	}
	body := bytes.Repeat([]byte(` {"usage":{"prompt_tokens":1,"completion_tokens":2},"choices":[{"message":{"content":"x\n"}}]}`), 10)
	for _, size := range []int{1, 9, 1 << 20} {
		var j JSON
		if n := testing.AllocsPerRun(20, func() {
			j.Reset()
			for i := 0; i < len(body); i += size {
				j.Feed(body[i:min(i+size, len(body))])
			}
			j.Cut()
		}); n != 0 {
			t.Errorf("JSON in pieces of %d: %v allocations", size, n)
		}
	}
}
