package telemetry

// RejectReason says why the relay itself turned a request or connection away
// before an upstream was asked. Missing and refused keys are AuthReasons, the
// limits of keys and tenants LimitReasons.
type RejectReason uint8

// The reasons of relay_rejected_total.
const (
	RejectBadRequest RejectReason = iota // not HTTP as RFC 9112 has it
	RejectBadBody                        // not JSON, or ambiguous JSON
	RejectBadPath
	RejectHeaderTooLarge
	RejectBodyTooLarge
	RejectMethod
	RejectUpgrade
	RejectNotFound
	RejectNoRoute     // no route names the model
	RejectNoUpstream  // every upstream of the route is down or cooling
	RejectConnections // limits.max_connections
	RejectHeldBytes   // limits.max_held
	RejectSlowClient  // limits.header_timeout, limits.body_idle_timeout
	RejectDraining
	numRejectReasons
)

var rejectReasons = [numRejectReasons]string{
	"bad_request", "bad_body", "bad_path", "header_too_large", "body_too_large", "method", "upgrade",
	"not_found", "no_route", "no_upstream", "connections", "held_bytes", "slow_client", "draining",
}

// String returns the label value.
func (r RejectReason) String() string { return rejectReasons[r] }

// LimitReason says which limit of a key or tenant was reached.
type LimitReason uint8

// The reasons of relay_rate_limited_total.
const (
	LimitRequests LimitReason = iota // per minute
	LimitTokens                      // per minute
	LimitConcurrency
	LimitBudget
	numLimitReasons
)

var limitReasons = [numLimitReasons]string{"rpm", "tpm", "concurrency", "budget"}

// String returns the label value.
func (r LimitReason) String() string { return limitReasons[r] }

// AuthReason says why a key was refused.
type AuthReason uint8

// The reasons of relay_auth_failures_total.
const (
	AuthMissing  AuthReason = iota // no key at all
	AuthInvalid                    // unknown or malformed
	AuthConflict                   // two different keys
	AuthRevoked
	AuthExpired
	AuthTenant      // the key may not act for the tenant that was named
	AuthForbidden   // the key may not do this: model, endpoint, client address
	AuthUnavailable // the key store could not say
	numAuthReasons
)

var authReasons = [numAuthReasons]string{
	"missing", "invalid", "conflict", "revoked", "expired", "tenant", "forbidden", "unavailable",
}

// String returns the label value.
func (r AuthReason) String() string { return authReasons[r] }

// UpstreamFailure says how one attempt at an upstream went wrong.
type UpstreamFailure uint8

// The reasons of relay_upstream_errors_total. The zero value is no reason.
const (
	FailureNone UpstreamFailure = iota
	FailureDNS
	FailureConnect
	FailureTLS
	FailureTimeoutConnect
	FailureTimeoutHead
	FailureTimeoutFirstEvent
	FailureTimeoutIdle
	FailureTimeoutTotal
	FailureAuth     // 401, 403: the relay's own credential was refused
	FailureHTTP429  // the shared account's limit
	FailureHTTP4xx  // other 4xx: most often the client's request is at fault
	FailureHTTP5xx  // 5xx
	FailureEvent    // an error event within a stream
	FailureCut      // the answer ended before its end
	FailureProtocol // not HTTP, or not what the head promised
	FailureBusy     // max_connections: no connection came free
	FailureUnknown
	numUpstreamFailures
)

var upstreamFailures = [numUpstreamFailures]string{
	"", "dns", "connect", "tls", "timeout_connect", "timeout_head", "timeout_first_event", "timeout_idle",
	"timeout_total", "auth", "http_429", "http_4xx", "http_5xx", "error_event", "truncated", "protocol", "busy", "unknown",
}

// String returns the label value.
func (f UpstreamFailure) String() string { return upstreamFailures[f] }

// FailureOf tells how an attempt went wrong that was answered with a status.
func FailureOf(status int) UpstreamFailure {
	switch {
	case status == 401 || status == 403:
		return FailureAuth
	case status == 429:
		return FailureHTTP429
	case status >= 400 && status < 500:
		return FailureHTTP4xx
	case status >= 500:
		return FailureHTTP5xx
	}
	return FailureNone
}

// failure tells how the last attempt of r went wrong: in its owner's words
// where there are any, else by status and end reason.
func failure(r *Request) UpstreamFailure {
	if r.Failure > FailureNone && r.Failure < numUpstreamFailures {
		return r.Failure
	}
	if f := FailureOf(r.UpstreamStatus); f != FailureNone {
		return f
	}
	switch r.End {
	case TimeoutConnect:
		return FailureTimeoutConnect
	case TimeoutHead:
		return FailureTimeoutHead
	case TimeoutFirstEvent:
		return FailureTimeoutFirstEvent
	case TimeoutIdle:
		return FailureTimeoutIdle
	case TimeoutTotal:
		return FailureTimeoutTotal
	case UpstreamCut, UpstreamIncomplete:
		return FailureCut
	case UpstreamError:
		if r.UpstreamStatus != 0 {
			return FailureEvent
		}
		return FailureUnknown
	}
	return FailureNone
}

// abort is who ended a stream early, the label of relay_stream_aborts_total.
type abort uint8

const (
	abortClient abort = iota
	abortUpstream
	abortDrain
	abortLimit
	abortInternal
	numAborts
	notAborted
)

var aborts = [numAborts]string{"client", "upstream", "drain", "limit", "internal"}

// abortBy returns who ended a stream that ended with end.
func abortBy(end EndReason) abort {
	switch end {
	case ClientGone:
		return abortClient
	case UpstreamCut, UpstreamIncomplete, UpstreamError, TimeoutFirstEvent, TimeoutIdle:
		return abortUpstream
	case Drained:
		return abortDrain
	case TimeoutTotal, Limited, Shed, Denied:
		return abortLimit
	case Internal:
		return abortInternal
	}
	return notAborted
}
