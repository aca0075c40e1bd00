package logs

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"streamrelay/telemetry"
	"streamrelay/telemetry/requestlog"
)

// record is a row as JSON lines, CSV and Parquet have it. Names and units are
// the table's; what is not known is left out.
type record struct {
	Time           time.Time `json:"time" parquet:"time,timestamp(millisecond)"`
	RequestID      string    `json:"request_id" parquet:"request_id"`
	ID             string    `json:"id" parquet:"id"`
	Instance       string    `json:"instance" parquet:"instance,dict"`
	Tenant         string    `json:"tenant,omitempty" parquet:"tenant,dict"`
	KeyID          string    `json:"key_id,omitempty" parquet:"key_id,dict"`
	Method         string    `json:"method" parquet:"method,dict"`
	Endpoint       string    `json:"endpoint" parquet:"endpoint,dict"`
	Model          string    `json:"model,omitempty" parquet:"model,dict"`
	ModelRequested string    `json:"model_requested,omitempty" parquet:"model_requested"`
	Upstream       string    `json:"upstream,omitempty" parquet:"upstream,dict"`
	Credential     string    `json:"credential,omitempty" parquet:"credential,dict"`
	UpstreamID     string    `json:"upstream_id,omitempty" parquet:"upstream_id"`
	Status         int32     `json:"status" parquet:"status"`
	UpstreamStatus int32     `json:"upstream_status,omitempty" parquet:"upstream_status"`
	EndReason      string    `json:"end_reason" parquet:"end_reason,dict"`
	Error          string    `json:"error,omitempty" parquet:"error,dict"`
	Stream         bool      `json:"stream" parquet:"stream"`
	Attempts       int32     `json:"attempts" parquet:"attempts"`
	UsageSource    string    `json:"usage_source" parquet:"usage_source,dict"`
	Input          *int64    `json:"input_tokens,omitempty" parquet:"input_tokens,optional"`
	Output         *int64    `json:"output_tokens,omitempty" parquet:"output_tokens,optional"`
	Cached         *int64    `json:"cached_tokens,omitempty" parquet:"cached_tokens,optional"`
	CacheWrite     *int64    `json:"cache_write_tokens,omitempty" parquet:"cache_write_tokens,optional"`
	Reasoning      *int64    `json:"reasoning_tokens,omitempty" parquet:"reasoning_tokens,optional"`
	CostNano       *int64    `json:"cost_nano,omitempty" parquet:"cost_nano,optional"`
	Duration       int64     `json:"duration_us" parquet:"duration_us"`
	UpstreamHead   int64     `json:"upstream_head_us,omitempty" parquet:"upstream_head_us"`
	FirstEvent     int64     `json:"first_event_us,omitempty" parquet:"first_event_us"`
	TTFT           int64     `json:"ttft_us,omitempty" parquet:"ttft_us"`
	Overhead       int64     `json:"overhead_us,omitempty" parquet:"overhead_us"`
	GapP50         int64     `json:"gap_p50_us,omitempty" parquet:"gap_p50_us"`
	GapMax         int64     `json:"gap_max_us,omitempty" parquet:"gap_max_us"`
	Events         int64     `json:"events,omitempty" parquet:"events"`
	ContentEvents  int64     `json:"content_events,omitempty" parquet:"content_events"`
	BytesIn        int64     `json:"bytes_in" parquet:"bytes_in"`
	BytesOut       int64     `json:"bytes_out" parquet:"bytes_out"`
	ClientIP       string    `json:"client_ip,omitempty" parquet:"client_ip,dict"`
	TraceID        string    `json:"trace_id,omitempty" parquet:"trace_id"`
	ParentSpanID   string    `json:"parent_span_id,omitempty" parquet:"parent_span_id"`
	Tries          []try     `json:"tries,omitempty" parquet:"tries,list"`
	UserAgent      string    `json:"user_agent,omitempty" parquet:"user_agent,dict"`
}

// try is an attempt that failed and was followed by another.
type try struct {
	Upstream   string `json:"upstream" parquet:"upstream,dict"`
	Credential string `json:"credential,omitempty" parquet:"credential,dict"`
	Status     int32  `json:"status,omitempty" parquet:"status"`
	Failure    string `json:"failure,omitempty" parquet:"failure,dict"`
}

func newRecord(r *requestlog.Row) record {
	rec := record{
		Time: time.UnixMilli(r.Start).UTC(), RequestID: clean(r.RequestID()), ID: string(telemetry.AppendID(nil, r.ID)), Instance: clean(r.Instance),
		Tenant: clean(r.Tenant), KeyID: clean(r.KeyID), Method: clean(r.Method), Endpoint: r.Endpoint, Model: clean(r.Model), ModelRequested: clean(r.ModelRequested),
		Upstream: r.Upstream, Credential: r.Credential, UpstreamID: clean(r.UpstreamID),
		Status: int32(r.Status), UpstreamStatus: int32(r.UpstreamStatus), EndReason: r.EndReason, Error: r.Error, Stream: r.Stream, Attempts: int32(r.Attempts),
		UsageSource: requestlog.UsageName(r.UsageSource),
		Duration:    int64(r.Duration), UpstreamHead: int64(r.UpstreamHead), FirstEvent: int64(r.FirstEvent), TTFT: int64(r.TTFT), Overhead: int64(r.Overhead),
		GapP50: int64(r.GapP50), GapMax: int64(r.GapMax), Events: int64(r.Events), ContentEvents: int64(r.ContentEvents),
		BytesIn: int64(r.BytesIn), BytesOut: int64(r.BytesOut), ClientIP: r.Client(), UserAgent: clean(r.UserAgent),
		TraceID: r.TraceID, ParentSpanID: r.ParentSpanID,
	}
	for _, t := range r.Tries {
		rec.Tries = append(rec.Tries, try{t.Upstream, t.Credential, int32(t.Status), t.Failure})
	}
	if r.UsageSource != telemetry.UsageUnknown {
		number := func(n uint64) *int64 { v := int64(n); return &v }
		rec.Input, rec.Output, rec.Cached = number(r.Input), number(r.Output), number(r.Cached)
		rec.CacheWrite, rec.Reasoning = number(r.CacheWrite), number(r.Thought)
	}
	if r.CostKnown {
		cost := r.Cost
		rec.CostNano = &cost
	}
	return rec
}

// clean makes what clients sent safe for a terminal and for UTF-8 formats.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if commands(c) || c == unicode.ReplacementChar {
			return '?'
		}
		return c
	}, s)
}

// commands reports whether a terminal would take c for a command, or show what
// follows it in another order than it stands in.
func commands(c rune) bool { return unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) }

// printer writes rows as they come.
type printer interface {
	row(*requestlog.Row) error
	end() error
}

// jsonLines writes one object a line.
type jsonLines struct{ enc *json.Encoder }

func newJSONLines(w io.Writer) *jsonLines {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &jsonLines{enc}
}

func (p *jsonLines) row(r *requestlog.Row) error { return p.enc.Encode(newRecord(r)) }
func (p *jsonLines) end() error                  { return nil }

// columns of the table for people. Widths are fixed, so that following rows
// stand below each other.
const rowFormat = "%-23s %-4s %-19s %-10s %-12s %-28s %-12s %9s %9s %8s %8s %11s  %s\n"

// lines writes a table for people.
type lines struct {
	w     io.Writer
	begun bool
}

func (p *lines) row(r *requestlog.Row) error {
	if !p.begun {
		p.begun = true
		if _, err := fmt.Fprintf(p.w, rowFormat, "TIME (UTC)", "CODE", "END", "TENANT", "KEY", "MODEL", "UPSTREAM", "TTFT ms", "TOTAL ms", "IN", "OUT", "COST $", "REQUEST ID"); err != nil {
			return err
		}
	}
	in, out, cost, ttft := "", "", "", ""
	if r.UsageSource != telemetry.UsageUnknown {
		in, out = strconv.FormatUint(r.Input, 10), strconv.FormatUint(r.Output, 10)
	}
	if r.CostKnown {
		cost = dollars(r.Cost)
	}
	if r.TTFT > 0 {
		ttft = millis(float64(r.TTFT) / 1e3)
	}
	model := r.Model
	if r.ModelRequested != "" {
		model = r.ModelRequested
	}
	_, err := fmt.Fprintf(p.w, rowFormat, time.UnixMilli(r.Start).UTC().Format("2006-01-02 15:04:05.000"), strconv.Itoa(int(r.Status)), r.EndReason,
		short(r.Tenant, 10), short(r.KeyID, 12), short(model, 28), short(r.Upstream, 12), ttft, millis(float64(r.Duration)/1e3), in, out, cost, clean(r.RequestID())+tried(r.Tries))
	return err
}

func (p *lines) end() error { return nil }

// tried says what was tried before, and how that failed.
func tried(tries []requestlog.Try) string {
	text := ""
	for _, t := range tries {
		text += "  after " + clean(t.Upstream)
		if t.Credential != "" {
			text += "/" + clean(t.Credential)
		}
		text += ": " + t.Failure
		if t.Status != 0 {
			text += fmt.Sprintf(" (%d)", t.Status)
		}
	}
	return text
}

// short cuts s for a column of width characters.
func short(s string, width int) string {
	c := []rune(clean(s))
	if len(c) > width {
		return string(c[:width-1]) + "…"
	}
	return string(c)
}

func millis(ms float64) string { return strconv.FormatFloat(ms, 'f', 1, 64) }

// dollars prints nano dollars to the sixth decimal.
func dollars(nano int64) string { return strconv.FormatFloat(float64(nano)/1e9, 'f', 6, 64) }

// printUsage writes groups as a table, or as JSON lines.
func printUsage(w io.Writer, by []string, groups []group, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		for i := range groups {
			g := &groups[i]
			line := make(map[string]any, len(by)+12)
			for f, field := range by {
				line[field] = clean(g.By[f])
			}
			for name, v := range map[string]any{
				"requests": g.Requests, "errors": g.Errors, "unknown_usage": g.UnknownUsage, "unknown_cost": g.UnknownCost,
				"input_tokens": g.Input, "output_tokens": g.Output, "cached_tokens": g.Cached, "cache_write_tokens": g.CacheWrite,
				"reasoning_tokens": g.Reasoning, "cost_nano": g.Cost,
			} {
				line[name] = v
			}
			if g.TTFT50 > 0 {
				line["ttft_p50_ms"], line["ttft_p95_ms"] = g.TTFT50, g.TTFT95
			}
			if err := enc.Encode(line); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, field := range by {
		fmt.Fprintf(t, "%s\t", strings.ToUpper(field))
	}
	fmt.Fprint(t, "REQUESTS\tERRORS\tIN\tCACHED\tOUT\tUSAGE UNKNOWN\tCOST $\tCOST UNKNOWN\tTTFT p50 ms\tp95 ms\t\n")
	for i := range groups {
		g := &groups[i]
		for f := range by {
			fmt.Fprintf(t, "%s\t", clean(g.By[f]))
		}
		p50, p95 := "", ""
		if g.TTFT50 > 0 {
			p50, p95 = millis(g.TTFT50), millis(g.TTFT95)
		}
		fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%d\t%d\t%s\t%d\t%s\t%s\t\n", g.Requests, g.Errors, g.Input, g.Cached, g.Output, g.UnknownUsage, dollars(g.Cost), g.UnknownCost, p50, p95)
	}
	return t.Flush()
}
