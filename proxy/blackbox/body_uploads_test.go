package blackbox

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"streamrelay/auth"
	"streamrelay/telemetry"
)

// form is a multipart body as curl writes it: the fields, then the file.
func form(boundary, model string, file string) string {
	part := "--" + boundary + "\r\nContent-Disposition: form-data; name="
	return part + "\"model\"\r\n\r\n" + model + "\r\n" +
		part + "\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n" + file + "\r\n--" + boundary + "--\r\n"
}

// noise is n bytes that are their own.
func noise(n int, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, seed))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func TestUploadsGoUpByteForByte(t *testing.T) {
	small, large := noise(1000, 1), noise(3<<20, 2)
	multipart := "multipart/form-data; boundary=XyZ; charset=utf-8"
	for _, tt := range []struct{ name, method, path, contentType, body, model string }{
		{"small form", "POST", "/v1/audio/transcriptions", multipart, form("XyZ", "whisper-1", small), "whisper-1"},
		{"large form", "POST", "/v1/audio/transcriptions", multipart, form("XyZ", "whisper-1", large), "whisper-1"},
		{"file upload", "POST", "/v1/files", multipart, form("XyZ", "", large), ""},
		{"part of an upload", "POST", "/v1/uploads/up_1/parts", multipart, form("XyZ", "", large), ""},
		{"binary PUT", "PUT", "/v1/files/f1/content", "application/octet-stream", large, ""},
		{"SDP", "POST", "/v1/realtime/calls", "application/sdp", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n", ""},
	} {
		for _, coding := range []string{"length", "chunks"} {
			t.Run(tt.name+" by "+coding, func(t *testing.T) {
				t.Parallel()
				got := make(chan *received, 2)
				up := newUpstream(t, func(rq *received) {
					got <- rq
					rq.reply(200, `{"text":"ok"}`)
				})
				rl := relayTo(t, up, "")
				c := rl.dial()
				for i := range 2 {
					if coding == "length" {
						c.send(request(tt.method, tt.path, tt.body, "Content-Type: "+tt.contentType))
					} else {
						c.send(request(tt.method, tt.path, "", "Content-Type: "+tt.contentType, "Transfer-Encoding: chunked"))
						for rest := tt.body; rest != ""; {
							n := min(len(rest), 30011)
							c.send(chunk(rest[:n]))
							rest = rest[n:]
						}
						c.send(lastChunk)
					}
					rq := receive(t, got)
					if rq.body != tt.body {
						t.Fatalf("body: %s", firstDifference([]byte(rq.body), []byte(tt.body)))
					}
					if rq.get("Content-Type") != tt.contentType {
						t.Errorf("Content-Type %q", rq.get("Content-Type"))
					}
					length := fmt.Sprint(len(tt.body))
					if coding == "chunks" {
						length = ""
					}
					if rq.get("Content-Length") != length {
						t.Errorf("Content-Length %q, want %q", rq.get("Content-Length"), length)
					}
					a := c.answer()
					if a.status != 200 || string(a.body) != `{"text":"ok"}` {
						t.Fatalf("status %d: %s", a.status, a.body)
					}
					c = rl.after(c, a)
					r := rl.last(i + 1)
					if r.Model != tt.model || r.BytesIn != int64(len(tt.body)) || r.End != telemetry.Completed {
						t.Errorf("record: %s, model %q, %d bytes in of %d", r.End, r.Model, r.BytesIn, len(tt.body))
					}
				}
			})
		}
	}
}

// While the upstream reads slowly, the relay holds no more of an upload than
// its buffers and the sockets.
func TestAnUploadIsNotHeldInMemory(t *testing.T) {
	const size = 64 << 20
	half, whole := make(chan struct{}), make(chan [32]byte, 1)
	resume := make(chan struct{})
	up := newRawUpstream(t, nil, func(c *upstreamConn) {
		if _, err := c.readHead(); err != nil {
			return
		}
		h := sha256.New()
		if _, err := io.CopyN(h, c.r, size/2); err != nil {
			return
		}
		close(half)
		if !c.await(resume) {
			return
		}
		if _, err := io.CopyN(h, c.r, size/2); err != nil {
			return
		}
		whole <- [32]byte(h.Sum(nil))
		c.reply(200, "{}")
	})
	rl := relayTo(t, up, "")
	c := rl.dial()
	before := heap()
	sent := make(chan hash.Hash, 1)
	go func() {
		h := sha256.New()
		defer func() { sent <- h }()
		_, _ = io.WriteString(c.Conn, fmt.Sprintf("POST /v1/files HTTP/1.1\r\nHost: r\r\nAuthorization: Bearer %s\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", testKey, size))
		block := []byte(noise(64<<10, 9))
		for range size / len(block) {
			if _, err := c.Conn.Write(block); err != nil {
				return
			}
			h.Write(block)
			block[0]++
		}
	}()
	receive(t, half)
	if held := rl.tel.HeldBytes.Load(); held > 64<<10 {
		t.Errorf("%d bytes held", held)
	}
	if now := heap(); now > before+8<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, now)
	}
	close(resume)
	want := receive(t, sent)
	if got := receive(t, whole); got != [32]byte(want.Sum(nil)) {
		t.Error("the upload arrived altered")
	}
	if a := c.answer(); a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	if r := rl.one(); r.BytesIn != size {
		t.Errorf("%d bytes in, want %d", r.BytesIn, size)
	}
}

// heap is how many bytes live on the heap.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The upstream refuses an upload after its head; its answer reaches a client
// that is still sending.
func TestAnEarlyAnswerToAnUploadReachesTheClient(t *testing.T) {
	body := noise(16<<20, 4) // before there is a connection that waits for it
	for _, coding := range []string{"length", "chunks"} {
		for _, after := range []string{"closes", "goes on reading", "stops reading"} {
			t.Run("by "+coding+", the upstream "+after, func(t *testing.T) {
				t.Parallel()
				up := newRawUpstream(t, nil, func(c *upstreamConn) {
					if _, err := c.readHead(); err != nil {
						return
					}
					c.send("HTTP/1.1 413 Too Large\r\nContent-Type: application/json\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{\"error\":\"large\"}")
					if after == "closes" {
						// FIN, so that the answer is not lost to a reset.
						if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
							_ = half.CloseWrite()
						}
					}
					if after == "stops reading" {
						<-c.up.done
						return
					}
					_, _ = io.Copy(io.Discard, c.r)
				})
				rl := relayTo(t, up, "")
				c := rl.dial()
				go func() {
					if coding == "length" {
						_, _ = io.WriteString(c.Conn, request("POST", "/v1/files", body, "Content-Type: application/octet-stream"))
						return
					}
					_, _ = io.WriteString(c.Conn, request("POST", "/v1/files", "", "Content-Type: application/octet-stream", "Transfer-Encoding: chunked")+chunk(body)+lastChunk)
				}()
				a := c.answer()
				if a.status != 413 || string(a.body) != `{"error":"large"}` {
					t.Fatalf("status %d: %s (%v)", a.status, a.body, a.err)
				}
				if r := rl.one(); r.End != telemetry.UpstreamStatus || r.UpstreamStatus != 413 {
					t.Errorf("record: %s, upstream's status %d", r.End, r.UpstreamStatus)
				}
			})
		}
	}
}

// A chunked upload goes up as it comes: the upstream has a piece before the
// client sends the next.
func TestAnUploadGoesUpAsItComes(t *testing.T) {
	pieces := []string{"a", "bc", strings.Repeat("d", 5000)}
	seen := make(chan string)
	up := newRawUpstream(t, nil, func(c *upstreamConn) {
		if _, err := c.readHead(); err != nil {
			return
		}
		for _, p := range pieces {
			got := make([]byte, len(chunk(p)))
			if _, err := io.ReadFull(c.r, got); err != nil {
				return
			}
			seen <- string(got)
		}
		if _, err := io.ReadFull(c.r, make([]byte, len(lastChunk))); err != nil {
			return
		}
		c.reply(200, "{}")
	})
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(request("POST", "/v1/files", "", "Content-Type: application/octet-stream", "Transfer-Encoding: chunked"))
	for _, p := range pieces {
		c.send(chunk(p))
		if got := receive(t, seen); got != chunk(p) {
			t.Fatalf("the upstream got %s", clip([]byte(got)))
		}
	}
	c.send(lastChunk)
	if a := c.answer(); a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
}

func TestAFormWithoutAModelIsServedWhateverTheLimitOfBodies(t *testing.T) {
	up := newUpstream(t, func(rq *received) { rq.reply(200, "{}") })
	body := strings.Replace(form("XyZ", "", noise(100<<10, 3)), `name="model"`, `name="other"`, 1)
	multipart := "Content-Type: multipart/form-data; boundary=XyZ"
	for _, maxBody := range []string{"1KiB", "16KiB", "32767B", "32KiB", "64KiB", "1MiB"} {
		rl := relayTo(t, up, "limits: {max_body: "+maxBody+"}\n", option{noCheck: true})
		for coding, raw := range map[string]string{
			"length":  request("POST", "/v1/audio/transcriptions", body, multipart),
			"chunked": request("POST", "/v1/audio/transcriptions", "", multipart, "Transfer-Encoding: chunked") + chunk(body) + lastChunk,
		} {
			t.Run(maxBody+", "+coding, func(t *testing.T) {
				_, a := rl.speak(t, raw)
				if a == nil || a.status != 200 {
					t.Errorf("%+v, want 200", a)
				}
			})
		}
	}
}

// OpenAI's SDK for Node sends the fields in the order of the call, which in its
// documents is file, model.
func TestAModelBehindALargeFileIsFoundWhereARuleNeedsIt(t *testing.T) {
	got := make(chan string, 1)
	up := newUpstream(t, func(rq *received) { got <- rq.body; rq.reply(200, "{}") })
	part := "--XyZ\r\nContent-Disposition: form-data; name="
	fileFirst := func(model string, size int) string {
		return part + "\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n" + noise(size, 5) + "\r\n" +
			part + "\"model\"\r\n\r\n" + model + "\r\n--XyZ--\r\n"
	}
	multipart := "Content-Type: multipart/form-data; boundary=XyZ"
	route := "routes: [{models: [whisper-1], upstreams: [openai]}, {models: [ears], upstreams: [openai], rewrite_model: {ears: whisper-1}}]\n"
	restricted := key("k1", testKey, "acme")
	restricted.Models = []string{"whisper-*"}
	for _, tt := range []struct {
		name, more, model string
		keys              []*auth.Record
		size, status      int
		sent              string // the model that goes up
	}{
		{name: "a route", more: route, model: "whisper-1", size: 3 << 20, status: 200, sent: "whisper-1"},
		{name: "an alias", more: route, model: "ears", size: 3 << 20, status: 200, sent: "whisper-1"},
		{name: "no route", more: route, model: "eyes", size: 3 << 20, status: 404},
		{name: "more than may be held", more: route + "limits: {max_body: 1MiB}\n", model: "whisper-1", size: 3 << 20, status: 400},
		{name: "as much as may be held", more: route + "limits: {max_body: 1MiB}\n", model: "whisper-1", size: 1<<20 - 300, status: 200, sent: "whisper-1"},
		{name: "a key's models", keys: []*auth.Record{restricted}, model: "whisper-1", size: 200 << 10, status: 200, sent: "whisper-1"},
		{name: "not a key's model", keys: []*auth.Record{restricted}, model: "eyes", size: 200 << 10, status: 403},
		{name: "nothing that depends on it", model: "eyes", size: 3 << 20, status: 200, sent: "eyes"},
	} {
		rl := relayTo(t, up, tt.more, option{keys: tt.keys})
		body := fileFirst(tt.model, tt.size)
		for coding, raw := range map[string]string{
			"length":  request("POST", "/v1/audio/transcriptions", body, multipart),
			"chunked": request("POST", "/v1/audio/transcriptions", "", multipart, "Transfer-Encoding: chunked") + chunk(body[:100<<10]) + chunk(body[100<<10:]) + lastChunk,
		} {
			t.Run(tt.name+", "+coding, func(t *testing.T) {
				_, a := rl.speak(t, raw)
				if a == nil || a.status != tt.status {
					t.Fatalf("%+v, want %d", a, tt.status)
				}
				if tt.status == 200 && receive(t, got) != fileFirst(tt.sent, tt.size) {
					t.Error("the upstream got another body")
				}
			})
		}
	}
}

// Of two fields model one is the last, which some providers take: a key that is
// bound to models cannot pass one by.
func TestAFormOfTwoModelsIsRefusedToAKeyThatIsBoundToModels(t *testing.T) {
	whole := make(chan struct{}, 10)
	up := newRawUpstream(t, nil, func(c *upstreamConn) {
		for {
			rq, err := c.readHead()
			if err != nil || rq.readBody() != nil {
				return
			}
			whole <- struct{}{}
			rq.reply(200, "{}")
		}
	})
	restricted := key("k1", testKey, "acme")
	restricted.Models = []string{"whisper-*"}
	part := "--XyZ\r\nContent-Disposition: form-data; name="
	two := func(size int) string {
		return part + "\"model\"\r\n\r\nwhisper-1\r\n" + part + "\"file\"; filename=\"a.mp3\"\r\n\r\n" + noise(size, 6) + "\r\n" +
			part + "\"model\"\r\n\r\nwhisper-1\r\n--XyZ--\r\n"
	}
	for _, bound := range []bool{true, false} {
		o := option{}
		if bound {
			o.keys = []*auth.Record{restricted}
		}
		rl := relayTo(t, up, "", o)
		for _, size := range []int{10, 3 << 20} {
			for _, chunked := range []bool{true, false} {
				t.Run(fmt.Sprint(bound, size, chunked), func(t *testing.T) {
					body, multipart := two(size), "Content-Type: multipart/form-data; boundary=XyZ"
					raw := request("POST", "/v1/audio/transcriptions", body, multipart)
					if chunked {
						raw = request("POST", "/v1/audio/transcriptions", "", multipart, "Transfer-Encoding: chunked") + chunk(body) + lastChunk
					}
					_, a := rl.speak(t, raw)
					if !bound {
						if a == nil || a.status != 200 {
							t.Fatalf("%+v", a)
						}
						receive(t, whole)
						return
					}
					if a == nil || a.status != 400 || !strings.Contains(string(a.body), "invalid_form") {
						t.Fatalf("%+v", a)
					}
				})
			}
		}
	}
	if len(whole) > 0 {
		t.Error("the upstream got a whole form")
	}
}
