package blackbox

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// allocCase is an exchange that is repeated; request and answer are whole.
type allocCase struct {
	name, yaml string
	request    string
	answer     []string // the upstream's, a write each
	last       string   // what the client's bytes end with
	two        bool     // a second account could take over
	requests   int
	most       float64 // allocations per request
}

// allocCases go through all of the relay: key, peek, forward, watcher, metrics,
// access log.
func allocCases() []allocCase {
	events := make([]string, 0, 64)
	events = append(events, roleEvent)
	for i := range 61 {
		events = append(events, content(fmt.Sprintf("token %d of a longer sentence", i)))
	}
	events = append(events, finalEvent, usageEvent)
	burst := streamHead
	single := []string{streamHead}
	for _, e := range append(events, doneEvent) {
		burst += chunk(e)
		single = append(single, chunk(e))
	}
	single[len(single)-1] += lastChunk
	asked := strings.Replace(chatStream, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)
	json := `{"id":"c1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		strings.Repeat("word ", 200) + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46}}`
	messages := streamHead
	for _, e := range messagesStream(named("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}`), named("message_stop", `{"type":"message_stop"}`)) {
		messages += chunk(e)
	}
	return []allocCase{
		{name: "stream, usage asked for by the relay", request: post("/v1/chat/completions", chatStream), answer: []string{burst + lastChunk}, last: lastChunk, requests: 10000, most: 0.1},
		{name: "stream, event by event", request: post("/v1/chat/completions", chatStream), answer: single, last: lastChunk, requests: 10000, most: 0.1},
		{name: "stream, usage asked for by the client", request: post("/v1/chat/completions", asked), answer: []string{burst + lastChunk}, last: lastChunk, requests: 10000, most: 0.1},
		{name: "stream, include_usage off", yaml: "stream: {include_usage: off}\n", request: post("/v1/chat/completions", chatStream), answer: []string{burst + lastChunk}, last: lastChunk, requests: 10000, most: 0.1},
		// What fasthttp's SetBodyStreamWriter costs: a pipe, a goroutine, their closures.
		{name: "stream, writer carrier", yaml: "stream: {carrier: writer}\n", request: post("/v1/chat/completions", chatStream), answer: []string{burst + lastChunk}, last: lastChunk, requests: 10000, most: 20},
		{name: "Anthropic stream", request: post("/v1/messages", chatStream), answer: []string{messages + lastChunk}, last: lastChunk, requests: 10000, most: 0.1},
		{name: "JSON of known length", request: post("/v1/chat/completions", chatPlain), answer: []string{reply(200, json)}, last: json, requests: 10000, most: 0.1},
		{name: "JSON in chunks", request: post("/v1/chat/completions", chatPlain), answer: []string{strings.Replace(streamHead, "text/event-stream; charset=utf-8", "application/json", 1) + chunk(json) + lastChunk}, last: lastChunk, requests: 10000, most: 0.1},
		{name: "JSON after its head", request: post("/v1/chat/completions", chatPlain), answer: []string{strings.TrimSuffix(reply(200, json), json), json}, last: json, requests: 10000, most: 0.1},
		{name: "stream of one of two accounts", two: true, request: post("/v1/chat/completions", chatStream), answer: []string{burst + lastChunk}, last: lastChunk, requests: 10000, most: 0.1},
		{name: "stream of one of two accounts, event by event", two: true, request: post("/v1/chat/completions", chatStream), answer: single, last: lastChunk, requests: 10000, most: 0.1},
		{name: "Responses of one of two accounts", two: true, request: post("/v1/responses", chatPlain), answer: []string{reply(200, json)}, last: json, requests: 10000, most: 0.1},
		{name: "GET", request: request("GET", "/v1/models/org%2Fname", ""), answer: []string{reply(200, json)}, last: json, requests: 10000, most: 0.1},
	}
}

// The whole path allocates nothing per request in steady state, counted over
// real sockets in a process whose client and upstream allocate nothing either.
// It keeps other tests away by not being parallel.
func TestRequestsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, tt := range allocCases() {
		t.Run(tt.name, func(t *testing.T) {
			more := ""
			if tt.two {
				more = "  - {name: p, dialect: openai, base_url: \"http://" + steadyUpstream(t, &tt) + "/v1\", credentials: [{value: " + upstreamKey + "}]}\n"
			}
			rl := startRelay(t, "upstreams:\n"+
				"  - {name: o, dialect: openai, base_url: \"http://"+steadyUpstream(t, &tt)+"/v1\", credentials: [{value: "+upstreamKey+"}]}\n"+
				"  - {name: a, dialect: anthropic, base_url: \"http://"+steadyUpstream(t, &tt)+"/v1\", credentials: [{value: "+upstreamKey+"}]}\n"+
				more+tt.yaml, option{silent: true})
			conn, err := net.Dial("tcp", rl.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
			rq, last, buf := []byte(tt.request), []byte(tt.last), make([]byte, 64<<10)
			repeat := func(n int) {
				for range n {
					if err := steadyExchange(conn, rq, last, buf); err != nil {
						t.Fatal(err)
					}
				}
			}
			repeat(500)
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			repeat(tt.requests)
			runtime.ReadMemStats(&after)
			got := float64(after.Mallocs-before.Mallocs) / float64(tt.requests)
			t.Logf("%.4f allocations and %.1f bytes per request over %d requests", got, float64(after.TotalAlloc-before.TotalAlloc)/float64(tt.requests), tt.requests)
			if got > tt.most {
				t.Errorf("%.3f allocations per request, want at most %v", got, tt.most)
			}
			if n := rl.tel.Panics.Get(); n != 0 {
				t.Errorf("%d panics", n)
			}
		})
	}
}

// steadyExchange sends rq and reads an answer up to its last bytes.
func steadyExchange(conn net.Conn, rq, last, buf []byte) error {
	if _, err := conn.Write(rq); err != nil {
		return err
	}
	for n := 0; ; {
		m, err := conn.Read(buf[n:])
		if err != nil {
			return err
		}
		if n += m; bytes.HasSuffix(buf[:n], last) {
			if !bytes.HasPrefix(buf, ok200) {
				return fmt.Errorf("answer %s", clip(buf[:n]))
			}
			return nil
		}
		if n == len(buf) {
			return fmt.Errorf("answer %s", clip(buf))
		}
	}
}

var ok200 = []byte("HTTP/1.1 200 OK\r\n")

// steadyUpstream answers each request of the case in the same way, out of
// buffers that it made once, and returns its address.
func steadyUpstream(t *testing.T, tt *allocCase) string {
	t.Helper()
	end := []byte("\r\n\r\n") // of a request
	if _, body, _ := strings.Cut(tt.request, "\r\n\r\n"); body != "" {
		end = []byte(body[len(body)-10:]) // edits come before it
	}
	writes := make([][]byte, len(tt.answer))
	for i, w := range tt.answer {
		writes[i] = []byte(w)
	}
	up := newRawUpstream(t, nil, func(c *upstreamConn) {
		buf := make([]byte, 64<<10)
		for n := 0; ; {
			m, err := c.Conn.Read(buf[n:])
			if err != nil {
				return
			}
			if n += m; !bytes.HasSuffix(buf[:n], end) {
				continue
			}
			n = 0
			for _, w := range writes {
				if _, err := c.Conn.Write(w); err != nil {
					return
				}
			}
		}
	})
	return up.addr
}
