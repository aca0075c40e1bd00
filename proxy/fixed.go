package proxy

import (
	"bytes"
	"errors"
	"net"

	"github.com/valyala/fasthttp"

	"streamrelay/telemetry"
)

// The paths that the relay answers itself.
const (
	pathHealth  = "/healthz"
	pathReady   = "/readyz"
	pathMetrics = "/metrics"
)

// fixedRoute reports whether the relay answers the target itself, without a
// key.
func fixedRoute(uri []byte) bool {
	path, _, _ := bytes.Cut(uri, []byte{'?'})
	switch string(path) {
	case pathHealth, pathReady, pathMetrics:
		return true
	}
	return false
}

// health says that the process serves.
func (s *Server) health(ctx *fasthttp.RequestCtx) { plain(ctx, 200, "ok\n") }

// readiness says whether new requests should come here.
func (s *Server) readiness(ctx *fasthttp.RequestCtx) {
	status, text := s.readyState()
	plain(ctx, status, text)
}

func (s *Server) readyState() (status int, text string) {
	if s.lame.Load() {
		return 503, "draining\n"
	}
	if s.ready != nil {
		if err := s.ready(); err != nil {
			return 503, err.Error() + "\n"
		}
	}
	return 200, "ready\n"
}

func (s *Server) metrics(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType(telemetry.ContentType)
	s.tel.WriteMetrics(ctx)
}

func plain(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.SetBodyString(text)
}

// httpError answers what fasthttp could not read as a request.
func (s *Server) httpError(ctx *fasthttp.RequestCtx, err error) {
	e := badFraming("The request is malformed.")
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

// countRefusal counts an error of the relay's own under its reason.
func (s *Server) countRefusal(e *apiError) {
	switch e {
	case errNoKey:
		s.tel.AuthFailed(telemetry.AuthMissing)
	case errBadKey:
		s.tel.AuthFailed(telemetry.AuthInvalid)
	case errRevoked, errKeyEnded:
		s.tel.AuthFailed(telemetry.AuthRevoked)
	case errExpired:
		s.tel.AuthFailed(telemetry.AuthExpired)
	case errTwoKeys:
		s.tel.AuthFailed(telemetry.AuthConflict)
	case errTenant:
		s.tel.AuthFailed(telemetry.AuthTenant)
	case errModelNotAllowed, errPathNotAllowed:
		s.tel.AuthFailed(telemetry.AuthForbidden)
	case errKeysUnavailable, errTooManyMisses:
		s.tel.AuthFailed(telemetry.AuthUnavailable)
	case errMethod:
		s.tel.Rejected(telemetry.RejectMethod)
	case errUpgrade:
		s.tel.Rejected(telemetry.RejectUpgrade)
	case errUnknownURL:
		s.tel.Rejected(telemetry.RejectNotFound)
	case errNoUpstream, errModelNotFound, errModelFirst, errUnknownObject, errPreviousResponse:
		s.tel.Rejected(telemetry.RejectNoRoute)
	case errDotDot, errPathBytes:
		s.tel.Rejected(telemetry.RejectBadPath)
	case errBodyTooBig:
		s.tel.Rejected(telemetry.RejectBodyTooLarge)
	case errBodyTimeout:
		s.tel.Rejected(telemetry.RejectSlowClient)
	case errHeld:
		s.tel.Rejected(telemetry.RejectHeldBytes)
	case errDraining:
		s.tel.Rejected(telemetry.RejectDraining)
	case errVersion:
		s.tel.Rejected(telemetry.RejectBadRequest)
	default:
		if e.code == errNoneReady.code { // a copy with its own Retry-After
			s.tel.Rejected(telemetry.RejectNoUpstream)
			return
		}
		if e.status != 400 && e.status != 415 {
			return // an upstream's, counted with it
		}
		if e.close {
			s.tel.Rejected(telemetry.RejectBadRequest)
		} else {
			s.tel.Rejected(telemetry.RejectBadBody)
		}
	}
}
