package blackbox

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"streamrelay/telemetry"
)

// A relay that must stop now ends what is under way as drained: with an error
// event in streams, a 503 before a head, and nothing left.
func TestAForcedShutdownEndsEveryExchangeAsDrained(t *testing.T) {
	for _, carrier := range carriers {
		t.Run(carrier, func(t *testing.T) {
			begun := make(chan struct{}, 3)
			up := newUpstream(t, func(rq *received) {
				if strings.Contains(rq.body, "true") {
					rq.send(streamHead + chunk(content("a")))
				}
				begun <- struct{}{}
				rq.gone()
			})
			rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
			stream, old, silent := rl.dial(), rl.dial(), rl.dial()
			stream.send(post("/v1/chat/completions", chatStream))
			old.send(http10(post("/v1/chat/completions", chatStream)))
			silent.send(post("/v1/chat/completions", chatPlain))
			for range 3 {
				receive(t, begun)
			}
			a, b := stream.begin(), old.begin()
			a.expect(content("a"))
			b.expect(content("a"))
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := rl.stop(ctx); err != nil {
				t.Errorf("shutdown: %v", err)
			}
			for _, s := range []*answer{a, b} {
				rest, err := s.rest()
				if err == nil || !strings.Contains(rest, "draining") {
					t.Errorf("rest of a stream: %q, %v", rest, err)
				}
			}
			checkEnvelope(t, silent.answer(), "chat", 503)
			for _, r := range rl.wait(3) {
				if r.End != telemetry.Drained {
					t.Errorf("record: %s", r.End)
				}
			}
		})
	}
}

// A relay that may take its time lets streams end, and refuses nothing that
// is under way.
func TestAShutdownLetsStreamsEnd(t *testing.T) {
	for _, carrier := range carriers {
		t.Run(carrier, func(t *testing.T) {
			resume := make(chan struct{})
			up := newUpstream(t, func(rq *received) {
				rq.send(streamHead + chunk(content("a")))
				if rq.await(resume) {
					rq.send(chunk(content("b")) + chunk(doneEvent) + lastChunk)
				}
			})
			rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
			c := rl.dial()
			c.send(post("/v1/chat/completions", chatStream))
			a := c.begin()
			a.expect(content("a"))
			stopped := make(chan error, 1)
			go func() { stopped <- rl.stop(context.Background()) }()
			eventually(t, "the listener to close", func() bool {
				conn, err := net.Dial("tcp", rl.addr)
				if err == nil {
					_ = conn.Close()
				}
				return err != nil
			})
			close(resume)
			a.finish(content("b") + doneEvent)
			c.closed()
			if err := receive(t, stopped); err != nil {
				t.Errorf("shutdown: %v", err)
			}
			if r := rl.one(); r.End != telemetry.Completed {
				t.Errorf("record: %s", r.End)
			}
		})
	}
}

// resuming sends a stream's first event, and its end once resume is closed; a
// plain request it answers at once.
func resuming(t *testing.T, resume <-chan struct{}) *upstream {
	return newUpstream(t, func(rq *received) {
		if !strings.Contains(rq.body, "true") {
			rq.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
			return
		}
		rq.send(streamHead + chunk(content("a")))
		if rq.await(resume) {
			rq.send(chunk(doneEvent) + lastChunk)
		}
	})
}

// A stream that began before the relay took its leave could not be told that
// its connection ends: it lives on until it has been told, with an answer.
func TestAConnectionThatWasNotToldStaysForItsNextRequest(t *testing.T) {
	resume := make(chan struct{})
	up := resuming(t, resume)
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(post("/v1/chat/completions", chatStream))
	a := c.begin()
	a.expect(content("a"))
	left := make(chan struct{})
	go func() {
		defer close(left)
		rl.srv.LameDuck(context.Background(), time.Hour)
	}()
	eventually(t, "the listener to close", func() bool {
		conn, err := net.Dial("tcp", rl.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	close(resume)
	a.finish(doneEvent)
	c.send(post("/v1/chat/completions", chatPlain))
	if a := c.answer(); a.status != 200 || !strings.EqualFold(a.get("Connection"), "close") {
		t.Errorf("the next request got %d, Connection %q", a.status, a.get("Connection"))
	}
	c.closed()
	receive(t, left)
}

// What is idle when the relay takes its leave, or becomes so, is closed after a
// while, and what is under way is not.
func TestIdleConnectionsAreClosedWhenTheRelayTakesItsLeave(t *testing.T) {
	resume := make(chan struct{})
	up := resuming(t, resume)
	rl := relayTo(t, up, "")
	fresh, used, busy, old := rl.dial(), rl.dial(), rl.dial(), rl.dial()
	used.send(post("/v1/chat/completions", chatPlain))
	used.answer()
	old.send(http10(post("/v1/chat/completions", chatStream)))
	b := old.begin()
	b.expect(content("a"))
	busy.send(post("/v1/chat/completions", chatStream))
	a := busy.begin()
	a.expect(content("a"))
	left := make(chan struct{})
	go func() {
		defer close(left)
		rl.srv.LameDuck(context.Background(), time.Millisecond)
	}()
	fresh.closed()
	used.closed()
	select {
	case <-left:
		t.Error("the relay has left its streams")
	default:
	}
	close(resume)
	a.finish(doneEvent)
	b.finish(doneEvent)
	busy.closed()
	receive(t, left)
}

// A client that reads too slowly, or not at all, and an upstream that cannot be
// reached hold nothing up for as long as their own deadlines are: they end with
// the rest, and are recorded.
func TestAForcedShutdownWaitsForNoOtherDeadline(t *testing.T) {
	end := func(t *testing.T, rl *relay) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := rl.stop(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if r := rl.one(); r.End != telemetry.Drained || r.Error != "draining" {
			t.Errorf("record: %s, error %q", r.End, r.Error)
		}
	}
	for _, carrier := range carriers {
		t.Run("a client that takes nothing, "+carrier, func(t *testing.T) {
			var sent atomic.Int64
			up := newUpstream(t, func(rq *received) {
				rq.send(streamHead)
				some := chunk(content(strings.Repeat("x", 1<<16)))
				for err := error(nil); err == nil; sent.Add(1) {
					_, err = io.WriteString(rq.Conn, some)
				}
				rq.over = true
			})
			rl := relayTo(t, up, "stream: {carrier: "+carrier+"}\n")
			c := rl.dial()
			c.send(post("/v1/chat/completions", chatStream))
			c.begin()
			before := int64(-1)
			eventually(t, "the pipe to fill", func() bool {
				time.Sleep(50 * time.Millisecond)
				now := sent.Load()
				full := now == before
				before = now
				return full
			})
			end(t, rl)
		})
	}
	t.Run("an upstream that says nothing of TLS", func(t *testing.T) {
		silent, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		rl := startRelay(t, "upstreams: [{name: up, dialect: openai, base_url: 'https://"+silent.Addr().String()+"/v1', credentials: [{value: "+upstreamKey+"}], timeouts: {connect: 60s}}]\n")
		c := rl.dial()
		c.send(post("/v1/chat/completions", chatStream))
		eventually(t, "the request to be under way", func() bool { return rl.tel.InFlight.Load() == 1 })
		time.Sleep(50 * time.Millisecond) // so that it connects
		end(t, rl)
		checkEnvelope(t, c.answer(), "chat", 503)
	})
}
