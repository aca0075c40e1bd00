package requestlog

import (
	"encoding/binary"
	"encoding/hex"
	"unsafe"

	"streamrelay/telemetry"
)

// record is an exchange as Append writes it down: what it costs a request is
// one run of bytes, copied and not looked into. Names, prices, dictionaries and
// columns are the sealer's work; appending to some forty columns would touch as
// many cold lines of memory for each request.
type record struct {
	id, traceID, client [16]byte
	usage               telemetry.Usage

	start, duration, upstreamHead, firstEvent, ttft, overhead int64 // as in Request
	gapP50, gapMax                                            int64
	events, contentEvents, bytesIn, bytesOut                  int64

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

// The texts of a record.
const (
	textRequestID = iota
	textTenant
	textKey
	textMethod
	textModel
	textUserAgent
	textUpstreamID
	textError
	numTexts
)

// maxTexts are their longest lengths in bytes; a model may be one byte too
// long, so that it is known to be.
var maxTexts = [numTexts]int{maxText, maxTenant, maxText, 16, maxText + 1, maxText, maxText, maxText}

const (
	tryBytes = 2 + 2 + 2 + 1
	// maxRecordText is the most that one record's texts and tries take.
	maxRecordText = 6*maxText + 1 + maxTenant + 16 + telemetry.MaxTries*tryBytes
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

// add appends q and reports whether another one fits.
func (b *records) add(q *telemetry.Request) (room bool) {
	if len(b.list) == 0 {
		b.first = (q.Start + q.Duration) / 1e6
	}
	n := len(b.list)
	b.list = b.list[:n+1]
	r := &b.list[n]
	r.id, r.traceID, r.parentID = q.ID, q.TraceID, q.ParentID
	r.client = [16]byte{}
	if q.Client.IsValid() {
		r.client = q.Client.As16()
	}
	r.usage = q.Usage
	r.start, r.duration, r.upstreamHead, r.firstEvent, r.ttft, r.overhead = q.Start, q.Duration, q.UpstreamHead, q.FirstEvent, q.TTFT, q.Overhead
	r.gapP50, r.gapMax = 0, 0
	if q.Gaps != nil && q.Gaps.N > 0 {
		r.gapP50, r.gapMax = gapMedian(q.Gaps), q.Gaps.Max
	}
	r.events, r.contentEvents, r.bytesIn, r.bytesOut = q.Events, q.ContentEvents, q.BytesIn, q.BytesOut
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
	b.text = append(b.text, s...)
}

func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// reader makes rows of records. It belongs to the sealer.
type reader struct {
	Row
	learned map[string]*model // that upstreams have answered to
	texts   [numTexts]string
	hex     [48]byte
}

// read makes r.Row the row of the i-th record. Its text is b's memory, or r's,
// until the next one is read.
func (r *reader) read(b *records, i int) {
	n, q, row := b.names, &b.list[i], &r.Row
	rest := b.text[q.text:]
	for t, length := range q.lengths {
		r.texts[t] = unsafe.String(unsafe.SliceData(rest), length)
		rest = rest[length:]
	}
	model := r.model(n, q, r.texts[textModel])
	row.ID, row.Start, row.Instance = q.id, q.start/1e6, n.instance
	if row.ClientRequestID = r.texts[textRequestID]; isID(row.ClientRequestID, &q.id) {
		row.ClientRequestID = ""
	}
	row.Tenant, row.KeyID, row.Method = r.texts[textTenant], r.texts[textKey], r.texts[textMethod]
	row.Endpoint, row.Upstream, row.Credential = n.endpoint(int(q.endpoint)), n.upstream(int(q.upstream)), n.credential(int(q.upstream), int(q.credential))
	row.Model, row.ModelRequested = "", ""
	if model != nil {
		row.Model = model.name
	} else if asked := r.texts[textModel]; asked != "" {
		row.Model, row.ModelRequested = other, asked[:min(len(asked), maxText)]
	}
	row.UpstreamID = r.texts[textUpstreamID]
	row.Status, row.UpstreamStatus = q.status, q.upstreamStatus
	row.EndReason, row.Error = min(q.end, telemetry.Internal).String(), r.texts[textError]
	row.Stream, row.Attempts = q.stream, q.attempts

	row.UsageSource = q.usageSource
	row.Input, row.Output, row.Cached, row.CacheWrite, row.Thought = 0, 0, 0, 0, 0
	row.Cost, row.CostKnown = 0, false
	if q.usageSource != telemetry.UsageUnknown {
		u := &q.usage
		row.Input, row.Output, row.Cached = count(u.Input), count(u.Output), count(u.Cached)
		row.CacheWrite, row.Thought = count(u.CacheWrite), count(u.Reasoning)
		if model != nil && model.price != nil {
			row.Cost, row.CostKnown = model.price.cost(row, n.excludesCache(int(q.upstream))), true
		}
	}
	row.Duration, row.UpstreamHead, row.FirstEvent = micros(q.duration), micros(q.upstreamHead), micros(q.firstEvent)
	row.TTFT, row.Overhead = micros(q.ttft), micros(q.overhead)
	row.GapP50, row.GapMax = micros(q.gapP50), micros(q.gapMax)
	row.Events, row.ContentEvents = count(q.events), count(q.contentEvents)
	row.BytesIn, row.BytesOut = count(q.bytesIn), count(q.bytesOut)
	row.ClientIP, row.UserAgent = q.client, r.texts[textUserAgent]

	row.Tries = row.Tries[:0]
	for range q.tries {
		at := func(i int) int { return int(int16(binary.LittleEndian.Uint16(rest[i:]))) }
		row.Tries = append(row.Tries, Try{
			n.upstream(at(0)), n.credential(at(0), at(2)), uint16(at(4)),
			min(telemetry.UpstreamFailure(rest[6]), telemetry.FailureUnknown).String(),
		})
		rest = rest[tryBytes:]
	}
	row.TraceID, row.ParentSpanID = "", ""
	if q.traceID != [16]byte{} {
		hex.Encode(r.hex[:32], q.traceID[:])
		hex.Encode(r.hex[32:], q.parentID[:])
		row.TraceID, row.ParentSpanID = unsafe.String(&r.hex[0], 32), unsafe.String(&r.hex[32], 16)
	}
}

// isID reports whether text is id as telemetry.AppendID writes it.
func isID(text string, id *[16]byte) bool {
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
