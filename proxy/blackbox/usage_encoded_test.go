package blackbox

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"streamrelay/telemetry"
)

// codings compress pieces, flushing after each so that each can be read.
var codings = []struct {
	name, field string
	writer      func(io.Writer) flusher
}{
	{"gzip", "gzip", func(w io.Writer) flusher { return gzip.NewWriter(w) }},
	{"x-gzip", "x-gzip", func(w io.Writer) flusher { return gzip.NewWriter(w) }},
	{"deflate", "deflate", func(w io.Writer) flusher { return zlib.NewWriter(w) }},
	{"raw deflate", "deflate", func(w io.Writer) flusher { f, _ := flate.NewWriter(w, 6); return f }},
	{"br", "br", func(w io.Writer) flusher { return brotli.NewWriter(w) }},
	{"zstd", "zstd", func(w io.Writer) flusher { z, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)); return z }},
	{"upper case", "GZIP", func(w io.Writer) flusher { return gzip.NewWriter(w) }},
}

type flusher interface {
	io.WriteCloser
	Flush() error
}

// encode returns the compressed form of each piece.
func encode(t *testing.T, writer func(io.Writer) flusher, pieces []string) []string {
	t.Helper()
	var b bytes.Buffer
	w := writer(&b)
	var out []string
	for i, p := range pieces {
		if _, err := io.WriteString(w, p); err != nil {
			t.Fatal(err)
		}
		end := w.Flush
		if i == len(pieces)-1 {
			end = w.Close
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		out = append(out, b.String())
		b.Reset()
	}
	return out
}

// vm0-ai/vm0#8884, rossoctl/cortex#864: an answer that the provider compressed
// had no usage, or was corrupted.
func TestACompressedStreamIsPassedOnAsItIsAndItsUsageCounted(t *testing.T) {
	events := []string{roleEvent, content("a"), content("b"), finalEvent, usageEvent, doneEvent}
	for _, carrier := range carriers {
		for _, coding := range codings {
			t.Run(coding.name+", "+carrier, func(t *testing.T) {
				t.Parallel()
				pieces := encode(t, coding.writer, events)
				shown := make(chan struct{})
				up := newUpstream(t, func(rq *received) {
					rq.send(strings.Replace(streamHead, "\r\n\r\n", "\r\nContent-Encoding: "+coding.field+"\r\n\r\n", 1))
					for _, p := range pieces {
						if !rq.await(shown) {
							return
						}
						rq.send(chunk(p))
					}
					rq.send(lastChunk)
				})
				rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
				c := rl.dial()
				c.send(post("/v1/chat/completions", chatStream))
				a := c.begin()
				if a.get("Content-Encoding") != coding.field {
					t.Errorf("head: %s", a.head)
				}
				for _, p := range pieces {
					shown <- struct{}{}
					a.expect(p)
				}
				a.finish("")
				r := rl.one()
				if r.End != telemetry.Completed || r.Usage != tokens(12, 34, 5, -1, 7) || r.UsageSource != telemetry.UsageProvider || r.Events != 6 || r.ContentEvents != 2 {
					t.Errorf("record: %s, usage %+v of %d, %d events, %d with content", r.End, r.Usage, r.UsageSource, r.Events, r.ContentEvents)
				}
			})
		}
	}
}

func TestACompressedJSONAnswerIsPassedOnAsItIsAndItsUsageCounted(t *testing.T) {
	body := `{"choices":[{"message":{"content":"` + strings.Repeat("pad ", 50<<10) + `"}}],"usage":{"prompt_tokens":5,"completion_tokens":6}}`
	for _, coding := range codings {
		t.Run(coding.name, func(t *testing.T) {
			packed := encode(t, coding.writer, []string{body})[0]
			up := newUpstream(t, func(rq *received) { rq.reply(200, packed, "Content-Encoding: "+coding.field) })
			rl := relayTo(t, up, "")
			c := rl.dial()
			c.send(post("/v1/chat/completions", chatPlain))
			if a := c.answer(); string(a.body) != packed || a.get("Content-Encoding") != coding.field {
				t.Fatalf("%s", firstDifference(a.body, []byte(packed)))
			}
			if r := rl.one(); r.Usage != tokens(5, 6, -1, -1, -1) || r.UsageSource != telemetry.UsageProvider {
				t.Errorf("usage %+v of %d", r.Usage, r.UsageSource)
			}
		})
	}
}

// What cannot be read is passed on all the same, and its usage is unknown.
func TestAnAnswerInAnUnknownCodingIsPassedOnWithUsageUnknown(t *testing.T) {
	for name, field := range map[string]string{"unknown": "compress", "two": "gzip, br", "not what it says": "gzip"} {
		t.Run(name, func(t *testing.T) {
			body := noise(20<<10, 5)
			up := newUpstream(t, func(rq *received) {
				rq.send(strings.Replace(streamHead, "\r\n\r\n", "\r\nContent-Encoding: "+field+"\r\n\r\n", 1) + chunk(body) + lastChunk)
			})
			rl := relayTo(t, up, "")
			c := rl.dial()
			c.send(post("/v1/chat/completions", chatStream))
			if a := c.answer(); string(a.body) != body || a.err != nil {
				t.Fatalf("%s (%v)", firstDifference(a.body, []byte(body)), a.err)
			}
			if r := rl.one(); r.UsageSource != telemetry.UsageUnknown || r.Usage != unknownTokens || r.End != telemetry.Completed {
				t.Errorf("record: %s, usage %+v of %d", r.End, r.Usage, r.UsageSource)
			}
		})
	}
}

// A compressed answer of a gigabyte of zeros, as small on the wire as it is,
// costs the relay no such memory.
func TestACompressedBombIsBounded(t *testing.T) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 64 {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	packed := b.String()
	up := newUpstream(t, func(rq *received) { rq.reply(200, packed, "Content-Encoding: gzip") })
	rl := relayTo(t, up, "")
	c := rl.dial()
	before := heap()
	c.send(post("/v1/chat/completions", chatPlain))
	if a := c.answer(); string(a.body) != packed {
		t.Fatalf("%s", firstDifference(a.body, []byte(packed)))
	}
	rl.one()
	if now := heap(); now > before+16<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, now)
	}
}
