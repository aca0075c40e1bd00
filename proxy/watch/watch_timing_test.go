package watch

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// chunk is a chat chunk of about 200 bytes, as OpenAI sends it.
const chunk = `data: {"id":"chatcmpl-9lmJ3rW2Kx","object":"chat.completion.chunk","created":1718000000,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}` + "\n\n"

func benchFeed(b *testing.B, f Family, strip bool, in string, size int) {
	s := Stream{Holds: new(Holds)}
	s.Reset(f, strip)
	src := []byte(in)
	p := bytes.Clone(src)
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	now := int64(1)
	for b.Loop() {
		for i := 0; i < len(p); i += size {
			now++
			s.Feed(p[i:min(i+size, len(p))], now)
		}
	}
	if n := s.Events(); n > 0 {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
	}
}

func BenchmarkFeed(b *testing.B) {
	responses := "event: response.output_text.delta\ndata: " + `{"type":"response.output_text.delta","sequence_number":17,"item_id":"msg_68a1b2c3d4e5f60718293a4b5c6d7e8f","output_index":0,"content_index":0,"delta":" word","logprobs":[],"obfuscation":"k3Jd8"}` + "\n\n"
	messages := "event: content_block_delta\ndata: " + `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" word"}}` + "\n\n"
	usage := strings.Replace(chunk, `}]}`, `}],"usage":{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,"prompt_tokens_details":{"cached_tokens":0}}}`, 1)
	for _, c := range []struct {
		name  string
		f     Family
		strip bool
		in    string
		size  int
	}{
		{"chat", Chat, false, chunk, 1 << 20},
		{"chat_strip", Chat, true, chunk, 1 << 20},
		{"chat_64", Chat, false, strings.Repeat(chunk, 64), 1 << 20},
		{"chat_64_strip", Chat, true, strings.Repeat(chunk, 64), 1 << 20},
		{"chat_halves", Chat, false, chunk, len(chunk) / 2},
		{"chat_halves_strip", Chat, true, chunk, len(chunk) / 2},
		{"chat_bytes", Chat, false, chunk, 1},
		{"chat_bytes_strip", Chat, true, chunk, 1},
		{"chat_continuous_usage", Chat, false, usage, 1 << 20},
		{"responses", Responses, false, responses, 1 << 20},
		{"messages", Messages, false, messages, 1 << 20},
	} {
		b.Run(c.name, func(b *testing.B) { benchFeed(b, c.f, c.strip, c.in, c.size) })
	}
}

func BenchmarkBigEvent(b *testing.B) {
	text := strings.Repeat(`It was \"said\" that the quick brown fox\n jumps over the lazy dog. `, 1<<14)
	image := strings.Repeat("iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB", 1<<15)
	for name, v := range map[string]string{"text": text, "base64": image} {
		in := fmt.Sprintf("event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"text\":\"%s\"}],\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n", v)
		b.Run(name, func(b *testing.B) { benchFeed(b, Responses, false, in, 16<<10) })
	}
}

func BenchmarkJSON(b *testing.B) {
	vector := strings.Repeat("-0.0123456789,", 1535) + "0.5"
	for name, in := range map[string]string{
		"chat":       `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"` + strings.Repeat(`Some words.\n`, 80) + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}`,
		"embeddings": `{"object":"list","data":[{"index":0,"embedding":[` + vector + `]}],"usage":{"prompt_tokens":8,"total_tokens":8}}`,
		"image":      `{"created":1,"data":[{"b64_json":"` + strings.Repeat("iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB", 1<<15) + `"}],"usage":{"input_tokens":8,"output_tokens":8}}`,
	} {
		b.Run(name, func(b *testing.B) {
			p := []byte(in)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				var j JSON
				j.Reset()
				for i := 0; i < len(p); i += 16 << 10 {
					j.Feed(p[i:min(i+16<<10, len(p))])
				}
			}
		})
	}
}
