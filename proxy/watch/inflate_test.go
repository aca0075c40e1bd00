package watch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

type flusher interface {
	io.WriteCloser
	Flush() error
}

// compressors by the name of the test; the encoding is the name's first word.
var compressors = map[string]func(io.Writer) flusher{
	"gzip":        func(w io.Writer) flusher { return gzip.NewWriter(w) },
	"x-gzip":      func(w io.Writer) flusher { return gzip.NewWriter(w) },
	"deflate":     func(w io.Writer) flusher { return zlib.NewWriter(w) },
	"deflate raw": func(w io.Writer) flusher { z, _ := flate.NewWriter(w, 6); return z },
	"br":          func(w io.Writer) flusher { return brotli.NewWriter(w) },
	"zstd":        func(w io.Writer) flusher { z, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)); return z },
}

func encodingOf(name string) string { return strings.Fields(name)[0] }

func TestInflateSeesEachFlushedEventAtOnce(t *testing.T) {
	for name, compress := range compressors {
		for _, step := range []int{1 << 20, 1, 3} {
			t.Run(fmt.Sprint(name, " in pieces of ", step), func(t *testing.T) {
				var body bytes.Buffer
				w := compress(&body)
				var s Stream
				s.Reset(Chat, false)
				var z Inflate
				if !z.Start(encodingOf(name), func(p []byte, now int64) { s.Feed(p, now) }) {
					t.Fatal("unknown")
				}
				send := func(now int64) {
					for body.Len() > 0 {
						p := bytes.Clone(body.Next(step))
						z.Write(p, now)
						clear(p) // nothing of it may be kept
					}
				}
				for i, e := range []string{role, chat(`{"content":"a"}`), chat(`{"content":"b"}`), usageChunk, "[DONE]"} {
					io.WriteString(w, "data: "+e+"\n\n")
					w.Flush()
					send(int64(i + 1))
					if s.Events() != int64(i+1) || s.lastEvent != int64(i+1) {
						t.Fatalf("after event %d: %d events, the last at %d", i+1, s.Events(), s.lastEvent)
					}
				}
				w.Close()
				send(6)
				if err := z.Close(); err != nil {
					t.Error(err)
				}
				s.End(6, true)
				if u, _ := s.Usage(); u != (Usage{19, 7, 3, -1, 2}) || s.FirstContent() != 2 || !s.Terminal() {
					t.Errorf("usage %+v, first content at %d, terminal %v", u, s.FirstContent(), s.Terminal())
				}
			})
		}
	}
}

func TestInflateUnknown(t *testing.T) {
	for _, e := range []string{"", "identity", "compress", "gzip, br", "GZIP "} {
		var z Inflate
		if z.Start(e, func([]byte, int64) { t.Error("called") }) {
			t.Errorf("%q is known", e)
		}
		z.Write([]byte("x"), 1)
		if err := z.Close(); err != nil {
			t.Error(err)
		}
	}
}

func compressed(name string, in []byte) []byte {
	var b bytes.Buffer
	w := compressors[name](&b)
	w.Write(in)
	w.Close()
	return b.Bytes()
}

func TestInflateEnds(t *testing.T) {
	doc := []byte(`{"usage":{"prompt_tokens":3,"completion_tokens":4},"pad":"` + strings.Repeat("0123456789abcdef", 4000) + `"}`)
	for name := range compressors {
		body := compressed(name, doc)
		for _, c := range []struct {
			what  string
			in    []byte
			err   bool
			whole bool
		}{
			{"whole", body, false, true},
			{"empty", nil, false, false},
			{"cut", body[:len(body)-9], true, false},
			{"garbage", []byte("data: {\"a\":1}\n\n" + strings.Repeat("garbage ", 100)), true, false},
		} {
			t.Run(name+" "+c.what, func(t *testing.T) {
				var j JSON
				j.Reset()
				var z Inflate
				z.Start(encodingOf(name), func(p []byte, _ int64) { j.Feed(p) })
				z.Write(c.in, 1)
				if err := z.Close(); (err != nil) != c.err {
					t.Errorf("error: %v", err)
				} else if c.what == "cut" && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("error: %v", err)
				}
				if err := z.Close(); (err != nil) != c.err {
					t.Error("a second Close says another thing")
				}
				if _, known := j.Usage(); (known && !j.Cut()) != c.whole {
					t.Errorf("usage known: %v, cut: %v", known, j.Cut())
				}
			})
		}
	}
}

func TestInflateBound(t *testing.T) {
	const limit = 4 << 20
	zeros := make([]byte, limit)
	for name, compress := range compressors {
		var body bytes.Buffer
		w := compress(&body)
		w.Write(zeros)
		w.Write(zeros)
		w.Close()
		z := Inflate{Limit: limit}
		total := 0
		z.Start(encodingOf(name), func(p []byte, _ int64) { total += len(p) })
		z.Write(body.Bytes(), 1)
		z.Write(body.Bytes(), 2)
		if err := z.Close(); !errors.Is(err, errTooLarge) || total > limit {
			t.Errorf("%s: %d bytes, error %v", name, total, err)
		}
	}
}

func TestInflateGzipMembers(t *testing.T) {
	one := compressed("gzip", []byte(`{"usage":{"prompt_tokens":3}}`))
	two := compressed("gzip", []byte(`{"usage":{"completion_tokens":4}}`))
	for name, tail := range map[string]string{"nothing": "", "zeros": strings.Repeat("\x00", 20)} {
		body := append(append(bytes.Clone(one), two...), tail...)
		for cut := range body {
			var j JSON
			j.Reset()
			var z Inflate
			z.Start("gzip", func(p []byte, _ int64) { j.Feed(p) })
			z.Write(body[:cut], 1)
			z.Write(body[cut:], 1)
			if u, _ := j.Usage(); u.Input != 3 || u.Output != 4 || z.Close() != nil {
				t.Fatalf("cut at %d, then %s: %+v, %v", cut, name, u, z.Close())
			}
		}
	}
}

func TestInflateRestarts(t *testing.T) {
	var z Inflate
	for range 3 {
		var j JSON
		j.Reset()
		z.Start("gzip", func(p []byte, _ int64) { j.Feed(p) })
		z.Write(compressed("gzip", []byte(`{"usage":{"prompt_tokens":3}}`)), 1)
		if u, _ := j.Usage(); u.Input != 3 {
			t.Errorf("usage %+v before Close", u)
		}
		if err := z.Close(); err != nil {
			t.Error(err)
		}
	}
}
