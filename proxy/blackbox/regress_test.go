package blackbox

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"streamrelay/telemetry"
)

// What stands behind a fixed route's head is no request, however the route is
// spelled: nobody reads that body, so the connection ends.
func TestABodyBehindAFixedRouteIsNeverARequest(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	hidden := "GET /metrics HTTP/1.1\r\nHost: relay\r\n\r\n"
	for _, target := range []string{"/healthz", "/healthz?x", "http://relay/healthz", "/readyz?a=b", "/metrics?x"} {
		for _, framing := range []string{"Content-Length: 37", "Transfer-Encoding: chunked"} {
			t.Run(target+", "+framing, func(t *testing.T) {
				body := hidden
				if strings.HasPrefix(framing, "T") {
					body = lastChunk + hidden
				}
				c := rl.dialFor(t)
				c.send("GET " + target + " HTTP/1.1\r\nHost: relay\r\n" + framing + "\r\n\r\n" + body)
				all, _ := io.ReadAll(c.Conn)
				if n := strings.Count(string(all), "HTTP/1.1 "); n != 1 {
					t.Errorf("%d answers to one request:\n%s", n, all)
				}
				if !strings.Contains(string(all), "Connection: close") {
					t.Errorf("the connection goes on:\n%s", all)
				}
			})
		}
	}
}

// An event stream that has a length loses it where the relay may take an event
// out of it or add one.
func TestAnEventStreamWithALengthEndsWhole(t *testing.T) {
	events := []string{
		"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n",
		"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n",
		"data: [DONE]\n\n",
	}
	up := newUpstream(t, func(rq *received) {
		rq.reply(200, strings.Join(events, ""), "Content-Type: text/event-stream")
	})
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(post("/v1/chat/completions", `{"model":"m1","stream":true,"messages":[]}`))
	a := c.begin()
	if got, err := a.rest(); err != nil || got != events[0]+events[2] {
		t.Errorf("got %q, %v", got, err)
	}
	if r := rl.one(); r.End != telemetry.Completed {
		t.Errorf("record: %s", r.End)
	}
}

// An interim answer says nothing about the request that is still being sent.
func TestAnInterimAnswerDoesNotEndAnUpload(t *testing.T) {
	body := strings.Repeat("a", 400_000)
	for _, interim := range [][]string{
		{"HTTP/1.1 100 Continue\r\n\r\n"},
		{"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"},
		{"HTTP/1.1 100 Continue\r\n\r\nHTT", "P/1.1 102 Proc", "essing\r\n\r\n"},
	} {
		got := make(chan int, 1)
		begun := make(chan struct{})
		up := newRawUpstream(t, nil, func(c *upstreamConn) {
			rq, err := c.readHead()
			if err != nil {
				return
			}
			for i, piece := range interim {
				if i > 0 {
					time.Sleep(20 * time.Millisecond) // so that it is read by itself
				}
				c.send(piece)
			}
			close(begun)
			if rq.readBody() != nil {
				return
			}
			got <- len(rq.body)
			rq.reply(200, "{}")
		})
		rl := relayTo(t, up, "")
		c := rl.dial()
		c.send(request("POST", "/v1/files", "", "Content-Type: application/octet-stream", "Content-Length: 400000"))
		receive(t, begun)
		for i := 0; i < len(body); i += 40_000 {
			c.send(body[i : i+40_000])
		}
		if n := receive(t, got); n != len(body) {
			t.Errorf("the upstream got %d bytes of %d", n, len(body))
		}
		if a := c.answer(); a.status != 200 {
			t.Errorf("status %d: %s", a.status, a.body)
		}
	}
}

// A shutdown waits for every stream, also one that fasthttp knows nothing of
// any more, and a second one is no panic.
func TestShutdownWaitsForStreamsOfHTTP10(t *testing.T) {
	sent, goOn := make(chan struct{}), make(chan struct{})
	up := newUpstream(t, func(rq *received) {
		rq.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("data: {\"a\":1}\n\n"))
		close(sent)
		<-goOn
		rq.send(chunk("data: [DONE]\n\n") + lastChunk)
	})
	rl := relayTo(t, up, "stream: {include_usage: off}\n")
	c := rl.dial()
	c.send(strings.Replace(post("/v1/chat/completions", `{"model":"m1","stream":true,"messages":[]}`), "HTTP/1.1", "HTTP/1.0", 1))
	receive(t, sent)
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done <- rl.stop(ctx)
	}()
	select {
	case err := <-done:
		t.Fatalf("the shutdown did not wait: %v", err)
	case <-time.After(50 * time.Millisecond): // room for one that does not wait, no bound
	}
	close(goOn)
	all, err := io.ReadAll(c.Conn)
	if err != nil || !strings.HasSuffix(string(all), "data: {\"a\":1}\n\ndata: [DONE]\n\n") {
		t.Errorf("got %q, %v", all, err)
	}
	if err := receive(t, done); err != nil {
		t.Error(err)
	}
	if err := rl.srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// What a TLS upstream says behind an answer that has no body is not the next
// request's answer.
func TestATLSUpstreamsUnaskedBytesAreNobodysAnswer(t *testing.T) {
	cert := newCertificate(t)
	behind := make(chan struct{}, 16)
	up := newTLSUpstream(t, cert, func(rq *received) {
		if strings.HasPrefix(rq.line, "DELETE") {
			rq.send("HTTP/1.1 204 No Content\r\n\r\n")
			rq.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"stale\":\"one\"}")
			behind <- struct{}{}
			return
		}
		rq.reply(200, `{"fresh":"one"}`)
	})
	rl := relayTo(t, up, "")
	for range 10 {
		c := rl.dial()
		c.send(request("DELETE", "/v1/files/a", ""))
		if a := c.answer(); a.status != 204 {
			t.Fatalf("status %d", a.status)
		}
		receive(t, behind)
		c.send(request("GET", "/v1/models", ""))
		if a := c.answer(); a.status != 200 || string(a.body) != `{"fresh":"one"}` {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
		_ = c.Close()
	}
}
