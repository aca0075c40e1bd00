package blackbox

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"streamrelay/telemetry"
)

// Events of a streamed chat completion.
const (
	roleEvent  = `data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	finalEvent = `data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	usageEvent = `data: {"id":"c1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46,"prompt_tokens_details":{"cached_tokens":5},"completion_tokens_details":{"reasoning_tokens":7}}}` + "\n\n"
	doneEvent  = "data: [DONE]\n\n"
)

// content is a chunk that carries text, which needs no escapes.
func content(text string) string {
	return `data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"` + text + `"},"finish_reason":null}]}` + "\n\n"
}

// carriers are the values of stream.carrier; each rule of a stream holds with
// both.
var carriers = []string{"reader", "writer"}

// framings are the ways in which an upstream may end a stream's body.
var framings = map[string]struct {
	head, end string
	piece     func(string) string
	close     bool
}{
	"chunked":         {head: streamHead, end: lastChunk, piece: chunk},
	"close delimited": {head: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n", piece: verbatim, close: true},
	"unframed":        {head: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", piece: verbatim, close: true},
	"HTTP/1.0":        {head: "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", piece: verbatim, close: true},
}

func verbatim(s string) string { return s }

// http10 makes a request one of HTTP/1.0.
func http10(rq string) string { return strings.Replace(rq, " HTTP/1.1\r\n", " HTTP/1.0\r\n", 1) }

// The upstream sends the head, and each event, only when the client has what
// came before: a relay that waits for more than one of them hangs.
func TestEachEventReachesTheClientBeforeTheUpstreamSendsTheNext(t *testing.T) {
	cert := newCertificate(t)
	events := []string{roleEvent, content("one"), ": comment\n\n", content("two"), finalEvent, doneEvent}
	type variant struct {
		framing                           string
		oldClient, upstreamTLS, listenTLS bool
	}
	var variants []variant
	for framing := range framings {
		variants = append(variants, variant{framing: framing}, variant{framing: framing, oldClient: true})
	}
	variants = append(variants,
		variant{framing: "chunked", upstreamTLS: true}, variant{framing: "close delimited", upstreamTLS: true},
		variant{framing: "chunked", listenTLS: true}, variant{framing: "chunked", upstreamTLS: true, listenTLS: true},
		variant{framing: "chunked", upstreamTLS: true, listenTLS: true, oldClient: true})
	for _, carrier := range carriers {
		for _, v := range variants {
			name := fmt.Sprintf("%s, %s", carrier, v.framing)
			for label, on := range map[string]bool{"HTTP/1.0 client": v.oldClient, "TLS upstream": v.upstreamTLS, "TLS listener": v.listenTLS} {
				if on {
					name += ", " + label
				}
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f := framings[v.framing]
				shown := make(chan struct{})
				script := func(rq *received) {
					rq.send(f.head)
					for _, e := range events {
						if !rq.await(shown) {
							return
						}
						rq.send(f.piece(e))
					}
					if !rq.await(shown) {
						return
					}
					rq.send(f.end)
					if f.close {
						rq.close()
					}
				}
				var up *upstream
				if v.upstreamTLS {
					up = newTLSUpstream(t, cert, script)
				} else {
					up = newUpstream(t, script)
				}
				more := "stream: {carrier: " + carrier + "}\n"
				if v.listenTLS {
					more += cert.listenerYAML()
				}
				rl := relayTo(t, up, more)
				var c *client
				if v.listenTLS {
					c = rl.dialTLS(cert)
				} else {
					c = rl.dial()
				}
				rq := post("/v1/chat/completions", chatStream)
				if v.oldClient {
					rq = http10(rq)
				}
				c.send(rq)
				a := c.begin()
				if a.status != 200 || a.chunked == v.oldClient {
					t.Fatalf("head: %s", a.head)
				}
				for _, e := range events {
					shown <- struct{}{}
					a.expect(e)
				}
				shown <- struct{}{}
				a.finish("")
				r := rl.one()
				if r.End != telemetry.Completed || r.Events != 5 || r.ContentEvents != 2 || !r.Stream {
					t.Errorf("record: %s, %d events, %d with content", r.End, r.Events, r.ContentEvents)
				}
				// The relay's own share of each piece; the writer carrier cannot know it.
				if r.Delays.N != uint32(len(events)) && (carrier == "reader" || v.oldClient) {
					t.Errorf("%d delays measured", r.Delays.N)
				}
			})
		}
	}
}

// What has come of an event is passed on; only an event that may be the one
// that the relay itself asked for is held, and not beyond its first choice.
func TestEachByteReachesTheClientBeforeTheUpstreamSendsTheNext(t *testing.T) {
	body := "\uFEFF: hello\r\n" + content("a") + "id: 7\rdata: [DONE]\r\r"
	for _, carrier := range carriers {
		t.Run(carrier, func(t *testing.T) {
			shown := make(chan struct{})
			up := newUpstream(t, func(rq *received) {
				rq.send(streamHead)
				for i := range len(body) {
					if !rq.await(shown) {
						return
					}
					rq.send(chunk(body[i : i+1]))
				}
				rq.send(lastChunk)
			})
			rl := relayTo(t, up, "stream: {include_usage: off, carrier: "+carrier+"}\n")
			c := rl.dial()
			c.send(post("/v1/chat/completions", chatStream))
			a := c.begin()
			for i := range len(body) {
				shown <- struct{}{}
				a.expect(body[i : i+1])
			}
			a.finish("")
		})
	}
}

func TestAnEventIsHeldNoLongerThanItMayBeTheUsageEvent(t *testing.T) {
	event := content("long")
	cut := strings.Index(event, `"choices":[{`) + len(`"choices":[{`)
	first, second := event[:cut], event[cut:]
	shown := make(chan struct{})
	up := newUpstream(t, func(rq *received) {
		rq.send(streamHead + chunk(first))
		if rq.await(shown) {
			rq.send(chunk(second) + chunk(doneEvent) + lastChunk)
		}
	})
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(post("/v1/chat/completions", chatStream))
	a := c.begin()
	a.expect(first)
	close(shown)
	a.finish(second + doneEvent)
}

// A second client's events pass while the first client does not read.
func TestASlowReaderSlowsOnlyItself(t *testing.T) {
	big := content(strings.Repeat("x", 1<<20))
	slowDone := make(chan struct{})
	up := newUpstream(t, func(rq *received) {
		if !strings.Contains(rq.body, "slow") {
			rq.stream(content("quick"), doneEvent)
			return
		}
		rq.send(streamHead)
		for range 64 { // more than all sockets hold
			rq.send(chunk(big))
		}
		rq.send(chunk(doneEvent) + lastChunk)
		close(slowDone)
	})
	rl := relayTo(t, up, "")
	slow := rl.dial()
	slow.send(post("/v1/chat/completions", strings.Replace(chatStream, "m1", "slow", 1)))
	a := slow.begin()
	for range 50 {
		c := rl.dial()
		c.send(post("/v1/chat/completions", chatStream))
		quick := c.answer()
		if quick.err != nil || string(quick.body) != content("quick")+doneEvent {
			t.Fatalf("%s, %v", clip(quick.body), quick.err)
		}
	}
	select {
	case <-slowDone:
		t.Fatal("the slow reader's answer was taken in whole")
	default:
	}
	n, err := io.Copy(io.Discard, a)
	if want := int64(64*len(big) + len(doneEvent)); n != want || err != nil {
		t.Fatalf("%d bytes, %v; want %d", n, err, want)
	}
}

// A client that is still there but takes nothing is given up, and told from one
// that left.
func TestAClientThatTakesNothingIsGivenUp(t *testing.T) {
	for _, carrier := range carriers {
		t.Run(carrier, func(t *testing.T) {
			cut := make(chan struct{})
			up := newUpstream(t, func(rq *received) {
				defer close(cut)
				rq.send(streamHead)
				endless := chunk(content(strings.Repeat("x", 1<<20)))
				for err := error(nil); err == nil; {
					_, err = io.WriteString(rq.Conn, endless)
				}
				rq.over = true
			})
			rl := relayTo(t, up, "limits: {write_idle_timeout: 300ms}\nstream: {carrier: "+carrier+"}\n")
			c := rl.dial()
			c.send(post("/v1/chat/completions", chatStream))
			c.begin()
			select {
			case <-cut:
			case <-time.After(patience):
				t.Fatal("the upstream is still read")
			}
			if r := rl.one(); r.End != telemetry.ClientGone || r.Error != "client_stalled" || r.Status != 200 {
				t.Errorf("%s, error %q, status %d", r.End, r.Error, r.Status)
			}
		})
	}
}

// The end of a stream leaves although a pipelined request follows it, and that
// one is answered on the same connection.
func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	for _, carrier := range carriers {
		t.Run(carrier, func(t *testing.T) {
			shown := make(chan struct{}, 1)
			var n int
			up := newRawUpstream(t, nil, func(c *upstreamConn) {
				c.serve(func(rq *received) {
					if n++; n == 1 {
						rq.stream(content("first"), doneEvent)
						return
					}
					if !rq.await(shown) {
						return
					}
					rq.stream(content("second"), doneEvent)
				})
			})
			rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
			c := rl.dial()
			one := post("/v1/chat/completions", chatStream)
			c.send(one + one)
			a := c.begin()
			a.expect(content("first") + doneEvent)
			a.finish("") // before the second answer begins
			shown <- struct{}{}
			a = c.begin()
			a.finish(content("second") + doneEvent)
			for i, r := range rl.wait(2) {
				if r.End != telemetry.Completed {
					t.Errorf("record %d: %s", i, r.End)
				}
			}
		})
	}
}
