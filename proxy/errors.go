package proxy

import (
	"strconv"

	"github.com/valyala/fasthttp"

	"streamrelay/telemetry"
)

// apiError is an answer that the relay itself gives, in terms of OpenAI's
// error object; writeError says the same in the other dialects.
type apiError struct {
	status  int
	typ     string // OpenAI's error.type
	code    string // error.code, and the error field of logs and rows
	param   string // error.param; "" is null
	message string // public text
	end     telemetry.EndReason

	retryAfter int    // seconds; 0: no header
	retry      string // x-should-retry, where SDKs would do the wrong thing by themselves
	allow      string // Allow, for 405
	close      bool   // the connection cannot be used any more
}

func (e *apiError) Error() string { return e.message }

const invalidRequest = "invalid_request_error"

func badRequest(code, message string) *apiError {
	return &apiError{status: 400, typ: invalidRequest, code: code, message: message, end: telemetry.Denied}
}

// badFraming refuses a request after whose head nobody can say where the next
// one begins.
func badFraming(message string) *apiError {
	return &apiError{status: 400, typ: invalidRequest, code: "bad_request", message: message, end: telemetry.Denied, close: true}
}

// The refusals whose text never varies.
var (
	errNoKey = &apiError{status: 401, typ: invalidRequest, code: "invalid_api_key", end: telemetry.Denied,
		message: "You didn't provide an API key. Provide it in an Authorization header using Bearer auth (Authorization: Bearer YOUR_KEY), or as x-api-key."}
	errBadKey = &apiError{status: 401, typ: invalidRequest, code: "invalid_api_key", end: telemetry.Denied,
		message: "Incorrect API key provided. It is unknown, revoked or expired; ask the operator of this relay for one."}
	errTwoKeys = &apiError{status: 401, typ: invalidRequest, code: "invalid_api_key", end: telemetry.Denied,
		message: "Two different credentials were provided. Send the key once."}
	errKeysUnavailable = &apiError{status: 503, typ: "server_error", code: "keys_unavailable", end: telemetry.Denied, retryAfter: 1,
		message: "The key cannot be checked at the moment."}
	errRevoked  = &apiError{status: 401, typ: invalidRequest, code: "invalid_api_key", end: telemetry.Denied, message: errBadKey.message}
	errExpired  = &apiError{status: 401, typ: invalidRequest, code: "invalid_api_key", end: telemetry.Denied, message: errBadKey.message}
	errKeyEnded = &apiError{status: 401, typ: invalidRequest, code: "invalid_api_key", end: telemetry.Denied, retry: "false", close: true,
		message: "The key was revoked."}
	errTooManyMisses = &apiError{status: 429, typ: "requests", code: "rate_limit_exceeded", end: telemetry.Limited, retryAfter: 1,
		message: "Too many unknown keys were tried. Try again shortly."}
	errPathNotAllowed = &apiError{status: 403, typ: "permission_error", code: "path_not_allowed", end: telemetry.Denied,
		message: "This key may not use this path."}
	errTenant = &apiError{status: 403, typ: "permission_error", code: "tenant_not_allowed", end: telemetry.Denied,
		message: "This key may not act for the tenant named in X-Tenant-ID."}
	errModelNotAllowed = &apiError{status: 403, typ: "permission_error", code: "model_not_allowed", param: "model", end: telemetry.Denied,
		message: "This key may not use the model."}
	errModelNotFound = &apiError{status: 404, typ: invalidRequest, code: "model_not_found", param: "model", end: telemetry.Denied,
		message: "The model does not exist or no route of this relay leads to it."}
	errModelFirst = &apiError{status: 400, typ: invalidRequest, code: "model_not_found", param: "model", end: telemetry.Denied,
		message: "No model was found in the form. Put the field model before file."}
	errTwoModels = &apiError{status: 400, typ: invalidRequest, code: "invalid_form", param: "model", end: telemetry.Denied, close: true,
		message: "The form has another field model, or is not written as RFC 7578 says. This key is bound to models: send one."}
	errUnknownObject = &apiError{status: 404, typ: invalidRequest, code: "not_found", end: telemetry.Denied,
		message: "This relay does not know which of its accounts has the object; it remembers those that it saw made lately."}
	errPreviousResponse = &apiError{status: 400, typ: invalidRequest, code: "previous_response_not_found", param: "previous_response_id", end: telemetry.Denied,
		message: "This relay does not know which of its accounts has the previous response; it remembers those that it saw made lately."}
	errUnknownURL = &apiError{status: 404, typ: invalidRequest, code: "unknown_url", end: telemetry.Denied,
		message: "Invalid URL: the relay serves paths under /v1/, /v1beta/ and /openai/. The base URL ends with /v1 for OpenAI's SDKs, and without a version for Anthropic's and Google's."}
	errNoUpstream = &apiError{status: 404, typ: invalidRequest, code: "unknown_url", end: telemetry.Denied,
		message: "No upstream of this relay speaks the dialect of this path."}
	errMethod = &apiError{status: 405, typ: invalidRequest, code: "method_not_allowed", end: telemetry.Denied, close: true,
		allow: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS", message: "The method is not allowed."}
	errVersion = &apiError{status: 505, typ: invalidRequest, code: "http_version_not_supported", end: telemetry.Denied, close: true,
		message: "The relay speaks HTTP/1.1 and HTTP/1.0."}
	errUpgrade = &apiError{status: 426, typ: invalidRequest, code: "upgrade_not_supported", end: telemetry.Denied,
		message: "WebSocket is not supported; use HTTP with server-sent events."}
	errDotDot      = badRequest("invalid_path", "The path holds a .. segment.")
	errSlashes     = badRequest("invalid_path", "The path has an empty segment (//). A base URL takes no slash at its end.")
	errPathBytes   = badRequest("invalid_path", "The path holds a byte that must be percent-encoded, or a bad percent-encoding.")
	errPathCase    = badRequest("invalid_path", "The path is known in lower case only: write it so.")
	errTarget      = badFraming("The request target is not a path.")
	errVague       = badFraming("Content-Type or Content-Encoding is given twice.")
	errWantsTLS    = badFraming("This port speaks TLS: use an https URL.")
	errConnection  = badFraming("The Connection header names a field that is not hop-by-hop.")
	errConnections = badFraming("There are too many Connection headers, or options in them.")
	errBodyTooBig  = &apiError{status: 413, typ: invalidRequest, code: "request_too_large", end: telemetry.Denied, close: true, message: "The request body is larger than this relay accepts."}
	errBodyTimeout = &apiError{status: 408, typ: invalidRequest, code: "request_timeout", end: telemetry.Denied, close: true, message: "The request body did not come in time."}
	errBodyBroken  = badFraming("The request body ended early or its coding is broken.")
	errEncodedBody = &apiError{status: 415, typ: invalidRequest, code: "unsupported_content_encoding", end: telemetry.Denied,
		message: "A compressed request body cannot be read here; send it without Content-Encoding."}
	errHeld = &apiError{status: 503, typ: "server_error", code: "overloaded", end: telemetry.Shed, retryAfter: 1, close: true,
		message: "The relay holds as many request bodies as it may. Try again shortly."}
	errShed = &apiError{status: 503, typ: "server_error", code: "overloaded", end: telemetry.Shed, retryAfter: 1, close: true,
		message: "The relay has as many connections as it may. Try again shortly."}
	errDraining = &apiError{status: 503, typ: "server_error", code: "draining", end: telemetry.Drained, retryAfter: 1, close: true,
		message: "The relay is shutting down. Try again."}
	errPanic = &apiError{status: 500, typ: "server_error", code: "internal_error", end: telemetry.Internal, close: true,
		message: "The relay failed on this request."}

	errNoneReady = &apiError{status: 503, typ: "server_error", code: "no_upstream", end: telemetry.Shed, retryAfter: 1,
		message: "Every account that could answer is out of order or has reached its limit. Try again later."}
	errUpstreamBusy = &apiError{status: 503, typ: "server_error", code: "no_upstream", end: telemetry.UpstreamError, retryAfter: 1,
		message: "The upstream has as many connections as it may."}
	errUpstreamConnect = &apiError{status: 502, typ: "api_error", code: "upstream_connect", end: telemetry.UpstreamError, retryAfter: 1,
		message: "The upstream could not be reached."}
	errConnectTimeout = &apiError{status: 504, typ: "timeout_error", code: "upstream_timeout", end: telemetry.TimeoutConnect, retryAfter: 1,
		message: "The upstream could not be reached in time."}
	errUpstreamCut = &apiError{status: 502, typ: "api_error", code: "upstream_error", end: telemetry.UpstreamCut, retry: "false",
		message: "The upstream closed the connection before its answer was whole."}
	errUpstreamGarbage = &apiError{status: 502, typ: "api_error", code: "upstream_error", end: telemetry.UpstreamError, retry: "false",
		message: "The upstream's answer is not valid HTTP."}
	errUpstreamAuth = &apiError{status: 502, typ: "api_error", code: "upstream_auth", end: telemetry.UpstreamStatus, retry: "false",
		message: "The upstream refused this relay's own credential; the key you sent is not at fault."}
	errUpstreamRedirect = &apiError{status: 502, typ: "api_error", code: "upstream_redirect", end: telemetry.UpstreamStatus, retry: "false",
		message: "The upstream wants the request sent to another address. Its base_url at this relay needs correcting."}
	errHeadTimeout = &apiError{status: 504, typ: "timeout_error", code: "upstream_timeout", end: telemetry.TimeoutHead, retry: "false",
		message: "The upstream did not begin its answer in time."}
	errFirstEventTimeout = &apiError{status: 504, typ: "timeout_error", code: "upstream_timeout", end: telemetry.TimeoutFirstEvent, retry: "false",
		message: "The upstream sent no first event in time."}
	errIdleTimeout = &apiError{status: 504, typ: "timeout_error", code: "upstream_timeout", end: telemetry.TimeoutIdle, retry: "false",
		message: "The upstream fell silent."}
	errTotalTimeout = &apiError{status: 504, typ: "timeout_error", code: "upstream_timeout", end: telemetry.TimeoutTotal, retry: "false",
		message: "The answer took longer than this relay allows."}
	errStreamTooLong = &apiError{status: 502, typ: "api_error", code: "answer_too_large", end: telemetry.UpstreamError, retry: "false",
		message: "The answer is larger than this relay allows."}
)

// writeError puts e into ctx's answer, in the envelope of the path's dialect.
func writeError(ctx *fasthttp.RequestCtx, e *apiError, d dialect, requestID []byte) {
	res := &ctx.Response
	res.Reset()
	res.SetStatusCode(e.status)
	h := &res.Header
	h.SetContentType("application/json")
	h.SetBytesV("X-Request-Id", requestID)
	if d == dialectAnthropic {
		h.SetBytesV("Request-Id", requestID) // the only name that its SDKs read
	}
	if e.status == fasthttp.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if e.allow != "" {
		h.Set("Allow", e.allow)
	}
	if e.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.retryAfter))
		h.Set("Retry-After-Ms", strconv.Itoa(e.retryAfter*1000))
	}
	if e.retry != "" {
		h.Set("X-Should-Retry", e.retry)
	}
	if e.status == fasthttp.StatusUpgradeRequired {
		h.Set("Connection", "close")
	}
	if e.close {
		h.SetConnectionClose()
	}
	res.SetBody(appendError(nil, e, d, requestID))
}

// appendError appends e as the JSON body that d's clients know.
func appendError(dst []byte, e *apiError, d dialect, requestID []byte) []byte {
	switch d {
	case dialectAnthropic:
		dst = append(dst, `{"type":"error","error":{"type":"`...)
		dst = append(dst, anthropicType(e)...)
		dst = append(dst, `","message":`...)
		dst = strconv.AppendQuote(dst, e.message)
		dst = append(dst, `},"request_id":"`...)
		dst = append(dst, requestID...)
		return append(dst, `"}`...)
	case dialectGemini:
		dst = append(dst, `{"error":{"code":`...)
		dst = strconv.AppendInt(dst, int64(e.status), 10)
		dst = append(dst, `,"message":`...)
		dst = strconv.AppendQuote(dst, e.message)
		dst = append(dst, `,"status":"`...)
		dst = append(dst, googleStatus(e.status)...)
		return append(dst, `"}}`...)
	}
	dst = append(dst, `{"error":{"message":`...)
	dst = strconv.AppendQuote(dst, e.message)
	dst = append(dst, `,"type":"`...)
	dst = append(dst, e.typ...)
	dst = append(dst, `","param":`...)
	if e.param == "" {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendQuote(dst, e.param)
	}
	dst = append(dst, `,"code":"`...)
	dst = append(dst, e.code...)
	return append(dst, `"}}`...)
}

// appendErrorEvent appends e as an event of a stream that has begun, in the
// form that the SDKs of family raise on.
func appendErrorEvent(dst []byte, e *apiError, d dialect, responses bool, sequence int64, requestID []byte) []byte {
	switch {
	case d == dialectAnthropic:
		dst = append(dst, "event: error\ndata: "...)
		dst = appendError(dst, e, d, requestID)
	case responses:
		dst = append(dst, "event: error\ndata: {\"type\":\"error\",\"code\":\""...)
		dst = append(dst, e.code...)
		dst = append(dst, `","message":`...)
		dst = strconv.AppendQuote(dst, e.message)
		dst = append(dst, `,"param":null,"sequence_number":`...)
		dst = strconv.AppendInt(dst, sequence, 10)
		dst = append(dst, '}')
	default:
		dst = append(dst, "data: "...)
		dst = appendError(dst, e, d, requestID)
	}
	return append(dst, "\n\n"...)
}

// anthropicType maps to the types of docs.anthropic.com/en/api/errors.
func anthropicType(e *apiError) string {
	switch e.status {
	case 401:
		return "authentication_error"
	case 403:
		return "permission_error"
	case 404:
		return "not_found_error"
	case 413:
		return "request_too_large"
	case 429:
		return "rate_limit_error"
	case 503:
		return "overloaded_error"
	case 504:
		return "timeout_error"
	}
	if e.status >= 500 {
		return "api_error"
	}
	return invalidRequest
}

// googleStatus maps to google.rpc.Code names.
func googleStatus(status int) string {
	switch status {
	case 401:
		return "UNAUTHENTICATED"
	case 403:
		return "PERMISSION_DENIED"
	case 404:
		return "NOT_FOUND"
	case 429:
		return "RESOURCE_EXHAUSTED"
	case 503:
		return "UNAVAILABLE"
	case 504:
		return "DEADLINE_EXCEEDED"
	}
	if status >= 500 {
		return "INTERNAL"
	}
	return "INVALID_ARGUMENT"
}
