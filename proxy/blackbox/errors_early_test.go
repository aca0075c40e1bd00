package blackbox

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestBadKeyIsRefusedBeforeAByteOfTheBody(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	for name, raw := range map[string]string{
		"length":          bare("POST", "/v1/chat/completions", "", "Content-Type: application/json", "Content-Length: 65536"),
		"short length":    bare("POST", "/v1/chat/completions", "", "Content-Type: application/json", "Content-Length: 5"),
		"chunked":         bare("POST", "/v1/chat/completions", "", "Content-Type: application/json", "Transfer-Encoding: chunked"),
		"upload":          bare("POST", "/v1/files", "", "Content-Type: multipart/form-data; boundary=b", "Content-Length: 65536"),
		"expect":          bare("POST", "/v1/chat/completions", "", "Content-Type: application/json", "Content-Length: 65536", "Expect: 100-continue"),
		"expect, chunked": bare("POST", "/v1/files", "", "Transfer-Encoding: chunked", "Expect: 100-Continue"),
		"another expect":  bare("POST", "/v1/files", "", "Content-Length: 65536", "Expect: something"),
		"two expects":     bare("POST", "/v1/files", "", "Content-Length: 65536", "Expect: something", "Expect: 100-continue"),
		"on HTTP/1.0":     strings.Replace(bare("POST", "/v1/files", "", "Content-Length: 65536"), "HTTP/1.1", "HTTP/1.0", 1),
	} {
		t.Run(name, func(t *testing.T) {
			c, a := rl.speak(t, raw)
			if a == nil || a.status != 401 { // 100 would be the first answer read
				t.Fatalf("%+v, want 401", a)
			}
			if !strings.EqualFold(a.get("Connection"), "close") {
				t.Errorf("Connection %q", a.get("Connection"))
			}
			c.closed()
		})
	}
	if up.asked() != 0 {
		t.Error("the upstream was asked")
	}
}

func TestExpectIsAnsweredWithContinueWhereTheRequestIsWelcome(t *testing.T) {
	got := make(chan *received, 1)
	up := newUpstream(t, func(rq *received) { got <- rq; rq.reply(200, "{}") })
	rl := relayTo(t, up, "")
	for name, c := range map[string]struct{ raw, body string }{
		"JSON":       {request("POST", "/v1/chat/completions", "", "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(chatPlain)), "Expect: 100-continue"), chatPlain},
		"upper case": {request("POST", "/v1/chat/completions", "", "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(chatPlain)), "EXPECT: 100-CONTINUE"), chatPlain},
		"chunked":    {request("POST", "/v1/chat/completions", "", "Content-Type: application/json", "Transfer-Encoding: chunked", "Expect: 100-continue"), chunk(chatPlain) + lastChunk},
		"upload":     {request("POST", "/v1/files", "", "Content-Type: application/octet-stream", "Content-Length: 100000", "Expect: 100-continue"), strings.Repeat("a", 100000)},
	} {
		t.Run(name, func(t *testing.T) {
			cl := rl.dialFor(t)
			cl.send(c.raw)
			a := cl.begin()
			if a.status != 100 || a.head != "HTTP/1.1 100 Continue\r\n\r\n" {
				t.Fatalf("%q, want 100", a.head)
			}
			cl.send(c.body)
			if a := cl.answer(); a.status != 200 {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			if rq := receive(t, got); rq.get("Expect") != "" {
				t.Errorf("upstream got %q", rq.head)
			}
		})
	}
	eventually(t, "no exchange in flight after the last", func() bool { return rl.tel.InFlight.Load() == 0 })
}

func TestRequestThatDoesNotWaitForContinueIsServed(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	c := rl.dial()
	for range 2 {
		c.send(post("/v1/chat/completions", chatPlain, "Expect: 100-continue"))
		a := c.answer()
		if a.status == 100 { // may be left out where content is there already (RFC 9110 §10.1.1)
			a = c.answer()
		}
		if a.status != 200 {
			t.Errorf("status %d", a.status)
		}
	}
}

// TestBadKeyReachesAClientThatWritesBeforeItReads sends 8 MiB before it looks,
// as simple clients do: a close with those bytes unread would become a reset
// and destroy the answer.
func TestBadKeyReachesAClientThatWritesBeforeItReads(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	body := strings.Repeat("x", 8<<20)
	for name, head := range map[string]string{
		"bad key":   strings.Replace(request("POST", "/v1/chat/completions", "", "Content-Type: application/json", "Content-Length: 8388608"), testKey, "wrong", 1),
		"too large": request("POST", "/v1/chat/completions", "", "Content-Type: application/json", "Content-Length: 99999999"),
		"bad path":  request("POST", "/v1/../x", "", "Content-Length: 8388608"),
	} {
		t.Run(name, func(t *testing.T) {
			for try := range 30 {
				c := rl.dialFor(t)
				c.send(head)
				if _, err := io.WriteString(c.Conn, body); err != nil {
					t.Fatalf("try %d: write: %v", try, err)
				}
				a, err := c.tryBegin("POST")
				if err != nil {
					t.Fatalf("try %d: %v", try, err)
				}
				if a.body, a.err = io.ReadAll(a); a.err != nil || !refusal(a.status) {
					t.Fatalf("try %d: status %d, %v", try, a.status, a.err)
				}
				_ = c.Close()
			}
		})
	}
}

func TestBadKeyReachesAClientThatWritesBeforeItReadsOverTLS(t *testing.T) {
	cert := newCertificate(t)
	up := untouched(t)
	rl := relayTo(t, up, cert.listenerYAML())
	body := strings.Repeat("x", 8<<20)
	for try := range 10 {
		c := rl.dialTLS(cert)
		c.send(strings.Replace(request("POST", "/v1/chat/completions", "", "Content-Type: application/json", "Content-Length: 8388608"), testKey, "wrong", 1))
		if _, err := io.WriteString(c.Conn, body); err != nil {
			t.Fatalf("try %d: write: %v", try, err)
		}
		a, err := c.tryBegin("POST")
		if err != nil {
			t.Fatalf("try %d: %v", try, err)
		}
		if a.body, a.err = io.ReadAll(a); a.err != nil || a.status != 401 {
			t.Fatalf("try %d: status %d, %v", try, a.status, a.err)
		}
		_ = c.Close()
	}
}

const nodeScript = `
const [url, tries] = [process.argv[2], Number(process.argv[3])];
const body = Buffer.alloc(8 << 20, "x");
const seen = [];
for (let i = 0; i < tries; i++) {
  try {
    const r = await fetch(url, { method: "POST", headers: { authorization: "Bearer wrong", "content-type": "application/json" }, body });
    await r.text();
    seen.push(r.status);
  } catch (e) { seen.push(String(e.cause?.code ?? e)); }
}
console.log(JSON.stringify(seen));
`

func TestBadKeyReachesNodesFetch(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not on the PATH: install Node.js 18 or later to have its fetch tried against early refusals")
	}
	up := untouched(t)
	rl := relayTo(t, up, "")
	script := filepath.Join(t.TempDir(), "early.mjs")
	if err := os.WriteFile(script, []byte(nodeScript), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(node, script, "http://"+rl.addr+"/v1/chat/completions", "30").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var seen []any
	if err := json.Unmarshal(out, &seen); err != nil || len(seen) != 30 {
		t.Fatalf("%v: %s", err, out)
	}
	for i, s := range seen {
		if s != float64(401) {
			t.Errorf("try %d: %v", i, s)
		}
	}
}

func TestLingeringIsBoundedInTime(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "")
	c := rl.dial()
	c.send(bare("POST", "/v1/files", "", "Content-Length: 1000000000"))
	if a := c.answer(); a.status != 401 {
		t.Fatalf("status %d", a.status)
	}
	// A client that goes on sending, slowly, for ever.
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		if _, err := c.Write([]byte("x")); err != nil {
			return
		}
	}
	t.Error("the relay reads on for ever")
}

func TestHeldBodiesAreBoundedTogether(t *testing.T) {
	up := newUpstream(t, func(rq *received) { rq.reply(200, "{}") })
	rl := relayTo(t, up, "limits: {max_body: 1MiB, max_held: 1MiB}\n")
	// One client promises and sends most of what may be held.
	first := rl.dial()
	first.send(sized("POST /v1/chat/completions HTTP/1.1", "Content-Length: 900000\r\n", ""))
	body := `{"model":"m","x":"` + strings.Repeat("a", 900000)
	body = body[:899998] + `"}`
	first.send(body[:600000])
	eventually(t, "the first body is held", func() bool { return rl.tel.HeldBytes.Load() >= 600000 })
	held := rl.tel.HeldBytes.Load()
	_, a := rl.speak(t, post("/v1/chat/completions", `{"model":"m","x":"`+strings.Repeat("b", 500000)+`"}`))
	checkError(t, a, "openai", wantError{status: 503, typ: "server_error", code: "overloaded", retryAfter: "1", close: true})
	if n := rl.tel.HeldBytes.Load(); n != held {
		t.Errorf("%d bytes held after the refusal, %d before", n, held)
	}
	_, a = rl.speak(t, post("/v1/chat/completions", chatPlain))
	if a.status != 200 { // what an ordinary request holds is not the point
		t.Errorf("a small body: status %d", a.status)
	}
	first.send(body[600000:])
	if a := first.answer(); a.status != 200 {
		t.Errorf("the first: status %d: %s", a.status, a.body)
	}
	eventually(t, "nothing is held", func() bool { return rl.tel.HeldBytes.Load() == 0 })
}

func TestConnectionsBeyondTheLimitAreShed(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, "limits: {max_connections: 16}\n")
	var open []*client
	for range 16 {
		c := rl.dial()
		c.send("GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n")
		if a := c.answer(); a.status != 200 {
			t.Fatalf("status %d", a.status)
		}
		open = append(open, c)
	}
	var all sync.WaitGroup
	answers := make(chan *answer, 8)
	for range 8 {
		all.Go(func() {
			conn, err := net.Dial("tcp", rl.addr)
			if err != nil {
				t.Error(err)
				return
			}
			c := newClient(t, conn)
			if _, err := io.WriteString(c.Conn, post("/v1/chat/completions", chatPlain)); err != nil {
				t.Error(err)
				return
			}
			a, err := c.tryBegin("POST")
			if err != nil {
				t.Error(err)
				return
			}
			if a.body, a.err = io.ReadAll(a); a.err != nil {
				t.Error(a.err)
			}
			answers <- a
			_ = conn.Close()
		})
	}
	all.Wait()
	close(answers)
	for a := range answers {
		if a.status != 503 || a.get("Retry-After") != "1" || !strings.EqualFold(a.get("Connection"), "close") || a.get("X-Request-Id") == "" {
			t.Errorf("%s", a.head)
		}
		if e := decodeOpenAI(t, a.body); e.Code == nil || *e.Code != "overloaded" {
			t.Errorf("%s", a.body)
		}
	}
	if up.asked() != 0 {
		t.Error("the upstream was asked")
	}
	open[0].send(request("GET", "/v1/models", "")) // those inside are served
	if a := open[0].answer(); a.status != 200 {
		t.Errorf("status %d", a.status)
	}
	for _, c := range open {
		_ = c.Close()
	}
	eventually(t, "there is room again", func() bool {
		c := rl.dial()
		defer c.Close()
		c.send("GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n")
		a, err := c.tryBegin("GET")
		return err == nil && a.status == 200
	})
	if n := rl.metrics()[`relay_rejected_total{reason="connections"}`]; n < 8 {
		t.Errorf("%v connections counted as rejected, want at least 8", n)
	}
}
