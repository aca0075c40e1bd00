package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"

	"streamrelay/telemetry"
)

// errNotHTTP is what fasthttp gets where the first byte of a request cannot
// begin one: it would wait for the end of a line that does not come.
var errNotHTTP = errors.New("the client does not speak HTTP")

// errTLS is the same for a client that starts TLS.
var errTLS = errors.New("the client speaks TLS to a port without: it uses https:// where http:// is right, or tls is not set here")

// recordHandshake begins a TLS connection (RFC 8446 §5.1), and no HTTP method.
const recordHandshake = 0x16

// checkFirst refuses the first byte of a request that belongs to no method (RFC
// 9110 §5.6.2) and to no empty line before one.
func checkFirst(b byte) error {
	switch {
	case b == recordHandshake:
		return errTLS
	case b <= ' ' && b != '\r' && b != '\n' || b >= 0x7f:
		return errNotHTTP
	}
	return nil
}

// malformations maps what fasthttp says of a head, before it quotes the client,
// to what the client is told.
var malformations = []struct{ says, message string }{
	{"content-length", "Content-Length is given twice or is not a number"},
	{"transfer-encoding", "the only Transfer-Encoding here is chunked, given once"},
	{"host header", "one Host is wanted, and only one"},
	{"header", "a header is not \"Name: value\" in printable characters"},
	{"http version", badRequestLine},
	{"request method", badRequestLine},
	{"first line", badRequestLine},
	{"request uri", badRequestLine},
	{"request line", badRequestLine},
	{"requesturi", badRequestLine},
}

const badRequestLine = "its first line is not \"METHOD /path HTTP/1.1\""

// malformed says what is wrong with a head that fasthttp could not read.
func malformed(err error) *apiError {
	switch {
	case errors.Is(err, errTLS):
		return badFraming("This port speaks HTTP/1.1 without TLS: use an http URL.")
	case errors.Is(err, errNotHTTP):
		return badFraming("The request's head is malformed: " + badRequestLine + ".")
	}
	said, _, _ := strings.Cut(err.Error(), `"`)
	said = strings.ToLower(strings.TrimPrefix(said, "error when reading request headers: "))
	for _, m := range malformations {
		if strings.Contains(said, m.says) {
			return badFraming("The request's head is malformed: " + m.message + ".")
		}
	}
	return badFraming("The request is malformed.")
}

// httpError answers what fasthttp could not read as a request.
func (s *Server) httpError(ctx *fasthttp.RequestCtx, err error) {
	var e *apiError
	reject := telemetry.RejectBadRequest
	var small *fasthttp.ErrSmallBuffer
	var ne net.Error
	switch {
	case errors.As(err, &small):
		e = &apiError{status: 431, typ: invalidRequest, code: "headers_too_large", end: telemetry.Denied, close: true,
			message: "The request's headers are larger than this relay accepts."}
		reject = telemetry.RejectHeaderTooLarge
	case errors.As(err, &ne) && ne.Timeout():
		e = &apiError{status: 408, typ: invalidRequest, code: "request_timeout", end: telemetry.Denied, close: true,
			message: "The request did not come in time."}
		reject = telemetry.RejectSlowClient
	default:
		e = malformed(err)
	}
	s.tel.Rejected(reject)
	var text [36]byte
	id := formatID(&text, telemetry.NewID(s.now()))
	var t target
	d := dialectOpenAI
	if uri := ctx.Request.Header.RequestURI(); len(uri) > 0 && parseTarget(uri, len(ctx.Request.Header.Peek("Anthropic-Version")) > 0, &t) == nil {
		d = t.dialect
	}
	writeError(ctx, e, d, id)
	if c, ok := ctx.Conn().(*clientConn); ok {
		c.linger.Store(true)
	}
}

// plainToTLS tells a client that speaks plain HTTP to the TLS port so, in plain
// HTTP, and returns the error of its connection.
func (s *Server) plainToTLS(err error) error {
	var r tls.RecordHeaderError
	if !errors.As(err, &r) || r.Conn == nil || checkFirst(r.RecordHeader[0]) != nil {
		return err
	}
	s.tel.Rejected(telemetry.RejectBadRequest)
	if _, err := r.Conn.Write(s.bareAnswer(errWantsTLS, "")); err == nil {
		s.lingerOn(r.Conn)
	}
	return io.EOF
}

// bareAnswer is e as a whole answer to a connection that the server does not
// serve, with more headers, each with its line end.
func (s *Server) bareAnswer(e *apiError, headers string) []byte {
	var text [36]byte
	id := formatID(&text, telemetry.NewID(s.now()))
	body := appendError(nil, e, dialectOpenAI, id)
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nX-Request-Id: %s\r\n%sConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		e.status, http.StatusText(e.status), id, headers, len(body), body)
}
