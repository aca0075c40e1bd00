package simulate

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves with options until the test ends.
func start(t *testing.T, o Options) (*Provider, string) {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := p.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, addr
}

// rawRequest is a POST with a credential.
func rawRequest(path, simulate, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer k\r\nX-Simulate: %s\r\nContent-Length: %d\r\n\r\n%s",
		path, simulate, len(body), body)
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// call sends a request on a connection of its own and returns the answer's
// status, header and body; err is how the body ended.
func call(t *testing.T, addr, raw string) (*http.Response, string, error) {
	t.Helper()
	c := dial(t, addr)
	defer c.Close()
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// blank replaces the send times by zeros and returns them.
func blank(t *testing.T, body string) (string, []int64) {
	t.Helper()
	b := []byte(body)
	var times []int64
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte(markKey))
		if i < 0 {
			return string(b), times
		}
		at += i
		sent, index, ok := parseMark(b[at:])
		if !ok || index != len(times) {
			t.Fatalf("mark %d: index %d, ok %v in %q", len(times), index, ok, b[at:min(at+60, len(b))])
		}
		times = append(times, sent)
		at += len(markKey)
		copy(b[at:], strings.Repeat("0", timeWidth))
	}
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// parseMark finds the mark in one event and returns its send time and index.
// The event may come from any dialect.
func parseMark(event []byte) (sent int64, index int, ok bool) {
	i := bytes.Index(event, []byte(markKey))
	if i < 0 {
		return 0, 0, false
	}
	m := event[i+len(markKey):]
	if len(m) < timeWidth+8 || m[timeWidth] != '.' || m[timeWidth+7] != '.' {
		return 0, 0, false
	}
	for _, c := range m[:timeWidth] {
		d := strings.IndexByte(hexDigits, c)
		if d < 0 {
			return 0, 0, false
		}
		sent = sent<<4 | int64(d)
	}
	for _, c := range m[timeWidth+1 : timeWidth+7] {
		if c < '0' || c > '9' {
			return 0, 0, false
		}
		index = index*10 + int(c-'0')
	}
	return sent, index, true
}
