package telemetry

import "net/netip"

// EndReason says why an exchange ended. One enumeration for logs, metrics and rows.
type EndReason uint8

// The end reasons. Their order is part of the row format: append only.
const (
	Completed EndReason = iota
	ClientGone
	UpstreamCut
	UpstreamError
	UpstreamStatus
	TimeoutConnect
	TimeoutHead
	TimeoutFirstEvent
	TimeoutIdle
	TimeoutTotal
	Denied
	Limited
	Shed
	Drained
	Internal
	UpstreamIncomplete // ended properly as HTTP has it, without its dialect's end
	numEndReasons
)

var endReasons = [numEndReasons]string{
	"completed", "client_gone", "upstream_cut", "upstream_error", "upstream_status",
	"timeout_connect", "timeout_head", "timeout_first_event", "timeout_idle", "timeout_total",
	"denied", "limited", "shed", "drained", "internal", "upstream_incomplete",
}

// Known returns r, or Internal in place of what is no end reason.
func (r EndReason) Known() EndReason {
	if r >= numEndReasons {
		return Internal
	}
	return r
}

// String returns the name used in logs, metrics and rows.
func (r EndReason) String() string { return endReasons[r] }

// UsageSource says what token counts are worth.
type UsageSource uint8

// The usage sources. Counts mean something only where the source is not UsageUnknown.
const (
	UsageUnknown  UsageSource = iota // nothing was said; never recorded as 0
	UsageProvider                    // the provider's final word
	UsagePartial                     // a running total seen before the answer was cut short
)

// Usage is what the provider said, field by field; a field that it did not
// name is -1.
type Usage struct {
	Input, Output, Cached, CacheWrite, Reasoning int64
}

// MaxTries is one less than the attempts that an exchange may make.
const MaxTries = 9

// Try is an attempt that failed and was followed by another one.
type Try struct {
	Upstream   int16  // as Request.Upstream
	Credential int16  // index within the upstream
	Status     uint16 // 0: no answer
	Failure    UpstreamFailure
}

// Request is one finished exchange, as its owner describes it to Observe. All
// byte slices and strings may be parts of pooled buffers: Observe copies what
// it keeps. Times are nanoseconds; durations of what did not happen are 0.
type Request struct {
	ID        [16]byte // ours, UUIDv7
	RequestID []byte   // what the client sees, and may have chosen
	Start     int64    // Unix nanoseconds

	Endpoint   int    // index into Options.Endpoints
	Upstream   int    // index into Options.Upstreams, -1: none was chosen
	Credential int    // index within the upstream, -1: none
	Tenant     []byte // "" where the key was refused
	KeyID      string
	Model      []byte // as the client asked; client-chosen text
	// UpstreamModel is what a route made of Model, and what prices go by; nil:
	// the same.
	UpstreamModel []byte
	Method        []byte
	Path          []byte // without the query, which may hold a key
	UserAgent     []byte
	Client        netip.Addr

	UpstreamRequestID []byte // the provider's own id of the request, nil: it named none

	Status         int // what the client got; 499 when it left before a status
	UpstreamStatus int // 0: none
	End            EndReason
	Failure        UpstreamFailure // of the last attempt; FailureNone: told from UpstreamStatus and End
	Error          string          // code of the relay's own error, "" if none
	Stream         bool
	Attempts       int
	Tries          [MaxTries]Try // the first Attempts-1 count

	Duration, UpstreamHead, FirstEvent, TTFT int64
	Overhead                                 int64 // time inside the relay before the request left for the upstream
	Cancel                                   int64 // client's close seen to upstream closed; 0: not cancelled
	BytesIn, BytesOut                        int64
	Events, ContentEvents                    int64
	Gaps                                     *Gaps   // nil: not a stream
	Delays                                   *Delays // what the relay added to each piece of the answer; nil: nothing was relayed

	// The client's W3C trace context (https://www.w3.org/TR/trace-context/):
	// its trace and the span that called. TraceID is all zero where it sent
	// none, or none that is valid.
	TraceID  [16]byte
	ParentID [8]byte

	// The first bytes of both bodies, up to request_log.body_max, where they are
	// wanted; BytesIn and BytesOut say how long they were. Nil: not captured.
	RequestBody, AnswerBody []byte

	Usage       Usage
	UsageSource UsageSource
}
