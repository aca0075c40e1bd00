package proxy

import (
	"errors"
	"io"

	"github.com/valyala/fasthttp"

	"streamrelay/proxy/h1"
)

// requestBody is the body of the request at hand. Its bytes are the client
// connection's; it knows where they end.
type requestBody struct {
	c     *clientConn
	left  int64 // of a body whose length is known
	chunk h1.Chunked
	ask   bool // the client waits for 100 Continue
	ended bool
}

// lengths of a request's body, as its head says.
const (
	lengthNone    = -2
	lengthChunked = -1
)

var errBadChunks = errors.New("bad chunked coding")

// begin starts a body of the given length.
func (b *requestBody) begin(c *clientConn, length int64, ask bool) {
	*b = requestBody{c: c, left: length, ask: ask, ended: length == 0 || length == lengthNone}
	if length == lengthChunked {
		b.left = lengthChunked
	}
}

// Read reads the next bytes of the body, io.EOF behind the last. A body that
// is cut is io.ErrUnexpectedEOF.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	if err := b.proceed(); err != nil {
		return 0, err
	}
	if b.left >= 0 {
		n, err := b.c.readBody(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		b.ended = b.left == 0
		return n, err
	}
	for {
		if err := b.c.fillBody(); err != nil {
			return 0, err
		}
		r := &b.c.read
		payload, used, err := b.chunk.Decode(r.in.B[r.from:min(r.to, r.from+len(p))])
		n := copy(p, payload)
		b.c.take(used)
		if err != nil {
			return n, errBadChunks
		}
		if b.ended = b.chunk.Done(); b.ended && n == 0 {
			return 0, io.EOF
		}
		if n > 0 {
			return n, nil
		}
	}
}

// proceed tells a client that waits for it to send its body (RFC 9110
// §10.1.1), unless it has begun.
func (b *requestBody) proceed() error {
	if !b.ask {
		return nil
	}
	b.ask = false
	if b.c.read.from < b.c.read.to {
		return nil
	}
	_, err := b.c.write(continueLine)
	return err
}

var continueLine = []byte("HTTP/1.1 100 Continue\r\n\r\n")

// headerReceived makes fasthttp leave the body alone, and the 100 Continue
// too: the exchange reads the one and sends the other, once it knows that it
// wants them.
func headerReceived(h *fasthttp.RequestHeader) (conf fasthttp.RequestConfig) {
	if h.ContentLength() != lengthNone {
		h.SetContentLength(0)
	}
	if len(h.Peek(fasthttp.HeaderExpect)) > 0 {
		h.Del(fasthttp.HeaderExpect)
	}
	return conf
}
