package blackbox

import (
	"fmt"
	"strings"
	"testing"

	"streamrelay/configs/porttest"
	"streamrelay/telemetry"
)

// An upstream that does not speak HTTP, or speaks it in two ways at once, gets
// no further than a 502, and no other exchange on its connection.
func TestAnAnswerThatIsNotHTTPIsA502(t *testing.T) {
	long := strings.Repeat("x", 40<<10)
	tail := "\r\nContent-Type: application/json\r\n\r\n{}"
	for name, sent := range map[string]string{
		"another protocol":               "SSH-2.0-OpenSSH_9.2\r\n",
		"HTTP/0.9":                       "<html></html>",
		"HTTP/2 preface":                 "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"a TLS alert":                    "\x15\x03\x01\x00\x02\x02\x16",
		"version 2":                      "HTTP/2.0 200 OK\r\nContent-Length: 2" + tail,
		"version 1.2":                    "HTTP/1.2 200 OK\r\nContent-Length: 2" + tail,
		"no status":                      "HTTP/1.1 \r\nContent-Length: 2" + tail,
		"status of two digits":           "HTTP/1.1 20 OK\r\nContent-Length: 2" + tail,
		"status of four digits":          "HTTP/1.1 2000 OK\r\nContent-Length: 2" + tail,
		"status below 100":               "HTTP/1.1 099 OK\r\nContent-Length: 2" + tail,
		"lower case":                     "http/1.1 200 OK\r\nContent-Length: 2" + tail,
		"both lengths":                   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked" + tail,
		"chunked twice":                  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked" + tail,
		"another coding":                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked" + tail,
		"chunked in HTTP/1.0":            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked" + tail,
		"two lengths":                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3" + tail,
		"a list of lengths":              "HTTP/1.1 200 OK\r\nContent-Length: 2, 3" + tail,
		"a signed length":                "HTTP/1.1 200 OK\r\nContent-Length: +2" + tail,
		"a negative length":              "HTTP/1.1 200 OK\r\nContent-Length: -2" + tail,
		"an empty length":                "HTTP/1.1 200 OK\r\nContent-Length:" + tail,
		"a huge length":                  "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999" + tail,
		"a hexadecimal length":           "HTTP/1.1 200 OK\r\nContent-Length: 0x2" + tail,
		"folded":                         "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2" + tail,
		"a folded first line":            "HTTP/1.1 200 OK\r\n X-A: b\r\nContent-Length: 2" + tail,
		"NUL in a value":                 "HTTP/1.1 200 OK\r\nX-A: b\x00c\r\nContent-Length: 2" + tail,
		"NUL in a name":                  "HTTP/1.1 200 OK\r\nX\x00A: b\r\nContent-Length: 2" + tail,
		"a bare CR in a value":           "HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: c\r\nContent-Length: 2" + tail,
		"a space before the colon":       "HTTP/1.1 200 OK\r\nContent-Length : 2" + tail,
		"a line without a colon":         "HTTP/1.1 200 OK\r\nhello\r\nContent-Length: 2" + tail,
		"an empty name":                  "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2" + tail,
		"a giant head":                   "HTTP/1.1 200 OK\r\nX-A: " + long + "\r\nContent-Length: 2" + tail,
		"a giant head of many lines":     "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 8<<10) + "Content-Length: 2" + tail,
		"a giant status line":            "HTTP/1.1 200 " + long + "\r\nContent-Length: 2" + tail,
		"too many interim answers":       strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 17) + "HTTP/1.1 200 OK\r\nContent-Length: 2" + tail,
		"an upgrade that nobody asked":   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
		"an interim answer with a body?": "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 2" + tail,
	} {
		for _, stays := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, stays open: %t", name, stays), func(t *testing.T) {
				t.Parallel()
				up := newUpstream(t, func(rq *received) {
					rq.send(sent)
					if !stays {
						rq.close()
					}
				})
				rl := relayTo(t, up, "")
				c := rl.dial()
				for i := range 2 {
					c.send(post("/v1/messages", `{"model":"m1"}`))
					checkEnvelope(t, c.answer(), "Anthropic", 502)
					r := rl.last(i + 1)
					cut := !stays && r.End == telemetry.UpstreamCut // a head that never ended is one or the other
					if r.End != telemetry.UpstreamError && !cut || r.Error != "upstream_error" || r.Attempts != 1 {
						t.Errorf("record: %s, error %q, %d attempts", r.End, r.Error, r.Attempts)
					}
				}
				if n := up.connections.Load(); n != 2 {
					t.Errorf("%d upstream connections for 2 requests", n)
				}
				if n := up.requests.Load(); n != 2 {
					t.Errorf("the upstream got %d requests for 2", n)
				}
			})
		}
	}
}

// Once the head has left, bad chunks end the stream with an error event.
func TestBadChunksBreakTheStream(t *testing.T) {
	for name, raw := range map[string]string{
		"no size":                 "\r\nxx\r\n",
		"not a number":            "zz\r\nxx\r\n",
		"a sign":                  "+2\r\nxx\r\n",
		"negative":                "-2\r\nxx\r\n",
		"0x":                      "0x2\r\nxx\r\n",
		"a huge size":             "ffffffffffffffff1\r\nxx\r\n",
		"LF alone":                "2\nxx\n",
		"no line end after":       "2\r\nxxyy\r\n",
		"CR alone after":          "2\r\nxx\r5\r\n",
		"a leading space":         " 2\r\nxx\r\n",
		"NUL in an extension":     "2;\x00\r\nxx\r\n",
		"a giant extension":       "2;" + strings.Repeat("e", 64<<10) + "\r\nxx\r\n",
		"giant trailers":          "0\r\n" + strings.Repeat("X-A: b\r\n", 8<<10) + "\r\n",
		"a NUL in a trailer":      "0\r\nX: \x00\r\n\r\n",
		"a bare LF as last empty": "0\r\n\n",
	} {
		for _, carrier := range carriers {
			t.Run(name+", "+carrier, func(t *testing.T) {
				t.Parallel()
				up := newUpstream(t, func(rq *received) {
					rq.send(streamHead + chunk(content("a")) + raw)
				})
				rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
				for i := range 2 {
					c := rl.dial()
					c.send(post("/v1/chat/completions", chatStream))
					a := c.begin()
					a.expect(content("a"))
					rest, err := a.rest()
					if err == nil {
						t.Errorf("the transfer ended cleanly")
					}
					rest = strings.TrimPrefix(strings.TrimPrefix(rest, "xx"), "\n\n") // what came of the chunk may have passed
					if err := checkChatError(rest); err != nil {
						t.Error(err)
					}
					if r := rl.last(i + 1); r.End != telemetry.UpstreamError || r.Error != "upstream_error" {
						t.Errorf("record: %s, error %q", r.End, r.Error)
					}
				}
				if n := up.connections.Load(); n != 2 {
					t.Errorf("%d upstream connections for 2 requests", n)
				}
			})
		}
	}
}

// Bytes behind an answer are nobody's: they are not taken for the next one.
func TestBytesBehindAnAnswerSpoilItsConnection(t *testing.T) {
	evil := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n\"stolen\""
	for name, first := range map[string]string{
		"of known length": reply(200, `{"a":1}`),
		"chunked":         "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(`{"a":1}`) + lastChunk,
		"without a body":  "HTTP/1.1 204 No Content\r\n\r\n",
		"a stream":        streamHead + chunk(content("a")) + lastChunk,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := newUpstream(t, func(rq *received) { rq.send(first + evil) })
			rl := relayTo(t, up, "")
			c := rl.dial()
			for range 3 {
				c.send(post("/v1/chat/completions", chatPlain))
				if a := c.answer(); strings.Contains(string(a.body), "stolen") || a.err != nil {
					t.Fatalf("%s (%v)", a.body, a.err)
				}
			}
			if n := up.connections.Load(); n != 3 {
				t.Errorf("%d upstream connections for 3 requests", n)
			}
		})
	}
}

func TestAnUpstreamThatRefusesConnectionsIsA502(t *testing.T) {
	rl := startRelay(t, "upstreams: [{name: up, dialect: openai, base_url: \"http://"+porttest.DeadAddress(t)+"/v1\"}]\n")
	c := rl.dial()
	c.send(post("/v1/chat/completions", chatStream))
	a := c.answer()
	checkEnvelope(t, a, "chat", 502)
	if !strings.Contains(string(a.body), "upstream_connect") || a.get("Retry-After") == "" {
		t.Errorf("%s%s", a.head, a.body)
	}
	if r := rl.one(); r.End != telemetry.UpstreamError || r.UpstreamStatus != 0 {
		t.Errorf("record: %s", r.End)
	}
}

// The upstream's own 401 and 403 speak of the relay's credential.
func TestAnUpstreamsRefusalOfTheCredentialIsA502(t *testing.T) {
	for _, status := range []int{401, 403} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			up := newUpstream(t, func(rq *received) {
				rq.reply(status, `{"error":{"message":"Incorrect API key provided: `+upstreamKey+`"}}`)
			})
			rl := relayTo(t, up, "")
			c := rl.dial()
			c.send(post("/v1/chat/completions", chatStream))
			a := c.answer()
			checkEnvelope(t, a, "chat", 502)
			if strings.Contains(a.head+string(a.body), "sk-upstream") || !strings.Contains(string(a.body), "upstream_auth") {
				t.Errorf("%s", a.body)
			}
			if r := rl.one(); r.End != telemetry.UpstreamStatus || r.UpstreamStatus != status || r.Status != 502 {
				t.Errorf("record: %s, status %d, upstream's %d", r.End, r.Status, r.UpstreamStatus)
			}
		})
	}
}
