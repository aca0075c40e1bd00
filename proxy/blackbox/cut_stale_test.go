package blackbox

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"streamrelay/telemetry"
)

// An upstream may close a connection that idles, at any time; the next request
// must not pay for it.
func TestAStaleIdleConnectionIsReplacedUnseen(t *testing.T) {
	cert := newCertificate(t)
	for _, transport := range []string{"plain", "TLS"} {
		for _, how := range []string{"FIN", "RST", "unasked bytes"} {
			if transport == "TLS" && how == "unasked bytes" {
				continue // cannot be told from a session ticket before it is read
			}
			t.Run(transport+", "+how, func(t *testing.T) {
				t.Parallel()
				idle, stale := make(chan struct{}), make(chan struct{})
				script := func(rq *received) {
					rq.reply(200, fmt.Sprintf(`{"connection":%d}`, rq.upstreamConn.number))
					if rq.upstreamConn.number > 1 {
						return
					}
					if !rq.await(idle) {
						return
					}
					switch how {
					case "FIN":
						rq.close()
					case "RST":
						rq.reset()
					default:
						rq.send(reply(408, "{}")) // as some servers say good-bye
					}
					close(stale)
				}
				up := newUpstream(t, script)
				if transport == "TLS" {
					up = newTLSUpstream(t, cert, script)
				}
				rl := relayTo(t, up, "")
				c := rl.dial()
				for i := range 3 {
					if i == 1 {
						close(idle)
						receive(t, stale)
					}
					c.send(post("/v1/chat/completions", chatPlain))
					a := c.answer()
					want := fmt.Sprintf(`{"connection":%d}`, min(i+1, 2))
					if a.status != 200 || string(a.body) != want {
						t.Fatalf("request %d: status %d: %s", i, a.status, a.body)
					}
				}
				for i, r := range rl.wait(3) {
					if r.End != telemetry.Completed || r.Attempts != 1 {
						t.Errorf("record %d: %s, %d attempts", i, r.End, r.Attempts)
					}
				}
				if n := up.requests.Load(); n != 3 {
					t.Errorf("the upstream got %d requests for 3", n)
				}
			})
		}
	}
}

// A request that was sent may have been carried out: it is never sent again,
// on whatever connection it went (golang/go's Transport sends a POST twice when
// the client says Idempotency-Key).
func TestARequestThatWasSentIsNeverSentAgain(t *testing.T) {
	for _, how := range []string{"FIN", "RST"} {
		for _, warm := range []bool{true, false} {
			for _, fields := range [][]string{nil, {"Idempotency-Key: x", "X-Idempotency-Key: x"}} {
				t.Run(fmt.Sprintf("%s, reused: %t, %q", how, warm, fields), func(t *testing.T) {
					var n int
					up := newUpstream(t, func(rq *received) {
						if n++; warm && n == 1 {
							rq.reply(200, "{}")
							return
						}
						if how == "RST" {
							rq.reset()
						} else {
							rq.close()
						}
					})
					rl := relayTo(t, up, "")
					c := rl.dial()
					records := 0
					if warm {
						c.send(post("/v1/chat/completions", chatPlain))
						if a := c.answer(); a.status != 200 {
							t.Fatalf("status %d", a.status)
						}
						records++
					}
					c.send(post("/v1/chat/completions", chatPlain, fields...))
					checkEnvelope(t, c.answer(), "chat", 502)
					records++
					if r := rl.last(records); r.End != telemetry.UpstreamCut || r.Attempts != 1 {
						t.Errorf("record: %s, %d attempts", r.End, r.Attempts)
					}
					if got := up.requests.Load(); got != int64(records) {
						t.Errorf("the upstream got %d requests for %d", got, records)
					}
				})
			}
		}
	}
}

// An answer that says Connection: close, or comes by HTTP/1.0, ends its
// connection; one that says neither keeps it.
func TestUpstreamConnectionsAreKeptAsTheUpstreamSays(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		connections  int64
	}{
		{"kept", reply(200, "{}"), 1},
		{"close", reply(200, "{}", "Connection: close"), 3},
		{"Close among others", reply(200, "{}", "Connection: x, Close"), 3},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 3},
		{"HTTP/1.0 that keeps", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", 1},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", 1},
		{"204 that closes", "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			up := newUpstream(t, func(rq *received) { rq.send(tt.answer) })
			rl := relayTo(t, up, "")
			c := rl.dial()
			for range 3 {
				c.send(post("/v1/chat/completions", chatPlain))
				if a := c.answer(); a.status/100 != 2 || a.err != nil || a.get("Connection") != "" {
					t.Fatalf("%s (%v)", a.head, a.err)
				}
			}
			if n := up.connections.Load(); n != tt.connections {
				t.Errorf("%d upstream connections, want %d", n, tt.connections)
			}
		})
	}
}

// A limit of connections is a refusal that clients may try again, not a queue.
func TestAnUpstreamWithoutAFreeConnectionIsA503(t *testing.T) {
	held := make(chan struct{})
	up := newUpstream(t, func(rq *received) {
		if rq.await(held) {
			rq.reply(200, "{}")
		}
	})
	rl := startRelay(t, upstreamsYAML(up, "max_connections: 1, "))
	first := rl.dial()
	first.send(post("/v1/chat/completions", chatPlain))
	eventually(t, "the first request to arrive", func() bool { return up.requests.Load() == 1 })
	second := rl.dial()
	second.send(post("/v1/chat/completions", chatPlain))
	a := second.answer()
	checkEnvelope(t, a, "chat", 503)
	if a.get("Retry-After") == "" {
		t.Errorf("head: %s", a.head)
	}
	close(held)
	if a := first.answer(); a.status != 200 {
		t.Errorf("status %d", a.status)
	}
	rl.wait(2) // the connection is given back after the answer's last byte
	second.send(post("/v1/chat/completions", chatPlain))
	if a := second.answer(); a.status != 200 {
		t.Errorf("afterwards: status %d", a.status)
	}
}

// An upstream takes nothing of a body for longer than the relay is patient,
// then answers with its length and reads on (RFC 9112, 9.3): what it is still
// owed must not be the next request.
func TestAConnectionThatIsOwedAPartOfARequestCarriesNoOther(t *testing.T) {
	rest := make(chan string, 1)
	up := newRawUpstream(t, nil, func(c *upstreamConn) {
		rq, err := c.readHead()
		if err != nil {
			return
		}
		if c.number > 1 {
			if rq.readBody() == nil {
				c.reply(200, `{"from":"another"}`)
			}
			return
		}
		time.Sleep(2500 * time.Millisecond) // a write's deadline is at most twice the head's
		c.reply(200, `{"from":"the first"}`)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		b, _ := io.ReadAll(c.r)
		rest <- string(b)
	})
	rl := relayTo(t, up, "timeouts: {head: 1s}\n", option{noCheck: true})
	c := rl.dial()
	c.send(post("/v1/chat/completions", `{"model":"m1","messages":[{"role":"user","content":"`+strings.Repeat("x", 24<<20)+`"}]}`))
	if a := c.answer(); a.status != 200 || string(a.body) != `{"from":"the first"}` {
		t.Errorf("first answer: %d %s", a.status, a.body)
	}
	d := rl.dial()
	d.send(post("/v1/chat/completions", `{"model":"m1","messages":[]}`))
	if a := d.answer(); a.status != 200 || string(a.body) != `{"from":"another"}` {
		t.Errorf("second answer: %d %s", a.status, a.body)
	}
	if r := receive(t, rest); strings.Contains(r, "POST ") {
		t.Errorf("the upstream read as a part of the first body: %q", r[strings.Index(r, "POST "):])
	}
}
