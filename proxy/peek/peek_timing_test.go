package peek

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// chatBody is a streaming chat request of about size bytes, in many short messages.
func chatBody(size int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"model":"gpt-4o-mini","temperature":0.7,"max_tokens":512,"messages":[{"role":"system","content":"You are a helpful assistant."}`)
	for i := 0; b.Len() < size-150; i++ {
		fmt.Fprintf(&b, `,{"role":"user","content":"Message %d: please explain how a proxy forwards a stream.\nBriefly, please."}`, i)
	}
	b.WriteString(`],"stream":true,"user":"u-123"}`)
	return b.Bytes()
}

// imageBody is a request that holds one string of size bytes.
func imageBody(size int) []byte {
	return []byte(`{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` +
		strings.Repeat("iVBORw0KGgoAAAANSUhEUg", size/22) + `"}}]}],"stream":true}`)
}

// escapedBody is Chinese text as Python's json.dumps writes it.
func escapedBody(size int) []byte {
	return []byte(`{"model":"Qwen\/Qwen2.5","messages":[{"role":"user","content":"` +
		strings.Repeat(`\u4f60\u597d\uff0c`, size/18) + `"}],"stream":true}`)
}

func BenchmarkParse(b *testing.B) {
	bodies := []struct {
		name string
		body []byte
	}{
		{"chat-1K", chatBody(1 << 10)},
		{"chat-64K", chatBody(64 << 10)},
		{"image-1M", imageBody(1 << 20)},
		{"image-64M", imageBody(64 << 20)},
		{"escapes-64K", escapedBody(64 << 10)},
		{"numbers-64K", []byte(`{"input":[` + strings.Repeat("1234,", 13<<10) + `1]}`)},
		{"indented-64K", []byte(`{"a":[` + strings.Repeat("\n        {\n            \"b\": 1\n        },", 1600) + `1]}`)},
	}
	for _, tt := range bodies {
		b.Run(tt.name, func(b *testing.B) {
			var r Request
			b.SetBytes(int64(len(tt.body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Parse(tt.body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkJSONValid is the yardstick: encoding/json only checking the same body.
func BenchmarkJSONValid(b *testing.B) {
	body := chatBody(1 << 10)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		json.Valid(body)
	}
}

func BenchmarkParseAndEdit(b *testing.B) {
	body := chatBody(1 << 10)
	var r Request
	var array [2]Edit
	out := make([]byte, 0, 2<<10)
	opt := EditOptions{Model: []byte("openai/gpt-4o-mini"), IncludeUsage: true}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Parse(body); err != nil {
			b.Fatal(err)
		}
		out = AppendEdited(out[:0], body, r.Edits(array[:0], opt))
	}
}

func BenchmarkFormModel(b *testing.B) {
	boundary := []byte("----WebKitFormBoundary7MA4YWxkTrZu0gW")
	part := "------WebKitFormBoundary7MA4YWxkTrZu0gW\r\nContent-Disposition: form-data; name="
	first := []byte(part + "\"model\"\r\n\r\nwhisper-1\r\n" + part + "\"file\"; filename=\"a.wav\"\r\n\r\n")
	late := []byte(part + "\"file\"; filename=\"a.wav\"\r\n\r\n" + strings.Repeat("x\r\n--\r", 10<<10))
	for _, tt := range []struct {
		name string
		body []byte
	}{{"first", first}, {"file-60K", late}} {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				FormModel(tt.body, boundary)
			}
		})
	}
}

func BenchmarkStripQuery(b *testing.B) {
	query := []byte("alt=sse&key=AIzaSyA-0123456789abcdefghijklmnopqrstu")
	out := make([]byte, 0, 128)
	b.ReportAllocs()
	for b.Loop() {
		out, _ = StripQuery(out[:0], query, "key", "api_key")
	}
}

// BenchmarkOtherModels is what a key that is bound to models costs a request.
func BenchmarkOtherModels(b *testing.B) {
	for _, size := range []int{1 << 10, 10 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			body := chatBody(size)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if !OtherModels(body, false, func([]byte) bool { return true }) {
					b.Fatal("not allowed")
				}
			}
		})
	}
}
