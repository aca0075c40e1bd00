package proxy

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/valyala/fasthttp"

	"streamrelay/auth"
	"streamrelay/proxy/h1"
	"streamrelay/proxy/peek"
)

// admission is what a request's head alone decides: what it asks for, whose it
// is, and how its body is to be taken. Its slices are parts of the head.
type admission struct {
	head   requestHead
	target target
	rec    *auth.Record
	tenant []byte
	body   bodyPlan
}

// bodyPlan says how a request's body is taken.
type bodyPlan uint8

const (
	bodyNone   bodyPlan = iota
	bodyHeld            // JSON: read whole, looked into
	bodyStream          // form or binary: passed through as it comes
)

// checkHead refuses a head that two servers could read differently.
func (c *clientConn) checkHead(h *fasthttp.RequestHeader) *apiError {
	switch string(h.Protocol()) {
	case "HTTP/1.1", "HTTP/1.0":
	default:
		return errVersion
	}
	if c.read.head.bareLF {
		return badFraming("The request's head is malformed: " + h1.ErrBareLineEnd.Error() + ".")
	}
	if err := h1.CheckRequest(h.RawHeaders(), h.IsHTTP11()); err != nil {
		return badFraming("The request's head is malformed: " + err.Error() + ".")
	}
	return nil
}

// admit decides on everything but the body, before a byte of it is read.
func (s *Server) admit(h *fasthttp.RequestHeader, a *admission, set *settings, client netip.Addr) *apiError {
	err := a.describe(h)
	if !knownMethod(h.Method()) {
		return errMethod
	}
	if err != nil {
		return err
	}
	if a.head.vague {
		return errVague
	}
	if err := a.head.checkConnection(); err != nil {
		return err
	}
	if h1.EqualFold(a.head.upgrade, "websocket") {
		return errUpgrade
	}
	if err := s.authenticate(a, client); err != nil {
		return err
	}
	return set.planBody(h, a)
}

func knownMethod(m []byte) bool {
	switch string(m) {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return true
	}
	return false
}

// queryKeys are the parameters of a query that a key may stand in; none of
// them goes upstream.
var queryKeys = [...]string{"key", "api_key"}

// describe reads what the answer, were it a refusal, needs to know.
func (a *admission) describe(h *fasthttp.RequestHeader) *apiError {
	a.head.scan(h.RawHeaders())
	a.target = target{scratch: a.target.scratch, endpoint: endpointOther}
	return parseTarget(h.RequestURI(), a.head.anthropicVersion, &a.target)
}

// authenticate finds the key's record and the tenant the request is for.
func (s *Server) authenticate(a *admission, client netip.Addr) *apiError {
	var queryKey []byte
	if len(a.target.query) > 0 {
		if !peek.QueryAgrees(a.target.query, queryKeys[:]...) {
			return errTwoKeys
		}
		for _, name := range queryKeys {
			if v, _, _, ok := peek.QueryValue(a.target.query, name); ok {
				if queryKey = v; bytes.IndexByte(v, '%') >= 0 {
					queryKey = peek.AppendUnescaped(nil, v)
				}
			}
		}
	}
	key, err := a.head.credential(queryKey)
	if err != nil {
		return err
	}
	rec, status := s.keys.LookupFrom(key, client, time.Now().Unix())
	switch status {
	case auth.Found:
	case auth.Unavailable:
		return errKeysUnavailable
	case auth.TooManyMisses:
		return errTooManyMisses
	case auth.Revoked, auth.Disabled:
		return errRevoked
	case auth.Expired:
		return errExpired
	default:
		return errBadKey
	}
	if a.head.tenants > 1 {
		return errTenant
	}
	tenant, ok := rec.Tenant(a.head.tenant)
	if !ok {
		return errTenant
	}
	a.rec, a.tenant = rec, tenant
	if !rec.AllowsPath(a.target.path) {
		return errPathNotAllowed
	}
	return nil
}

// planBody decides how the body is taken, and refuses one that says itself
// that it is too large.
func (set *settings) planBody(h *fasthttp.RequestHeader, a *admission) *apiError {
	length := a.head.length
	if length == 0 || length == lengthNone {
		a.body = bodyNone
		return nil
	}
	ep := &endpoints[a.target.endpoint]
	form := hasPrefixFold(a.head.contentType, "multipart/")
	if jsonType(a.head.contentType) || ep.json && !form && h.IsPost() {
		a.body = bodyHeld
		if length > int64(set.limits.MaxBody) {
			return errBodyTooBig
		}
		if len(a.head.contentEncoding) > 0 && !h1.EqualFold(a.head.contentEncoding, "identity") {
			return errEncodedBody
		}
		return nil
	}
	a.body = bodyStream
	if length > int64(set.limits.MaxUpload) {
		return errBodyTooBig
	}
	return nil
}

// jsonType reports whether a media type is JSON (RFC 6839 §3.1 included).
func jsonType(v []byte) bool {
	v, _, _ = bytes.Cut(v, []byte{';'})
	v = bytes.TrimSpace(v)
	return h1.EqualFold(v, "application/json") || len(v) > 5 && h1.EqualFold(v[len(v)-5:], "+json")
}
