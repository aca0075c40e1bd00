package requestlog

import (
	"encoding/binary"
	"unsafe"

	"streamrelay/telemetry"
)

// record is an exchange as Append writes it down: what it costs a request is
// one run of bytes, copied and not looked into. Names, prices, dictionaries and
// columns are the sealer's work; appending to some forty columns would touch as
// many cold lines of memory for each request.
type record struct {
	id, traceID, client [16]byte
	start               int64            // Unix nanoseconds
	tokens              [numTokens]int64 // -1: not named
	times               [numTimes]int64  // nanoseconds
	counts              [numCounts]int64

	parentID                       [8]byte
	text                           uint32 // where its texts begin, one after the other
	lengths                        [numTexts]uint8
	status, upstreamStatus         uint16
	endpoint, upstream, credential int16
	end                            telemetry.EndReason
	usageSource                    telemetry.UsageSource
	attempts, tries                uint8 // as they are, and how many stand behind the texts
	stream                         bool
}

// How many numbers of a kind a record has; columns.tokens and so on are in the
// same order.
const (
	numTokens = 5
	numTimes  = 7
	numCounts = 4
)

// The texts of a record.
const (
	textRequestID = iota
	textTenant
	textKey
	textMethod
	textModel
	textUpstreamModel
	textUserAgent
	textUpstreamID
	textError
	numTexts
)

// maxTexts are their longest lengths in bytes; a model may be one byte too
// long, so that it is known to be.
var maxTexts = [numTexts]int{maxText, maxTenant, maxText, 16, maxText + 1, maxText, maxText, maxText, maxText}

const (
	tryBytes = 2 + 2 + 2 + 1
	// maxRecordText is the most that one record's texts and tries take.
	maxRecordText = 7*maxText + 1 + maxTenant + 16 + telemetry.MaxTries*tryBytes
	// textEach is how much room a record has on the average before its batch is
	// full early.
	textEach = 160
)

// records is what requests append to.
type records struct {
	names *names // what the numbers in them mean
	list  []record
	text  []byte
	first int64 // Unix milliseconds: when the first one came
}

func newRecords(n int) *records {
	return &records{list: make([]record, 0, n), text: make([]byte, 0, n*textEach+maxRecordText)}
}

func (b *records) reset() { b.list, b.text, b.names = b.list[:0], b.text[:0], nil }

// add appends q and reports whether another one fits. It stores field by field:
// a load of 16 bytes that were stored as two times 8 waits until all stores
// before it have reached their cold lines, which was most of what add took.
func (b *records) add(q *telemetry.Request) (room bool) {
	if len(b.list) == 0 {
		b.first = (q.Start + q.Duration) / 1e6
	}
	var high, low uint64 // before anything is stored: an address comes in two halves
	if q.Client.IsValid() {
		client := q.Client.As16()
		high, low = binary.NativeEndian.Uint64(client[:8]), binary.NativeEndian.Uint64(client[8:])
	}
	n := len(b.list)
	b.list = b.list[:n+1]
	r := &b.list[n]
	r.id = q.ID
	r.traceID = q.TraceID
	r.parentID = q.ParentID
	binary.NativeEndian.PutUint64(r.client[:8], high)
	binary.NativeEndian.PutUint64(r.client[8:], low)
	r.start = q.Start
	r.tokens[0], r.tokens[1], r.tokens[2] = q.Usage.Input, q.Usage.Output, q.Usage.Cached
	r.tokens[3], r.tokens[4] = q.Usage.CacheWrite, q.Usage.Reasoning
	gapP50, gapMax := int64(0), int64(0)
	if q.Gaps != nil && q.Gaps.N > 0 {
		gapP50, gapMax = gapMedian(q.Gaps), q.Gaps.Max
	}
	r.times[0], r.times[1], r.times[2], r.times[3] = q.Duration, q.UpstreamHead, q.FirstEvent, q.TTFT
	r.times[4], r.times[5], r.times[6] = q.Overhead, gapP50, gapMax
	r.counts[0], r.counts[1], r.counts[2], r.counts[3] = q.Events, q.ContentEvents, q.BytesIn, q.BytesOut
	r.status, r.upstreamStatus = uint16(q.Status), uint16(q.UpstreamStatus)
	r.endpoint, r.upstream, r.credential = int16(q.Endpoint), int16(q.Upstream), int16(q.Credential)
	r.end, r.usageSource, r.stream = q.End, q.UsageSource, q.Stream
	r.attempts = uint8(min(max(q.Attempts, 0), 255))

	r.text = uint32(len(b.text))
	b.put(r, textRequestID, q.RequestID)
	b.put(r, textTenant, q.Tenant)
	b.put(r, textKey, bytesOf(q.KeyID))
	b.put(r, textMethod, q.Method)
	b.put(r, textModel, q.Model)
	b.put(r, textUpstreamModel, q.UpstreamModel)
	b.put(r, textUserAgent, q.UserAgent)
	b.put(r, textUpstreamID, q.UpstreamRequestID)
	b.put(r, textError, bytesOf(q.Error))
	r.tries = uint8(min(max(q.Attempts-1, 0), telemetry.MaxTries))
	for _, t := range q.Tries[:r.tries] {
		b.text = binary.LittleEndian.AppendUint16(b.text, uint16(t.Upstream))
		b.text = binary.LittleEndian.AppendUint16(b.text, uint16(t.Credential))
		b.text = binary.LittleEndian.AppendUint16(b.text, t.Status)
		b.text = append(b.text, byte(t.Failure))
	}
	return len(b.list) < cap(b.list) && cap(b.text)-len(b.text) >= maxRecordText
}

func (b *records) put(r *record, which int, s []byte) {
	if len(s) > maxTexts[which] {
		s = s[:maxTexts[which]]
	}
	r.lengths[which] = uint8(len(s))
	if len(s) > 0 {
		b.text = append(b.text, s...)
	}
}

func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

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
