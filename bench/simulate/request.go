package simulate

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Bounds of a request.
const (
	maxHead = 64 << 10
	maxHeld = 256 << 20 // a body that is kept
	maxSent = 4 << 30   // a body that is dropped
)

// head is what the provider keeps of a request's head; it refers to nothing in
// the read buffer.
type head struct {
	route     route
	internal  string // path under /sim/ and query, "" for an API path
	length    int64  // of the body; -1: chunked
	close     bool   // the connection ends with this answer
	http10    bool   // no chunked answer
	expects   bool   // Expect: 100-continue
	simulate  []byte // value of X-Simulate, valid until the next read
	presented []byte // credential without its scheme, valid until the next read
}

var errHead = errors.New("malformed request head")

// parseHead reads a head from its request line to the empty line, exclusive.
func parseHead(b []byte, h *head) error {
	*h = head{}
	line, rest, _ := bytes.Cut(b, []byte("\r\n"))
	method, line, ok1 := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(line, []byte(" "))
	if !ok1 || !ok2 || len(target) == 0 {
		return errHead
	}
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		h.http10, h.close = true, true
	default:
		return errHead
	}
	path, query, _ := bytes.Cut(target, []byte("?"))
	if bytes.HasPrefix(path, []byte("/sim/")) {
		h.internal = string(target)
	} else {
		h.route = findRoute(method, path, query)
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(name) == 0 {
			return errHead
		}
		if err := h.header(name, bytes.TrimSpace(value)); err != nil {
			return err
		}
	}
	if h.presented == nil {
		h.presented = queryKey(query)
	}
	return nil
}

// header looks at one header line. The switch on the length spares most lines
// the comparison.
func (h *head) header(name, value []byte) error {
	switch len(name) {
	case len("Expect"):
		h.expects = h.expects || bytes.EqualFold(name, []byte("Expect"))
	case len("Api-Key"):
		if bytes.EqualFold(name, []byte("Api-Key")) {
			h.presented = value
		}
	case len("X-Api-Key"):
		if bytes.EqualFold(name, []byte("X-Api-Key")) {
			h.presented = value
		}
	case len("X-Simulate"): // and Connection
		if bytes.EqualFold(name, []byte("X-Simulate")) {
			h.simulate = value
		} else if bytes.EqualFold(name, []byte("Connection")) {
			if bytes.EqualFold(value, []byte("close")) {
				h.close = true
			}
		}
	case len("Authorization"):
		if bytes.EqualFold(name, []byte("Authorization")) {
			h.presented = value
			if scheme, token, ok := bytes.Cut(value, []byte(" ")); ok && bytes.EqualFold(scheme, []byte("Bearer")) {
				h.presented = bytes.TrimSpace(token)
			}
		}
	case len("Content-Length"): // and X-Goog-Api-Key
		if bytes.EqualFold(name, []byte("Content-Length")) {
			n, err := strconv.ParseInt(string(value), 10, 64)
			if err != nil || n < 0 || n > maxSent || h.length != 0 {
				return fmt.Errorf("content-length %q: %w", value, errHead)
			}
			h.length = n
		} else if bytes.EqualFold(name, []byte("X-Goog-Api-Key")) {
			h.presented = value
		}
	case len("Transfer-Encoding"):
		if bytes.EqualFold(name, []byte("Transfer-Encoding")) {
			if !bytes.EqualFold(value, []byte("chunked")) || h.length != 0 {
				return fmt.Errorf("transfer-encoding %q: %w", value, errHead)
			}
			h.length = -1
		}
	}
	return nil
}

// queryKey finds Gemini's ?key=.
func queryKey(query []byte) []byte {
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte("&"))
		if key, ok := bytes.CutPrefix(pair, []byte("key=")); ok {
			return key
		}
	}
	return nil
}

// readHead fills the buffer up to the end of a head and parses it. It returns
// io.EOF or the connection's error when the client is gone, and errHead (which
// is answered with 400) when it talks nonsense.
func (c *conn) readHead(h *head) error {
	searched := 0
	for {
		b := c.buf[c.r:c.w]
		if i := bytes.Index(b[max(searched-3, 0):], []byte("\r\n\r\n")); i >= 0 {
			end := max(searched-3, 0) + i
			if end > maxHead {
				return fmt.Errorf("head above %d bytes: %w", maxHead, errHead)
			}
			err := parseHead(b[:end+2], h)
			c.r += end + 4
			return err
		}
		if searched = len(b); searched > maxHead {
			return fmt.Errorf("head above %d bytes: %w", maxHead, errHead)
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// readBody takes the request's body off the connection. It returns the body,
// valid until the next read, or nil where the route drops it.
func (c *conn) readBody(h *head) ([]byte, error) {
	if h.expects && h.length != 0 && c.r == c.w {
		if _, err := c.nc.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
			return nil, err
		}
	}
	c.body = c.body[:0]
	if h.length >= 0 {
		// The usual case: the whole body came with its head.
		if !h.route.drop && int64(c.w-c.r) >= h.length {
			c.p.stats.bodyBytes.Add(h.length)
			b := c.buf[c.r : c.r+int(h.length)]
			c.r += int(h.length)
			return b, nil
		}
		return c.body, c.take(h.length, h.route.drop)
	}
	for {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 31)
		if err != nil {
			return nil, fmt.Errorf("chunk size %q: %w", size, errHead)
		}
		if n == 0 {
			break
		}
		if err := c.take(int64(n), h.route.drop); err != nil {
			return nil, err
		}
		if line, err = c.line(); err != nil || len(line) != 0 {
			return nil, errors.Join(errHead, err)
		}
	}
	for { // trailers
		line, err := c.line()
		if err != nil || len(line) == 0 {
			return c.body, err
		}
	}
}

// take moves n bytes from the connection to c.body, or drops them.
func (c *conn) take(n int64, drop bool) error {
	c.p.stats.bodyBytes.Add(n)
	if !drop && int64(len(c.body))+n > maxHeld {
		return fmt.Errorf("body above %d bytes: %w", maxHeld, errHead)
	}
	for {
		k := int(min(n, int64(c.w-c.r)))
		if !drop {
			c.body = append(c.body, c.buf[c.r:c.r+k]...)
		}
		c.r += k
		if n -= int64(k); n == 0 {
			return nil
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// line reads up to a CRLF; the result is valid until the next read.
func (c *conn) line() ([]byte, error) {
	for {
		if i := bytes.Index(c.buf[c.r:c.w], []byte("\r\n")); i >= 0 {
			line := c.buf[c.r : c.r+i]
			c.r += i + 2
			return line, nil
		}
		if c.w-c.r > 4096 {
			return nil, errHead
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}
