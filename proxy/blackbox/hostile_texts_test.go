package blackbox

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"
)

func TestAMalformedHeadIsToldWhatIsWrongWithIt(t *testing.T) {
	up := untouched(t)
	rl := relayTo(t, up, impatient)
	const host, end = "Host: relay\r\n", "\r\n\r\n"
	const line, header = `its first line is not "METHOD /path HTTP/1.1"`, `a header is not "Name: value" in printable characters`
	for _, c := range []struct{ name, head, says string }{
		{"one word", "hello" + end, line},
		{"no version", "GET /v1/models" + end, line},
		{"two spaces", "GET  /v1/models HTTP/1.1\r\n" + host + end, line},
		{"a space in the path", "GET /v1/mo dels HTTP/1.1\r\n" + host + end, line},
		{"a control character in the path", "GET /v1/\x01 HTTP/1.1\r\n" + host + end, line},
		{"a control character in the method", "G\x01T /v1/models HTTP/1.1\r\n" + host + end, line},
		{"HTTP/2 without a word before", "PRI * HTTP/2.0\r\n\r\nSM" + end, line},
		{"no host", "GET /v1/models HTTP/1.1" + end, "one Host is wanted, and only one"},
		{"two hosts", "GET /v1/models HTTP/1.1\r\n" + host + host + end, "one Host is wanted, and only one"},
		{"a space before the colon", "GET /v1/models HTTP/1.1\r\n" + host + "X-A : a" + end, header},
		{"no colon", "GET /v1/models HTTP/1.1\r\n" + host + "nonsense" + end, header},
		{"a control character in a value", "GET /v1/models HTTP/1.1\r\n" + host + "X-A: \x01" + end, header},
		{"two lengths", "POST /v1/chat/completions HTTP/1.1\r\n" + host + "Content-Length: 2\r\nContent-Length: 3" + end, "Content-Length is given twice or is not a number"},
		{"a length that is no number", "POST /v1/chat/completions HTTP/1.1\r\n" + host + "Content-Length: two" + end, "Content-Length is given twice or is not a number"},
		{"another coding", "POST /v1/chat/completions HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked" + end, "the only Transfer-Encoding here is chunked, given once"},
		{"a name that speaks of a length", "GET /v1/models HTTP/1.1\r\n" + host + "content-length host header : a" + end, header},
		{"no end", "GET /v1/models HTTP/1.1\r\n" + host, "The request did not come in time."},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "This port speaks HTTP/1.1 without TLS: use an http URL."},
		{"not HTTP", "\x00\x01\x02", line},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, a := rl.speak(t, c.head)
			if a == nil {
				t.Fatal("no answer")
			}
			if e := decodeOpenAI(t, a.body); !strings.Contains(e.Message, c.says) {
				t.Errorf("%q, want %q in it", e.Message, c.says)
			}
			if !strings.EqualFold(a.get("Connection"), "close") {
				t.Error("the connection stays open")
			}
		})
	}
}

// A client that starts TLS where there is none waits for an answer without
// having ended a line; what it gets ends its handshake at once.
func TestTLSToThePlainPortIsRefusedWithoutWaitingForALine(t *testing.T) {
	rl := relayTo(t, untouched(t), "")
	_, err := tls.Dial("tcp", rl.addr, &tls.Config{ServerName: "relay"})
	if err == nil || isTimeout(err) || !strings.Contains(err.Error(), "first record does not look like a TLS handshake") {
		t.Errorf("%v", err)
	}
}

func TestPlainHTTPToTheTLSPortIsToldSo(t *testing.T) {
	cert := newCertificate(t)
	rl := relayTo(t, untouched(t), cert.listenerYAML())
	c := rl.dial()
	c.send(request("POST", "/v1/files", strings.Repeat("x", 1<<20))) // more than is read before the answer
	a, err := c.tryBegin("GET")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(a)
	if err != nil {
		t.Fatal(err)
	}
	if e := decodeOpenAI(t, body); a.status != 400 || e.Message != "This port speaks TLS: use an https URL." {
		t.Errorf("status %d: %s", a.status, body)
	}
	c.closed()
	good := rl.dialTLS(cert) // others are served
	good.send(request("GET", "/healthz", ""))
	if a, err := good.tryBegin("GET"); err != nil || a.status != 200 {
		t.Errorf("%+v, %v", a, err)
	}
}
