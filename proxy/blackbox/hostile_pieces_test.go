package blackbox

import (
	"fmt"
	"strings"
	"testing"
)

// inPieces are requests of every framing, one behind the other, and what the
// upstream gets of each.
func inPieces() (raw string, want []string) {
	body := strings.ReplaceAll(chatPlain, "hi", `\r\n\r\n0\r\n\r\n`)
	add := func(r, line, b string) { raw += r; want = append(want, line+"\n"+b) }
	add("\r\n"+request("GET", "/v1/models", ""), "GET /oai/v1/models HTTP/1.1", "")
	add(post("/v1/chat/completions", body), "POST /oai/v1/chat/completions HTTP/1.1", body)
	add(sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", chunk(body[:9])+"1;a=\"b\"\r\n"+body[9:10]+"\r\n"+chunk(body[10:])+"0\r\nX-Sum: 1\r\n\r\n"),
		"POST /oai/v1/chat/completions HTTP/1.1", body)
	add(request("POST", "/v1/files", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", "Content-Type: application/octet-stream"), "POST /oai/v1/files HTTP/1.1", "\r\n\r\nGET / HTTP/1.1\r\n\r\n")
	add(request("POST", "/v1/files", "", "Content-Type: application/octet-stream", "Transfer-Encoding: chunked")+chunk("\r\n\r\n0\r\n\r\n")+lastChunk, "POST /oai/v1/files HTTP/1.1", "\r\n\r\n0\r\n\r\n")
	add(request("POST", "/v1/files/f/cancel", "", "Content-Length: 0"), "POST /oai/v1/files/f/cancel HTTP/1.1", "")
	add("\r\n"+request("DELETE", "/v1/files/f", ""), "DELETE /oai/v1/files/f HTTP/1.1", "")
	return raw, want
}

func TestRequestsInAnyPiecesAreTheSameRequests(t *testing.T) {
	raw, want := inPieces()
	for name, size := range map[string]int{"one byte": 1, "two bytes": 2, "three bytes": 3, "seven bytes": 7, "64 bytes": 64, "all at once": len(raw)} {
		t.Run(name, func(t *testing.T) {
			got := make(chan *received, len(want))
			up := newUpstream(t, func(rq *received) { got <- rq; rq.reply(200, "{}") })
			rl := relayTo(t, up, "")
			c := rl.dialFor(t)
			written := make(chan error, 1)
			go func() {
				for at := 0; at < len(raw); at += size {
					if _, err := c.Write([]byte(raw[at:min(at+size, len(raw))])); err != nil {
						written <- err
						return
					}
				}
				written <- nil
			}()
			for i, w := range want {
				if a := c.answer(); a.status != 200 || a.err != nil {
					t.Fatalf("request %d: status %d, %v: %s", i, a.status, a.err, a.body)
				}
				if rq := receive(t, got); rq.line+"\n"+rq.body != w {
					t.Fatalf("request %d: upstream got %q with %q, want %q", i, rq.line, rq.body, w)
				}
			}
			if err := receive(t, written); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestARequestCutAnywhereIsTheSameRequest(t *testing.T) {
	got := make(chan *received, 1)
	up := newUpstream(t, func(rq *received) { got <- rq; rq.reply(200, "{}") })
	rl := relayTo(t, up, "")
	for name, raw := range map[string]string{
		"length":  post("/v1/chat/completions", chatPlain),
		"chunked": sized("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked\r\n", chunk(chatPlain[:5])+chunk(chatPlain[5:])+"0\r\nX: y\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			c := rl.dialFor(t)
			for cut := range len(raw) {
				c.send(raw[:cut])
				c.send(raw[cut:])
				if a := c.answer(); a.status != 200 {
					t.Fatalf("cut at %d: status %d: %s", cut, a.status, a.body)
				}
				if rq := receive(t, got); rq.body != chatPlain {
					t.Fatalf("cut at %d: upstream got %q", cut, rq.body)
				}
			}
		})
	}
}

func TestPipelinedRequestsBeyondAnyBufferAreAnsweredInOrder(t *testing.T) {
	up := newUpstream(t, func(rq *received) { rq.reply(200, fmt.Sprintf("%q", strings.Fields(rq.line)[1])) })
	rl := relayTo(t, up, "")
	c := rl.dial()
	const n = 200
	var raw strings.Builder
	for i := range n {
		switch i % 3 {
		case 0:
			raw.WriteString(request("GET", fmt.Sprintf("/v1/models/%d", i), "", "X-Filler: "+strings.Repeat("f", 40*(i%50))))
		case 1:
			raw.WriteString(request("POST", fmt.Sprintf("/v1/files/%d", i), strings.Repeat("b", 100*i), "Content-Type: application/octet-stream"))
		case 2:
			raw.WriteString(request("POST", fmt.Sprintf("/v1/files/%d", i), "", "Content-Type: application/octet-stream", "Transfer-Encoding: chunked") + chunk(strings.Repeat("c", 50*i+1)) + lastChunk)
		}
	}
	written := make(chan error, 1)
	go func() { _, err := c.Write([]byte(raw.String())); written <- err }()
	for i := range n {
		path := "/oai/v1/models/"
		if i%3 > 0 {
			path = "/oai/v1/files/"
		}
		if a := c.answer(); a.status != 200 || string(a.body) != fmt.Sprintf("%q", path+fmt.Sprint(i)) {
			t.Fatalf("answer %d: status %d: %s", i, a.status, a.body)
		}
	}
	if err := receive(t, written); err != nil {
		t.Error(err)
	}
}
