package requestlog

import (
	"encoding/binary"

	"github.com/ClickHouse/ch-go/proto"

	"streamrelay/telemetry"
)

// SchemaVersion stands in the names of files that hold blocks. It changes when
// a column changes its meaning; columns that are added do not change it, since
// blocks name their columns.
const SchemaVersion = 1

// usageType names the values of telemetry.UsageSource.
const usageType = "Enum8('unknown' = 0, 'provider' = 1, 'partial' = 2)"

// millisType is the column type of Row.Start.
const millisType = "DateTime64(3, 'UTC')"

// millis is a DateTime64(3) column of Unix milliseconds.
type millis struct{ proto.ColInt64 }

func (millis) Type() proto.ColumnType { return millisType }

// usage is the column of UsageSource.
type usage struct{ proto.ColInt8 }

func (usage) Type() proto.ColumnType { return usageType }

// nullable is a Nullable(Int64) column.
type nullable struct {
	null  proto.ColUInt8
	value proto.ColInt64
}

func (*nullable) Type() proto.ColumnType         { return "Nullable(Int64)" }
func (c *nullable) Rows() int                    { return len(c.value) }
func (c *nullable) EncodeColumn(b *proto.Buffer) { c.null.EncodeColumn(b); c.value.EncodeColumn(b) }
func (c *nullable) WriteColumn(w *proto.Writer)  { c.null.WriteColumn(w); c.value.WriteColumn(w) }
func (c *nullable) Reset()                       { c.null.Reset(); c.value.Reset() }
func (c *nullable) add(v int64, known bool) {
	null := uint8(1)
	if known {
		null = 0
	}
	c.null, c.value = append(c.null, null), append(c.value, v)
}

// texts is a String column. It holds the values as they are sent, each behind
// its length, since a block is written twice: to the spool and to ClickHouse.
type texts struct {
	rows int
	buf  []byte
}

func (c *texts) Type() proto.ColumnType       { return proto.ColumnTypeString }
func (c *texts) Rows() int                    { return c.rows }
func (c *texts) EncodeColumn(b *proto.Buffer) { b.Buf = append(b.Buf, c.buf...) }
func (c *texts) WriteColumn(w *proto.Writer)  { w.ChainWrite(c.buf) }
func (c *texts) Reset()                       { c.rows, c.buf = 0, c.buf[:0] }

func (c *texts) Append(s string) {
	c.rows++
	if len(s) == 0 {
		c.buf = append(c.buf, 0)
		return
	}
	c.buf = append(binary.AppendUvarint(c.buf, uint64(len(s))), s...)
}

// dicts is an Array(LowCardinality(String)) column.
type dicts struct {
	ends proto.ColUInt64 // of each row's elements
	of   *dict
}

func newDicts() *dicts { return &dicts{of: newDict(maxDict)} }

func (c *dicts) Type() proto.ColumnType       { return c.of.Type().Array() }
func (c *dicts) Rows() int                    { return len(c.ends) }
func (c *dicts) EncodeState(b *proto.Buffer)  { c.of.EncodeState(b) }
func (c *dicts) EncodeColumn(b *proto.Buffer) { c.ends.EncodeColumn(b); c.of.EncodeColumn(b) }
func (c *dicts) WriteColumn(w *proto.Writer)  { c.ends.WriteColumn(w); c.of.WriteColumn(w) }
func (c *dicts) Reset()                       { c.ends.Reset(); c.of.Reset() }

// columns are the columns of one batch, in the order of the table's.
type columns struct {
	id                                                       proto.ColUUID
	ts                                                       millis
	instance                                                 *dict
	clientRequestID                                          texts
	tenant, keyID, method, endpoint, model                   *dict
	modelRequested                                           texts
	upstream, credential                                     *dict
	upstreamID                                               texts
	status, upstreamStatus                                   proto.ColUInt16
	endReason, err                                           *dict
	stream                                                   proto.ColBool
	attempts                                                 proto.ColUInt8
	usageSource                                              usage
	input, output, cached, cacheWrite, thought               proto.ColUInt64
	cost                                                     nullable
	duration, upstreamHead, firstEvent, ttft, overhead       proto.ColUInt64
	gapP50, gapMax, events, contentEvents, bytesIn, bytesOut proto.ColUInt64

	// The same columns, as records have their numbers.
	tokens [numTokens]*proto.ColUInt64
	times  [numTimes]*proto.ColUInt64
	counts [numCounts]*proto.ColUInt64

	clientIP                   proto.ColIPv6
	userAgent                  *dict
	tryUpstream, tryCredential *dicts
	tryStatus                  *proto.ColArr[uint16]
	tryFailure                 *dicts
	traceID, parentSpanID      texts
}

// list lists the columns under their names in the table.
func (c *columns) list() proto.Input {
	return proto.Input{
		{Name: "id", Data: &c.id}, {Name: "ts", Data: &c.ts}, {Name: "instance", Data: c.instance},
		{Name: "client_request_id", Data: &c.clientRequestID},
		{Name: "tenant", Data: c.tenant}, {Name: "key_id", Data: c.keyID}, {Name: "method", Data: c.method},
		{Name: "endpoint", Data: c.endpoint}, {Name: "model", Data: c.model}, {Name: "model_requested", Data: &c.modelRequested},
		{Name: "upstream", Data: c.upstream}, {Name: "credential", Data: c.credential}, {Name: "upstream_id", Data: &c.upstreamID},
		{Name: "status", Data: &c.status}, {Name: "upstream_status", Data: &c.upstreamStatus},
		{Name: "end_reason", Data: c.endReason}, {Name: "error", Data: c.err}, {Name: "stream", Data: &c.stream},
		{Name: "attempts", Data: &c.attempts}, {Name: "usage_source", Data: &c.usageSource},
		{Name: "input_tokens", Data: &c.input}, {Name: "output_tokens", Data: &c.output}, {Name: "cached_tokens", Data: &c.cached},
		{Name: "cache_write_tokens", Data: &c.cacheWrite}, {Name: "reasoning_tokens", Data: &c.thought},
		{Name: "cost_nano", Data: &c.cost},
		{Name: "duration_us", Data: &c.duration}, {Name: "upstream_head_us", Data: &c.upstreamHead},
		{Name: "first_event_us", Data: &c.firstEvent}, {Name: "ttft_us", Data: &c.ttft}, {Name: "overhead_us", Data: &c.overhead},
		{Name: "gap_p50_us", Data: &c.gapP50}, {Name: "gap_max_us", Data: &c.gapMax},
		{Name: "events", Data: &c.events}, {Name: "content_events", Data: &c.contentEvents},
		{Name: "bytes_in", Data: &c.bytesIn}, {Name: "bytes_out", Data: &c.bytesOut},
		{Name: "client_ip", Data: &c.clientIP}, {Name: "user_agent", Data: c.userAgent},
		{Name: "tries.upstream", Data: c.tryUpstream}, {Name: "tries.credential", Data: c.tryCredential},
		{Name: "tries.status", Data: c.tryStatus}, {Name: "tries.failure", Data: c.tryFailure},
		{Name: "trace_id", Data: &c.traceID}, {Name: "parent_span_id", Data: &c.parentSpanID},
	}
}

func newColumns() *columns {
	c := &columns{
		instance: newDict(maxDict), tenant: newDict(maxDict), keyID: newDict(maxDict), method: newDict(64), endpoint: newDict(maxDict), model: newDict(maxDict),
		upstream: newDict(maxDict), credential: newDict(maxDict), endReason: newDict(maxDict), err: newDict(maxDict),
		userAgent:   newDict(1024), // clients choose it
		tryUpstream: newDicts(), tryCredential: newDicts(), tryFailure: newDicts(),
		tryStatus: &proto.ColArr[uint16]{Data: new(proto.ColUInt16)},
	}
	c.tokens = [numTokens]*proto.ColUInt64{&c.input, &c.output, &c.cached, &c.cacheWrite, &c.thought}
	c.times = [numTimes]*proto.ColUInt64{&c.duration, &c.upstreamHead, &c.firstEvent, &c.ttft, &c.overhead, &c.gapP50, &c.gapMax}
	c.counts = [numCounts]*proto.ColUInt64{&c.events, &c.contentEvents, &c.bytesIn, &c.bytesOut}
	return c
}

// add appends row, copying its text.
func (c *columns) add(row *Row) {
	c.id = append(c.id, row.ID)
	c.ts.ColInt64 = append(c.ts.ColInt64, row.Start)
	c.instance.add(row.Instance)
	c.clientRequestID.Append(row.ClientRequestID)
	c.tenant.add(row.Tenant)
	c.keyID.add(row.KeyID)
	c.method.add(row.Method)
	c.endpoint.add(row.Endpoint)
	c.model.add(row.Model)
	c.modelRequested.Append(row.ModelRequested)
	c.upstream.add(row.Upstream)
	c.credential.add(row.Credential)
	c.upstreamID.Append(row.UpstreamID)
	c.status = append(c.status, row.Status)
	c.upstreamStatus = append(c.upstreamStatus, row.UpstreamStatus)
	c.endReason.add(row.EndReason)
	c.err.add(row.Error)
	c.stream = append(c.stream, row.Stream)
	c.attempts = append(c.attempts, row.Attempts)
	c.usageSource.ColInt8 = append(c.usageSource.ColInt8, int8(row.UsageSource))
	c.input = append(c.input, row.Input)
	c.output = append(c.output, row.Output)
	c.cached = append(c.cached, row.Cached)
	c.cacheWrite = append(c.cacheWrite, row.CacheWrite)
	c.thought = append(c.thought, row.Thought)
	c.cost.add(row.Cost, row.CostKnown)
	c.duration = append(c.duration, row.Duration)
	c.upstreamHead = append(c.upstreamHead, row.UpstreamHead)
	c.firstEvent = append(c.firstEvent, row.FirstEvent)
	c.ttft = append(c.ttft, row.TTFT)
	c.overhead = append(c.overhead, row.Overhead)
	c.gapP50 = append(c.gapP50, row.GapP50)
	c.gapMax = append(c.gapMax, row.GapMax)
	c.events = append(c.events, row.Events)
	c.contentEvents = append(c.contentEvents, row.ContentEvents)
	c.bytesIn = append(c.bytesIn, row.BytesIn)
	c.bytesOut = append(c.bytesOut, row.BytesOut)
	c.clientIP = append(c.clientIP, row.ClientIP)
	c.userAgent.add(row.UserAgent)
	for _, t := range row.Tries {
		c.addTry(t.Upstream, t.Credential, t.Status, t.Failure)
	}
	c.endTries()
	c.traceID.Append(row.TraceID)
	c.parentSpanID.Append(row.ParentSpanID)
}

// addTry appends an element to the arrays of the row that endTries ends.
func (c *columns) addTry(upstream, credential string, status uint16, failure string) {
	c.tryUpstream.of.add(upstream)
	c.tryCredential.of.add(credential)
	c.tryStatus.Data.Append(status)
	c.tryFailure.of.add(failure)
}

func (c *columns) endTries() {
	n := uint64(len(c.tryUpstream.of.keys))
	c.tryUpstream.ends = append(c.tryUpstream.ends, n)
	c.tryCredential.ends = append(c.tryCredential.ends, n)
	c.tryStatus.Offsets = append(c.tryStatus.Offsets, n)
	c.tryFailure.ends = append(c.tryFailure.ends, n)
}

// UsageName is the name of a value of telemetry.UsageSource.
func UsageName(s telemetry.UsageSource) string {
	return [...]string{"unknown", "provider", "partial"}[min(s, telemetry.UsagePartial)]
}
