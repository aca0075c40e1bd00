package telemetry

import (
	"bytes"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"
)

// The most of what a client chose that an access line holds, in bytes.
const (
	maxLogMethod = 32
	maxLogPath   = 512
	maxLogText   = 128 // model, tenant, request id
)

// logAccess writes the line of a finished exchange, with the time of its end.
func (t *Telemetry) logAccess(r *Request, us *upstreamSeries, endpoint int) {
	l := t.log
	if !l.enabled(zerolog.InfoLevel) {
		return
	}
	var scratch [64]byte
	e := stamp(l.z.WithLevel(zerolog.InfoLevel), time.Unix(0, r.Start+r.Duration))
	e.Bytes("request_id", cut(r.RequestID, maxLogText))
	e.Bytes("id", AppendID(scratch[:0], r.ID))
	if r.TraceID != [16]byte{} {
		e.Hex("trace_id", r.TraceID[:])
	}
	if len(r.Tenant) > 0 {
		e.Bytes("tenant", cut(r.Tenant, maxLogText))
	}
	if r.KeyID != "" {
		e.Str("key_id", r.KeyID)
	}
	e.Bytes("method", cut(r.Method, maxLogMethod))
	e.Bytes("path", cut(r.Path, maxLogPath))
	e.Str("endpoint", t.endpoints[endpoint])
	if us != t.none {
		e.Str("upstream", us.name)
	}
	if len(r.Model) > 0 {
		e.Bytes("model", cut(r.Model, maxLogText))
	}
	e.Int("status", r.Status)
	if r.UpstreamStatus != 0 && r.UpstreamStatus != r.Status {
		e.Int("upstream_status", r.UpstreamStatus)
	}
	e.Str("end", r.End.Known().String())
	if r.Error != "" {
		e.Str("error", r.Error)
	}
	if r.Stream {
		e.Bool("stream", true)
	}
	if r.TTFT > 0 {
		e.RawJSON("ttft_ms", appendMilliseconds(scratch[:0], r.TTFT))
	}
	e.RawJSON("duration_ms", appendMilliseconds(scratch[:0], r.Duration))
	logUsage(e, r)
	if r.Events > 0 {
		e.Int64("events", r.Events)
	}
	e.Int64("bytes_in", r.BytesIn)
	e.Int64("bytes_out", r.BytesOut)
	if r.Client.IsValid() {
		e.Bytes("client", r.Client.AppendTo(scratch[:0]))
	}
	if len(r.UpstreamRequestID) > 0 {
		e.Bytes("upstream_request_id", cut(r.UpstreamRequestID, maxLogText))
	}
	e.Int("attempts", r.Attempts)
	if r.Attempts > 1 {
		t.logTries(e, r)
	}
	e.Msg("request")
}

// logTries adds the attempts before the last one: upstream, credential, reason
// and, where it was answered, the status.
func (t *Telemetry) logTries(e *zerolog.Event, r *Request) {
	var scratch [1024]byte
	b := append(scratch[:0], '[')
	for i, try := range r.Tries[:min(r.Attempts-1, MaxTries)] {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"upstream":"`...)
		b = append(b, t.upstream(int(try.Upstream)).name...) // [A-Za-z0-9._-]
		b = append(b, `","credential":`...)
		b = strconv.AppendInt(b, int64(try.Credential), 10)
		b = append(b, `,"reason":"`...)
		b = append(b, try.Failure.String()...)
		b = append(b, '"')
		if try.Status != 0 {
			b = append(b, `,"status":`...)
			b = strconv.AppendUint(b, uint64(try.Status), 10)
		}
		b = append(b, '}')
	}
	e.RawJSON("tries", append(b, ']'))
}

// logUsage adds what is known of the tokens, and nothing where nothing is.
func logUsage(e *zerolog.Event, r *Request) {
	if r.UsageSource == UsageUnknown {
		return
	}
	u := &r.Usage
	if u.Input >= 0 {
		e.Int64("tokens_in", u.Input)
	}
	if u.Output >= 0 {
		e.Int64("tokens_out", u.Output)
	}
	if u.Cached >= 0 {
		e.Int64("tokens_cached", u.Cached)
	}
	if u.CacheWrite >= 0 {
		e.Int64("tokens_cache_write", u.CacheWrite)
	}
	if u.Reasoning >= 0 {
		e.Int64("tokens_reasoning", u.Reasoning)
	}
	if r.UsageSource == UsagePartial {
		e.Bool("tokens_partial", true)
	}
}

// appendMilliseconds appends ns, 0 where it is less, in milliseconds down to the
// microsecond: 12.34 for 12.34 ms and some nanoseconds.
func appendMilliseconds(b []byte, ns int64) []byte {
	us := max(ns, 0) / 1000
	b = strconv.AppendInt(b, us/1000, 10)
	if us %= 1000; us == 0 {
		return b
	}
	b = append(b, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
	return bytes.TrimRight(b, "0")
}

// cut returns at most max bytes of s, and no half of a rune at the end.
func cut(s []byte, max int) []byte {
	if len(s) <= max {
		return s
	}
	for n := max; n > max-utf8.UTFMax; n-- {
		if utf8.RuneStart(s[n]) {
			return s[:n]
		}
	}
	return s[:max]
}
