package blackbox

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// client is a raw connection to the relay. It belongs to one goroutine.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// dial opens a plain connection, which ends with the test.
func (rl *relay) dial() *client {
	rl.t.Helper()
	conn, err := net.Dial("tcp", rl.addr)
	if err != nil {
		rl.t.Fatal(err)
	}
	return newClient(rl.t, conn)
}

// dialTLS opens a connection to a relay that speaks TLS with cert.
func (rl *relay) dialTLS(cert *certificate) *client {
	rl.t.Helper()
	conn, err := tls.Dial("tcp", rl.addr, &tls.Config{RootCAs: cert.pool, ServerName: "127.0.0.1"})
	if err != nil {
		rl.t.Fatal(err)
	}
	return newClient(rl.t, conn)
}

// after returns the connection for the request after a: c, or a new one where
// the relay said that it closes c.
func (rl *relay) after(c *client, a *answer) *client {
	rl.t.Helper()
	if !strings.EqualFold(a.get("Connection"), "close") {
		return c
	}
	c.closed()
	_ = c.Close()
	return rl.dial()
}

func newClient(t testing.TB, conn net.Conn) *client {
	_ = conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = conn.Close() })
	return &client{Conn: conn, t: t, r: bufio.NewReaderSize(conn, 64<<10)}
}

// send writes s, which is one write.
func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatalf("client writes: %v", err)
	}
}

// tcp is the socket under the connection, TLS or not.
func (c *client) tcp() *net.TCPConn {
	conn := c.Conn
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	return conn.(*net.TCPConn)
}

// reset closes the connection with a RST.
func (c *client) reset() {
	_ = c.tcp().SetLinger(0)
	_ = c.tcp().Close()
}

// post is a POST of JSON with the test's key; fields are further lines without
// their CRLF.
func post(path, body string, fields ...string) string {
	return request("POST", path, body, append([]string{"Content-Type: application/json"}, fields...)...)
}

// request is a request with the test's key. An empty body has no length.
func request(method, path, body string, fields ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer %s\r\n", method, path, testKey)
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

// chatStream is the body of an ordinary streamed chat request.
const chatStream = `{"model":"m1","stream":true,"messages":[{"role":"user","content":"hi"}]}`

// chatPlain is the same without streaming.
const chatPlain = `{"model":"m1","messages":[{"role":"user","content":"hi"}]}`

// answer is an HTTP answer. body and err are filled by client.answer; until
// then the decoded body is read from the answer itself.
type answer struct {
	status int
	head   string // as it came, with the empty line
	fields [][2]string
	body   []byte
	err    error // nil: the body ended as its framing says

	c       *client
	none    bool
	chunked bool
	left    int64 // of the body, or of the chunk; -1: until the close
	ended   bool
}

// get returns the first value of a field, by any case of its name.
func (a *answer) get(name string) string {
	if v := a.all(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// all returns the values of a field.
func (a *answer) all(name string) (values []string) {
	for _, f := range a.fields {
		if strings.EqualFold(f[0], name) {
			values = append(values, f[1])
		}
	}
	return values
}

// answer reads a whole answer to a request that was not HEAD.
func (c *client) answer() *answer {
	c.t.Helper()
	a := c.begin()
	a.body, a.err = io.ReadAll(a)
	return a
}

// begin reads the head of an answer to a request that was not HEAD.
func (c *client) begin() *answer { c.t.Helper(); return c.beginTo("GET") }

// beginTo reads the head of an answer to method.
func (c *client) beginTo(method string) *answer {
	c.t.Helper()
	a, err := c.tryBegin(method)
	if err != nil {
		c.t.Fatalf("read head: %v", err)
	}
	return a
}

// tryBegin is beginTo with an error for a connection that ends.
func (c *client) tryBegin(method string) (*answer, error) {
	var head strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("after %q: %w", head.String()+line, err)
		}
		head.WriteString(line)
		if line == "\r\n" {
			break
		}
	}
	a := &answer{head: head.String(), c: c, left: -1}
	lines := strings.Split(strings.TrimSuffix(a.head, "\r\n\r\n"), "\r\n")
	if len(lines[0]) < 12 || !strings.HasPrefix(lines[0], "HTTP/1.1 ") {
		return nil, fmt.Errorf("status line %q", lines[0])
	}
	var err error
	if a.status, err = strconv.Atoi(lines[0][9:12]); err != nil {
		return nil, fmt.Errorf("status line %q", lines[0])
	}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("header line %q", line)
		}
		a.fields = append(a.fields, [2]string{name, strings.TrimSpace(value)})
	}
	lengths, codings := a.all("Content-Length"), a.all("Transfer-Encoding")
	if len(lengths)+len(codings) > 1 {
		return nil, fmt.Errorf("framed twice: %q", a.head)
	}
	switch {
	case method == "HEAD" || a.status == 204 || a.status == 304 || a.status < 200:
		a.none = true
	case len(codings) == 1:
		if codings[0] != "chunked" {
			return nil, fmt.Errorf("transfer coding %q", codings[0])
		}
		a.chunked, a.left = true, 0
	case len(lengths) == 1:
		if a.left, err = strconv.ParseInt(lengths[0], 10, 64); err != nil {
			return nil, err
		}
	}
	return a, nil
}

var errChunk = errors.New("bad chunk from the relay")

// Read reads the decoded body; io.EOF means that it ended as its framing says,
// io.ErrUnexpectedEOF that the connection ended first.
func (a *answer) Read(p []byte) (int, error) {
	if a.none || a.ended || !a.chunked && a.left == 0 {
		a.ended = true
		return 0, io.EOF
	}
	if a.chunked && a.left == 0 {
		if err := a.nextChunk(); err != nil {
			return 0, err
		}
		if a.ended {
			return 0, io.EOF
		}
	}
	if a.left > 0 && int64(len(p)) > a.left {
		p = p[:a.left]
	}
	n, err := a.c.r.Read(p)
	if a.left < 0 {
		return n, err // a reset is an error, a close the end
	}
	a.left -= int64(n)
	if a.chunked && a.left == 0 && n > 0 {
		var end [2]byte
		if _, err := io.ReadFull(a.c.r, end[:]); err != nil {
			return n, io.ErrUnexpectedEOF
		}
		if end != [2]byte{'\r', '\n'} {
			return n, errChunk
		}
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// nextChunk reads the line that announces a chunk; after the last one, the end.
func (a *answer) nextChunk() error {
	line, err := a.c.r.ReadString('\n')
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if !strings.HasSuffix(line, "\r\n") {
		return errChunk
	}
	if a.left, err = strconv.ParseInt(line[:len(line)-2], 16, 64); err != nil {
		return errChunk
	}
	if a.left == 0 {
		if line, err = a.c.r.ReadString('\n'); err != nil {
			return io.ErrUnexpectedEOF
		}
		if line != "\r\n" { // the relay sends no trailers
			return errChunk
		}
		a.ended = true
	}
	return nil
}

// expect reads as many bytes of the body as want has and compares them.
func (a *answer) expect(want string) {
	a.c.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(a, got)
	if err != nil || string(got) != want {
		a.c.t.Fatalf("body: got %s (%v), want %s", clip(got[:n]), err, clip([]byte(want)))
	}
}

// rest reads the body to its end.
func (a *answer) rest() (string, error) {
	b, err := io.ReadAll(a)
	return string(b), err
}

// finish reads the rest of the body, which must be want and end properly.
func (a *answer) finish(want string) {
	a.c.t.Helper()
	got, err := a.rest()
	if got != want || err != nil {
		a.c.t.Fatalf("rest of the body: %s (%v), want %s", clip([]byte(got)), err, clip([]byte(want)))
	}
}

// closed fails the test unless the relay closes the connection without another
// byte.
func (c *client) closed() {
	c.t.Helper()
	if b, err := io.ReadAll(c.r); len(b) > 0 || isTimeout(err) {
		c.t.Fatalf("the relay did not close: %s, %v", clip(b), err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// clip shortens what a failure prints.
func clip(b []byte) string {
	if len(b) > 600 {
		return fmt.Sprintf("%q … %q (%d bytes)", b[:300], b[len(b)-300:], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// firstDifference says where two texts part, for failures about long ones.
func firstDifference(got, want []byte) string {
	n := min(len(got), len(want))
	for i := range n {
		if got[i] != want[i] {
			return fmt.Sprintf("at byte %d: got %s, want %s", i, clip(got[i:min(n, i+80)]), clip(want[i:min(n, i+80)]))
		}
	}
	if bytes.Equal(got, want) {
		return "equal"
	}
	return fmt.Sprintf("got %d bytes, want %d", len(got), len(want))
}
