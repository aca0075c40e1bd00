package blackbox

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"testing"
)

// strictHead is a request's head as RFC 9112 has it and as this relay takes
// it: nothing that is forwarded may have another form.
var strictHead = regexp.MustCompile(`^(\r\n)*(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) [!"$-~]+ HTTP/1\.[01]\r\n` +
	"([!#$%&'*+\\-.^_`|~0-9A-Za-z]+:[\t -~\\x80-\\xff]*\r\n)*\r\n")

var (
	hostLine   = regexp.MustCompile(`(?im)^host:`)
	lengthLine = regexp.MustCompile(`(?im)^content-length:`)
	codingLine = regexp.MustCompile(`(?im)^transfer-encoding:`)
)

// FuzzWire sends raw bytes to a relay and looks at what the upstream gets: a
// request only where the bytes begin with one that can be read in one way, and
// never more than there are in them.
func FuzzWire(f *testing.F) {
	for _, s := range []string{
		request("GET", "/v1/models", ""), post("/v1/chat/completions", chatPlain), request("GET", "/v1/models", "") + request("GET", "/v1/models", ""),
		sized("POST /v1/files HTTP/1.1", "Transfer-Encoding: chunked\r\n", chunk("abc")+lastChunk), sized("POST /v1/files HTTP/1.0", "Content-Length: 3\r\n", "abc"),
		"\r\n" + request("GET", "/v1/models?a=b;c", "", "Connection: close, x", "X: y"), strings.Replace(request("GET", "/v1/models", "", "X: a\r\n b"), "1.1", "1.0", 1),
		strings.ReplaceAll(request("GET", "/v1/models", ""), "\r\n", "\n"), request("GET", "http://a/v1/models", "", "Expect: 100-continue"),
	} {
		f.Add([]byte(s))
	}
	up := newUpstream(f, func(rq *received) { rq.reply(200, "{}") })
	rl := relayTo(f, up, "limits: {header_timeout: 50ms, body_idle_timeout: 50ms, keepalive_timeout: 50ms}\nlog: {level: error, access: false}\n", option{silent: true})
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := up.requests.Load()
		c := rl.dialFor(t)
		_, _ = c.Write(raw)
		said, _ := io.ReadAll(c.r) // to the close, which comes by a timeout at the latest
		_ = c.Close()
		n := int(up.requests.Load() - before)
		if n == 0 {
			return
		}
		if bytes.Contains(raw, []byte("/healthz")) || bytes.Contains(raw, []byte("/readyz")) || bytes.Contains(raw, []byte("/metrics")) {
			return // what is forwarded need not be the first
		}
		head := strictHead.Find(raw)
		if head == nil {
			t.Fatalf("forwarded: %q\nanswered: %q", raw, said)
		}
		hosts, lengths, codings := len(hostLine.FindAll(head, -1)), len(lengthLine.FindAll(head, -1)), len(codingLine.FindAll(head, -1))
		if hosts > 1 || hosts == 0 && bytes.Contains(head, []byte("HTTP/1.1\r\n")) || lengths+codings > 1 {
			t.Fatalf("forwarded with %d hosts, %d lengths, %d codings: %q", hosts, lengths, codings, head)
		}
		if most := bytes.Count(raw, []byte(" HTTP/1.")); n > most {
			t.Fatalf("%d requests upstream of %d in %q", n, most, raw)
		}
	})
}
