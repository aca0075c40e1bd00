package proxy

import (
	"bytes"

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
