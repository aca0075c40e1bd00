package requestlog

import (
	"bytes"
	"fmt"

	"github.com/ClickHouse/ch-go/proto"

	"streamrelay/telemetry"
)

// maxBlockRows bounds what a damaged row count can make a reader allocate; no
// block that this program writes has more.
const maxBlockRows = maxDict

// Block is one decoded block, whatever version of this program wrote it: its
// columns are those that the block names. The zero value is ready and may be
// used again; not for concurrent use.
type Block struct {
	columns proto.Results
	fill    []func(row *Row, i int)
	rows    int
}

// Decode reads one block in the Native format, revision 0, which is all of
// native. What came by spool.Folder.Read has passed its checksum; any other
// gives an error, never a panic.
func (b *Block) Decode(native []byte) (err error) {
	defer func() {
		if v := recover(); v != nil { // of ch-go
			err = fmt.Errorf("decode block: %v", v)
		}
	}()
	b.rows, b.fill = 0, b.fill[:0]
	if err := skim(native); err != nil {
		return fmt.Errorf("decode block: %w", err)
	}
	r := proto.NewReader(bytes.NewReader(native))
	b.columns = b.columns[:0]
	var head proto.Block
	if err := head.DecodeRawBlock(r, 0, b.columns.Auto()); err != nil {
		return fmt.Errorf("decode block: %w", err)
	}
	b.rows = head.Rows
	for _, c := range b.columns {
		if c.Data.Rows() != head.Rows {
			return fmt.Errorf("decode block: column %s has %d rows of %d", c.Name, c.Data.Rows(), head.Rows)
		}
		if f := setter(c); f != nil {
			b.fill = append(b.fill, f)
		}
	}
	return nil
}

// Rows is how many rows the block has.
func (b *Block) Rows() int { return b.rows }

// Row fills row with the i-th row; what the block has no column for is zero.
func (b *Block) Row(i int, row *Row) {
	*row = Row{}
	for _, f := range b.fill {
		f(row, i)
	}
}

// Input lists the columns for an INSERT of the block as it is.
func (b *Block) Input() proto.Input {
	in := make(proto.Input, 0, len(b.columns))
	for _, c := range b.columns {
		if data, ok := c.Data.(proto.ColInput); ok {
			in = append(in, proto.InputColumn{Name: c.Name, Data: data})
		}
	}
	return in
}

// Reset implements batch; Decode does it too.
func (b *Block) Reset() { b.rows, b.columns = 0, nil }

// Results returns the columns of a SELECT that Row can be read from, in the
// order of Columns.
func (b *Block) Results() *proto.Results { return &b.columns }

// Bind makes the columns that a SELECT has just filled the block's.
func (b *Block) Bind(rows int) {
	b.rows, b.fill = rows, b.fill[:0]
	for _, c := range b.columns {
		if f := setter(c); f != nil {
			b.fill = append(b.fill, f)
		}
	}
}

// Columns are the names of the columns that this version writes, in order.
func Columns() []string {
	list := newColumns().list()
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = c.Name
	}
	return names
}

// data is the column that was found to be c's.
func data(c proto.ResultColumn) proto.ColResult {
	if auto, ok := c.Data.(*proto.ColAuto); ok {
		return auto.Data
	}
	return c.Data
}

// setter returns what copies column c's value into a row, nil for a column
// that rows do not have.
func setter(c proto.ResultColumn) func(*Row, int) {
	switch col := data(c).(type) {
	case *proto.ColUUID:
		if c.Name == "id" {
			return func(r *Row, i int) { r.ID = (*col)[i] }
		}
	case *proto.ColDateTime64:
		if c.Name == "ts" {
			return func(r *Row, i int) { r.Start = int64(col.Data[i]) }
		}
	case *proto.ColStr:
		if field := stringField(c.Name); field != nil {
			return func(r *Row, i int) { *field(r) = col.Row(i) }
		}
	case *proto.ColLowCardinality[string]:
		if field := stringField(c.Name); field != nil {
			return func(r *Row, i int) { *field(r) = col.Row(i) }
		}
	case *proto.ColUInt64:
		if field := uint64Field(c.Name); field != nil {
			return func(r *Row, i int) { *field(r) = (*col)[i] }
		}
	case *proto.ColUInt16:
		switch c.Name {
		case "status":
			return func(r *Row, i int) { r.Status = (*col)[i] }
		case "upstream_status":
			return func(r *Row, i int) { r.UpstreamStatus = (*col)[i] }
		}
	case *proto.ColUInt8:
		if c.Name == "attempts" {
			return func(r *Row, i int) { r.Attempts = (*col)[i] }
		}
	case *proto.ColBool:
		if c.Name == "stream" {
			return func(r *Row, i int) { r.Stream = (*col)[i] }
		}
	case *proto.ColEnum:
		if c.Name == "usage_source" {
			return func(r *Row, i int) { r.UsageSource = usageSource(col.Row(i)) }
		}
	case *proto.ColNullable[int64]:
		if c.Name == "cost_nano" {
			return func(r *Row, i int) { v := col.Row(i); r.Cost, r.CostKnown = v.Value, v.Set }
		}
	case *proto.ColIPv6:
		if c.Name == "client_ip" {
			return func(r *Row, i int) { r.ClientIP = (*col)[i] }
		}
	case *proto.ColArr[string]:
		if field := tryField(c.Name); field != nil {
			return func(r *Row, i int) {
				for at, v := range col.Row(i) {
					*field(r.try(at)) = v
				}
			}
		}
	case *proto.ColArr[uint16]:
		if c.Name == "tries.status" {
			return func(r *Row, i int) {
				for at, v := range col.Row(i) {
					r.try(at).Status = v
				}
			}
		}
	}
	return nil
}

// try is the row's i-th try, which is made where it is not there yet.
func (r *Row) try(i int) *Try {
	for len(r.Tries) <= i {
		r.Tries = append(r.Tries, Try{})
	}
	return &r.Tries[i]
}

func tryField(column string) func(*Try) *string {
	switch column {
	case "tries.upstream":
		return func(t *Try) *string { return &t.Upstream }
	case "tries.credential":
		return func(t *Try) *string { return &t.Credential }
	case "tries.failure":
		return func(t *Try) *string { return &t.Failure }
	}
	return nil
}

func usageSource(name string) telemetry.UsageSource {
	for s := telemetry.UsageUnknown; s <= telemetry.UsagePartial; s++ {
		if UsageName(s) == name {
			return s
		}
	}
	return telemetry.UsageUnknown
}

func stringField(column string) func(*Row) *string {
	switch column {
	case "instance":
		return func(r *Row) *string { return &r.Instance }
	case "client_request_id":
		return func(r *Row) *string { return &r.ClientRequestID }
	case "tenant":
		return func(r *Row) *string { return &r.Tenant }
	case "key_id":
		return func(r *Row) *string { return &r.KeyID }
	case "method":
		return func(r *Row) *string { return &r.Method }
	case "endpoint":
		return func(r *Row) *string { return &r.Endpoint }
	case "model":
		return func(r *Row) *string { return &r.Model }
	case "model_requested":
		return func(r *Row) *string { return &r.ModelRequested }
	case "upstream":
		return func(r *Row) *string { return &r.Upstream }
	case "credential":
		return func(r *Row) *string { return &r.Credential }
	case "upstream_id":
		return func(r *Row) *string { return &r.UpstreamID }
	case "end_reason":
		return func(r *Row) *string { return &r.EndReason }
	case "error":
		return func(r *Row) *string { return &r.Error }
	case "user_agent":
		return func(r *Row) *string { return &r.UserAgent }
	case "trace_id":
		return func(r *Row) *string { return &r.TraceID }
	case "parent_span_id":
		return func(r *Row) *string { return &r.ParentSpanID }
	}
	return nil
}

func uint64Field(column string) func(*Row) *uint64 {
	switch column {
	case "input_tokens":
		return func(r *Row) *uint64 { return &r.Input }
	case "output_tokens":
		return func(r *Row) *uint64 { return &r.Output }
	case "cached_tokens":
		return func(r *Row) *uint64 { return &r.Cached }
	case "cache_write_tokens":
		return func(r *Row) *uint64 { return &r.CacheWrite }
	case "reasoning_tokens":
		return func(r *Row) *uint64 { return &r.Thought }
	case "duration_us":
		return func(r *Row) *uint64 { return &r.Duration }
	case "upstream_head_us":
		return func(r *Row) *uint64 { return &r.UpstreamHead }
	case "first_event_us":
		return func(r *Row) *uint64 { return &r.FirstEvent }
	case "ttft_us":
		return func(r *Row) *uint64 { return &r.TTFT }
	case "overhead_us":
		return func(r *Row) *uint64 { return &r.Overhead }
	case "gap_p50_us":
		return func(r *Row) *uint64 { return &r.GapP50 }
	case "gap_max_us":
		return func(r *Row) *uint64 { return &r.GapMax }
	case "events":
		return func(r *Row) *uint64 { return &r.Events }
	case "content_events":
		return func(r *Row) *uint64 { return &r.ContentEvents }
	case "bytes_in":
		return func(r *Row) *uint64 { return &r.BytesIn }
	case "bytes_out":
		return func(r *Row) *uint64 { return &r.BytesOut }
	}
	return nil
}
