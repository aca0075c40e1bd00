package requestlog

import (
	"encoding/hex"
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

// text returns at most max bytes of b as a string that shares b's memory: it
// lives no longer than the append that it is made for.
func text(b []byte, max int) string {
	if len(b) > max {
		b = b[:max]
	}
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// clientRequestID returns id where it is not the text of own.
func clientRequestID(id []byte, own [16]byte) string {
	if isID(id, &own) {
		return ""
	}
	return text(id, maxText)
}

// isID reports whether text is id as telemetry.AppendID writes it.
func isID(text []byte, id *[16]byte) bool {
	const digits = "0123456789abcdef"
	if len(text) != 36 {
		return false
	}
	at := 0
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			if text[at] != '-' {
				return false
			}
			at++
		}
		if text[at] != digits[b>>4] || text[at+1] != digits[b&15] {
			return false
		}
		at += 2
	}
	return true
}

// scratch is a row in the making and the memory of what it is made of.
type scratch struct {
	Row
	hex [48]byte
}

// fill makes row the row of r. Text in it is r's own memory, or row's, to be
// copied by the batch before the caller has r again.
func (n *names) fill(row *scratch, r *telemetry.Request) {
	model := n.model(r)
	row.Endpoint, row.Upstream, row.Credential = n.endpoint(r.Endpoint), n.upstream(r.Upstream), n.credential(r.Upstream, r.Credential)
	row.ID, row.Start = r.ID, r.Start/1e6
	row.Instance = n.instance
	row.ClientRequestID = clientRequestID(r.RequestID, r.ID)
	row.Tenant, row.KeyID = text(r.Tenant, maxTenant), r.KeyID
	row.Method = text(r.Method, 16)
	row.Model, row.ModelRequested = "", ""
	if model != nil {
		row.Model = model.name
	} else if len(r.Model) > 0 {
		row.Model, row.ModelRequested = other, text(r.Model, maxText)
	}
	row.UpstreamID = text(r.UpstreamRequestID, maxText)
	row.Status, row.UpstreamStatus = uint16(r.Status), uint16(r.UpstreamStatus)
	row.EndReason, row.Error = min(r.End, telemetry.Internal).String(), r.Error
	row.Stream = r.Stream
	row.Attempts = uint8(min(max(r.Attempts, 0), 255))

	row.UsageSource = r.UsageSource
	row.Input, row.Output, row.Cached, row.CacheWrite, row.Thought = 0, 0, 0, 0, 0
	row.Cost, row.CostKnown = 0, false
	if r.UsageSource != telemetry.UsageUnknown {
		u := &r.Usage
		row.Input, row.Output, row.Cached = count(u.Input), count(u.Output), count(u.Cached)
		row.CacheWrite, row.Thought = count(u.CacheWrite), count(u.Reasoning)
		if model != nil && model.price != nil {
			row.Cost, row.CostKnown = model.price.cost(&row.Row, n.excludesCache(r.Upstream)), true
		}
	}
	row.Duration, row.UpstreamHead, row.FirstEvent = micros(r.Duration), micros(r.UpstreamHead), micros(r.FirstEvent)
	row.TTFT, row.Overhead = micros(r.TTFT), micros(r.Overhead)
	row.GapP50, row.GapMax = 0, 0
	if r.Gaps != nil && r.Gaps.N > 0 {
		row.GapP50, row.GapMax = micros(gapMedian(r.Gaps)), micros(r.Gaps.Max)
	}
	row.Events, row.ContentEvents = count(r.Events), count(r.ContentEvents)
	row.BytesIn, row.BytesOut = count(r.BytesIn), count(r.BytesOut)
	row.ClientIP = [16]byte{}
	if r.Client.IsValid() {
		row.ClientIP = r.Client.As16()
	}
	row.UserAgent = text(r.UserAgent, maxText)
	row.Tries = row.Tries[:0]
	for _, t := range r.Tries[:min(max(r.Attempts-1, 0), telemetry.MaxTries)] {
		u := int(t.Upstream)
		row.Tries = append(row.Tries, Try{n.upstream(u), n.credential(u, int(t.Credential)), t.Status, min(t.Failure, telemetry.FailureUnknown).String()})
	}
	row.TraceID, row.ParentSpanID = "", ""
	if r.TraceID != [16]byte{} {
		hex.Encode(row.hex[:32], r.TraceID[:])
		hex.Encode(row.hex[32:], r.ParentID[:])
		row.TraceID, row.ParentSpanID = text(row.hex[:32], 32), text(row.hex[32:], 16)
	}
}

// Client is the client's address as people write it, "" where there is none.
func (r *Row) Client() string {
	if r.ClientIP == [16]byte{} {
		return ""
	}
	return netip.AddrFrom16(r.ClientIP).Unmap().String()
}

// count is n, or 0 where nothing was said.
func count(n int64) uint64 { return uint64(max(n, 0)) }

// micros rounds nanoseconds up, so that what took time is never 0.
func micros(ns int64) uint64 { return uint64(max(ns, 0)+999) / 1000 }

// gapMedian is the middle of the gaps, taken as evenly spread within its
// bucket and never above the largest.
func gapMedian(g *telemetry.Gaps) int64 {
	half, below := (g.N+1)/2, uint32(0)
	low := int64(0)
	for i, n := range g.Counts {
		high := g.Max
		if i < len(telemetry.GapBuckets) {
			high = min(high, telemetry.GapBuckets[i])
		}
		if n > 0 && below+n >= half {
			return low + (high-low)*int64(half-below)/int64(n)
		}
		below += n
		if i < len(telemetry.GapBuckets) {
			low = telemetry.GapBuckets[i]
		}
	}
	return g.Max
}
