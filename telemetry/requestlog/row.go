package requestlog

import (
	"net/netip"
	"unsafe"

	"streamrelay/telemetry"
)

// Row is one request as the log holds it. Counts of tokens mean something only
// where UsageSource is not unknown, and Cost only where CostKnown is true.
// Times are Unix milliseconds, durations microseconds.
type Row struct {
	ID               [16]byte // ours, UUIDv7
	Start            int64    // when the request began
	Instance         string   // the relay that served it
	ClientRequestID  string   // what the client called it; "": the text of ID is the request id
	Tenant, KeyID    string
	Method, Endpoint string
	Model            string // as asked for, where it is known to the relay; else "other"
	ModelRequested   string // the client's text where Model is "other"
	Upstream         string // "": none was chosen
	Credential       string
	UpstreamID       string // the provider's own id of the request

	Status, UpstreamStatus uint16
	EndReason, Error       string
	Stream                 bool
	Attempts               uint8

	UsageSource                                telemetry.UsageSource
	Input, Output, Cached, CacheWrite, Thought uint64 // tokens; Thought: for reasoning
	Cost                                       int64  // nano US dollars
	CostKnown                                  bool

	Duration, UpstreamHead, FirstEvent, TTFT, Overhead uint64
	GapP50, GapMax                                     uint64 // between events
	Events, ContentEvents                              uint64
	BytesIn, BytesOut                                  uint64
	ClientIP                                           [16]byte // IPv6, or IPv4 mapped
	UserAgent                                          string

	Tries []Try // the attempts before the last
	// The client's trace and its span that called, in hex; "": it sent none.
	TraceID, ParentSpanID string
}

// Try is an attempt that failed and was followed by another.
type Try struct {
	Upstream, Credential string
	Status               uint16 // 0: no answer
	Failure              string // as telemetry names it
}

// The most of a client's text that a row holds, in bytes.
const (
	maxText   = 128
	maxTenant = 64
)

// RequestID is what the client sees.
func (r *Row) RequestID() string {
	if r.ClientRequestID != "" {
		return r.ClientRequestID
	}
	return string(telemetry.AppendID(nil, r.ID))
}

// Client is the client's address as people write it, "" where there is none.
func (r *Row) Client() string {
	if r.ClientIP == [16]byte{} {
		return ""
	}
	return netip.AddrFrom16(r.ClientIP).Unmap().String()
}

// text returns at most max bytes of b as a string that shares b's memory: it
// lives no longer than the append that it is made for.
func text(b []byte, max int) string {
	if len(b) > max {
		b = b[:max]
	}
	return unsafe.String(unsafe.SliceData(b), len(b))
}
