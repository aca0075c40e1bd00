package blackbox

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"streamrelay/telemetry"
)

// shapes are streams as providers and the grammar of server-sent events allow
// them. None holds the event that include_usage adds.
var shapes = map[string]string{
	"LF":                 roleEvent + content("a") + content("b") + finalEvent + doneEvent,
	"CRLF":               strings.ReplaceAll(roleEvent+content("a")+finalEvent+doneEvent, "\n", "\r\n"),
	"lone CR":            strings.ReplaceAll(roleEvent+content("a")+finalEvent+doneEvent, "\n", "\r"),
	"mixed line ends":    content("a")[:len(content("a"))-2] + "\r\n\n" + content("b")[:len(content("b"))-2] + "\r\r\n" + "data: [DONE]\n\r",
	"comments":           ": OPENROUTER PROCESSING\n\n" + content("a") + ":\n\n: keep-alive\n" + content("b") + ":x\r\n\r\n" + doneEvent,
	"byte order mark":    "\uFEFF" + content("a") + doneEvent,
	"unknown fields":     "id: 1\nretry: 3000\nfoo: bar\nbaz\n" + content("a") + "event: message\n" + content("b") + doneEvent,
	"several data lines": "data: {\"choices\":[{\"delta\":\ndata: {\"content\":\"x\"}}]}\n\n" + doneEvent,
	"no space":           "data:{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata:[DONE]\n\n",
	"no final blank":     content("a") + "data: [DONE]",
	"no final line end":  content("a") + "data: [DONE]\n",
	"blank lines":        "\n\n\n" + content("a") + "\n\n\n" + doneEvent + "\n\n",
	"not JSON":           "data: hello\n\ndata: {\"choices\":[\n\ndata: \x00\xff\xfe\n\n" + content("a") + doneEvent,
	"empty data":         "data:\n\ndata: \n\nevent: ping\n\n" + content("a") + doneEvent,
	"usage in each":      `data: {"choices":[{"delta":{"content":"a"}}],"usage":null}` + "\n\n" + `data: {"choices":[{"delta":{"content":"b"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}` + "\n\n" + doneEvent,
	"after the end":      content("a") + doneEvent + ": bye\n\n" + content("z"),
	"no terminal event":  content("a"),
	"empty":              "",
	"only a comment":     ": nothing\n\n",
}

// cuts are ways of writing a body piece by piece.
var cuts = map[string]func(string) []string{
	"in one piece": func(s string) []string { return []string{s} },
	"byte by byte": func(s string) []string {
		pieces := make([]string, len(s)) // strings.Split would cut by rune
		for i := range pieces {
			pieces[i] = s[i : i+1]
		}
		return pieces
	},
	"at random": func(s string) (pieces []string) {
		r := rand.New(rand.NewPCG(1, uint64(len(s))))
		for len(s) > 0 {
			n := min(1+r.IntN(40), len(s))
			pieces, s = append(pieces, s[:n]), s[n:]
		}
		return pieces
	},
}

func TestAStreamReachesTheClientByteForByte(t *testing.T) {
	const asking = `{"model":"m1","stream":true,"stream_options":{"include_usage":true}}`
	for _, setting := range []struct{ name, yaml, body string }{
		{"reader, auto, not asked", "carrier: reader", chatStream},
		{"reader, auto, asked", "carrier: reader", asking},
		{"reader, off", "carrier: reader, include_usage: off", chatStream},
		{"writer, auto, not asked", "carrier: writer", chatStream},
		{"writer, off", "carrier: writer, include_usage: off", chatStream},
	} {
		t.Run(setting.name, func(t *testing.T) {
			t.Parallel()
			answers := make(chan []string, 1)
			up := newUpstream(t, func(rq *received) {
				rq.send(streamHead)
				for _, p := range <-answers {
					rq.send(chunk(p))
				}
				rq.send(lastChunk)
			})
			rl := relayTo(t, up, "stream: {"+setting.yaml+"}\n")
			c := rl.dial()
			for shape, text := range shapes {
				for cut, pieces := range cuts {
					answers <- pieces(text)
					c.send(post("/v1/chat/completions", setting.body))
					if a := c.answer(); a.err != nil || string(a.body) != text {
						t.Fatalf("%s, %s: %s (%v)", shape, cut, firstDifference(a.body, []byte(text)), a.err)
					}
				}
			}
		})
	}
}

func TestHTTP10ClientsGetTheStreamByteForByteUntilTheClose(t *testing.T) {
	answers := make(chan []string, 1)
	up := newUpstream(t, func(rq *received) {
		rq.send(streamHead)
		for _, p := range <-answers {
			rq.send(chunk(p))
		}
		rq.send(lastChunk)
	})
	rl := relayTo(t, up, "")
	for shape, text := range shapes {
		for cut, pieces := range cuts {
			answers <- pieces(text)
			c := rl.dial()
			c.send(http10(post("/v1/chat/completions", chatStream)))
			a := c.answer()
			if a.err != nil || string(a.body) != text {
				t.Fatalf("%s, %s: %s (%v)", shape, cut, firstDifference(a.body, []byte(text)), a.err)
			}
			if a.chunked || a.get("Transfer-Encoding") != "" || !strings.EqualFold(a.get("Connection"), "close") {
				t.Fatalf("head for HTTP/1.0: %s", a.head)
			}
		}
	}
}

// A close-delimited stream that named its last event has ended properly, and
// becomes a chunked one.
func TestCloseDelimitedStreamsReachTheClientByteForByte(t *testing.T) {
	text := content("a") + finalEvent + doneEvent
	for name, f := range framings {
		for _, carrier := range carriers {
			t.Run(name+", "+carrier, func(t *testing.T) {
				t.Parallel()
				up := newUpstream(t, func(rq *received) {
					rq.send(f.head + f.piece(text) + f.end)
					if f.close {
						rq.close()
					}
				})
				rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
				c := rl.dial()
				for range 3 {
					c.send(post("/v1/chat/completions", chatStream))
					if a := c.answer(); a.err != nil || string(a.body) != text || !a.chunked {
						t.Fatalf("%s (%v)", clip(a.body), a.err)
					}
				}
				want := int64(1)
				if f.close {
					want = 3
				}
				if n := up.connections.Load(); n != want {
					t.Errorf("%d upstream connections, want %d", n, want)
				}
			})
		}
	}
}

// One event of 16 MiB, in writes of a size that no buffer has.
func TestAVeryLargeEventReachesTheClientByteForByte(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	big := make([]byte, 16<<20)
	for i := range big {
		big[i] = "abcdefghijklmnopqrstuvwxyz \"[]{}:,"[r.IntN(26)] // no byte that JSON escapes
	}
	event := content(string(big))
	text := roleEvent + event + finalEvent + usageEvent + doneEvent
	want := sha256.Sum256([]byte(roleEvent + event + finalEvent + doneEvent))
	for _, carrier := range carriers {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/1.0"} {
			t.Run(carrier+", "+protocol, func(t *testing.T) {
				up := newUpstream(t, func(rq *received) {
					rq.send(streamHead)
					for rest := text; rest != ""; {
						n := min(len(rest), 50021)
						rq.send(chunk(rest[:n]))
						rest = rest[n:]
					}
					rq.send(lastChunk)
				})
				rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
				c := rl.dial()
				rq := post("/v1/chat/completions", chatStream)
				if protocol == "HTTP/1.0" {
					rq = http10(rq)
				}
				c.send(rq)
				h := sha256.New()
				n, err := io.Copy(h, c.begin())
				if err != nil || [32]byte(h.Sum(nil)) != want {
					t.Fatalf("%d bytes of %d, %v", n, len(text)-len(usageEvent), err)
				}
				rec := rl.one()
				if rec.End != telemetry.Completed || rec.Events != 5 || rec.ContentEvents != 1 || rec.Usage.Output != 34 {
					t.Errorf("record: %s, %d events, %d with content, usage %+v", rec.End, rec.Events, rec.ContentEvents, rec.Usage)
				}
			})
		}
	}
}

// With include_usage off the body goes up as it came, however it is written.
func TestRequestsGoUpByteForByte(t *testing.T) {
	bodies := []string{
		chatStream, chatPlain,
		" \r\n\t" + chatStream + "\n ",
		`{"stream":true, "model" : "m1","x":[1.0e+5,-0,{"a":"\u0041\n"}],"messages":[]}`,
		`{"model":"m1","stream":true,"pad":"` + strings.Repeat("y", 300<<10) + `"}`,
	}
	bodiesSeen := make(chan *received, 1)
	up := newUpstream(t, func(rq *received) {
		bodiesSeen <- rq
		rq.reply(200, "{}")
	})
	rl := relayTo(t, up, "stream: {include_usage: off}\n")
	c := rl.dial()
	for _, body := range bodies {
		for _, coding := range []string{"length", "chunks"} {
			if coding == "length" {
				c.send(post("/v1/chat/completions", body))
			} else {
				c.send(request("POST", "/v1/chat/completions", "", "Content-Type: application/json", "Transfer-Encoding: chunked"))
				for _, p := range cuts["at random"](body) {
					c.send(chunk(p))
				}
				c.send(lastChunk)
			}
			rq := receive(t, bodiesSeen)
			a := c.answer()
			if a.status != 200 {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			c = rl.after(c, a)
			if rq.body != body {
				t.Fatalf("by %s: %s", coding, firstDifference([]byte(rq.body), []byte(body)))
			}
			if got, want := rq.get("Content-Length"), fmt.Sprint(len(body)); got != want || rq.get("Transfer-Encoding") != "" {
				t.Errorf("by %s: Content-Length %q, want %q; Transfer-Encoding %q", coding, got, want, rq.get("Transfer-Encoding"))
			}
		}
	}
}
