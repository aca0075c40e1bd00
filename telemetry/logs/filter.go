package logs

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"streamrelay/telemetry/clickhouse"
	"streamrelay/telemetry/requestlog"
)

// filter says which rows are wanted. Zero values want all.
type filter struct {
	From, To                          time.Time // of the request's beginning; To is not within
	Tenant, Key, Model, Upstream, End string
	Status                            string // 429, or 5xx
	RequestID                         string // what the client sees, the relay's own id, or the provider's
	Trace                             string // 32 hex digits
	TTFTOver, DurationOver, GapOver   time.Duration
}

// flags are a filter as given on the command line.
type flags struct {
	filter
	since, until string
}

func (f *flags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.since, "since", "", "requests that began at this `time` or later: 90m, 7d, 2026-11-24, 2026-11-24T18:30:00Z")
	fs.StringVar(&f.until, "until", "", "requests that began before this `time`, written like --since")
	fs.StringVar(&f.Tenant, "tenant", "", "requests of this `tenant`")
	fs.StringVar(&f.Key, "key", "", "requests of this key `id`")
	fs.StringVar(&f.Model, "model", "", "requests of this `model`")
	fs.StringVar(&f.Upstream, "upstream", "", "requests that went to this `upstream`")
	fs.StringVar(&f.Status, "status", "", "requests that ended with this `status`, or class such as 5xx")
	fs.StringVar(&f.End, "end", "", "requests that ended for this `reason`, such as upstream_cut")
	fs.StringVar(&f.RequestID, "request-id", "", "the request with this `id`: the client's, the relay's or the provider's")
	fs.StringVar(&f.Trace, "trace", "", "requests of this W3C trace `id`")
	fs.DurationVar(&f.TTFTOver, "ttft-over", 0, "requests whose first output took longer than this `duration`, such as 2s")
	fs.DurationVar(&f.DurationOver, "duration-over", 0, "requests that took longer than this `duration`")
	fs.DurationVar(&f.GapOver, "gap-over", 0, "streams with a longer gap between two events than this `duration`")
}

// parse brings what was given into its form.
func (f *flags) parse(now time.Time) (err error) {
	if f.From, err = parseTime(f.since, now); err != nil {
		return usageError{fmt.Errorf("--since: %w", err)}
	}
	if f.To, err = parseTime(f.until, now); err != nil {
		return usageError{fmt.Errorf("--until: %w", err)}
	}
	if s := f.Status; s != "" {
		if len(s) != 3 || s[0] < '1' || s[0] > '5' || s[1:] != "xx" && !isNumber(s) {
			return usageError{fmt.Errorf("--status: want a status such as 429, or a class such as 5xx")}
		}
	}
	if f.Trace != "" {
		if b, err := hex.DecodeString(f.Trace); err != nil || len(b) != 16 {
			return usageError{fmt.Errorf("--trace: want the 32 hex digits of a trace id")}
		}
		f.Trace = strings.ToLower(f.Trace)
	}
	for name, d := range map[string]time.Duration{"--ttft-over": f.TTFTOver, "--duration-over": f.DurationOver, "--gap-over": f.GapOver} {
		if d < 0 {
			return usageError{fmt.Errorf("%s: want a duration above 0, such as 2s", name)}
		}
	}
	return nil
}

// parseTime reads a time, or how long ago it is.
func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.UTC); err == nil {
			return t, nil
		}
	}
	ago := s
	if days, ok := strings.CutSuffix(s, "d"); ok && isNumber(days) {
		n, err := strconv.Atoi(days)
		if err == nil && n < 100_000 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	d, err := time.ParseDuration(ago)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("want how long ago (90m, 7d), a day (2026-11-24) or a time (2026-11-24T18:30:00Z), all in UTC")
	}
	return now.Add(-d), nil
}

func isNumber(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

// wants reports whether the filter wants row.
func (f *filter) wants(r *requestlog.Row) bool {
	return (f.From.IsZero() || r.Start >= f.From.UnixMilli()) &&
		(f.To.IsZero() || r.Start < f.To.UnixMilli()) &&
		(f.Tenant == "" || r.Tenant == f.Tenant) &&
		(f.Key == "" || r.KeyID == f.Key) &&
		(f.Model == "" || r.Model == f.Model || r.ModelRequested == f.Model) &&
		(f.Upstream == "" || r.Upstream == f.Upstream) &&
		(f.End == "" || r.EndReason == f.End) &&
		(f.Status == "" || f.wantsStatus(int(r.Status))) &&
		(f.RequestID == "" || f.wantsID(r)) &&
		(f.Trace == "" || r.TraceID == f.Trace) &&
		over(r.TTFT, f.TTFTOver) && over(r.Duration, f.DurationOver) && over(r.GapMax, f.GapOver)
}

// over reports whether us microseconds are longer than d, which 0 asks of none.
func over(us uint64, d time.Duration) bool { return d == 0 || us > uint64(d.Microseconds()) }

func (f *filter) wantsStatus(status int) bool {
	if f.Status[1:] == "xx" {
		return status/100 == int(f.Status[0]-'0')
	}
	return strconv.Itoa(status) == f.Status
}

func (f *filter) wantsID(r *requestlog.Row) bool {
	if r.ClientRequestID == f.RequestID || r.UpstreamID == f.RequestID {
		return true
	}
	id, ok := parseID(f.RequestID)
	return ok && id == r.ID
}

// parseID reads a UUID in its usual form.
func parseID(s string) (id [16]byte, ok bool) {
	text := strings.ReplaceAll(s, "-", "")
	if len(s) != 36 || len(text) != 32 {
		return id, false
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		return id, false
	}
	copy(id[:], b)
	return id, true
}

// where is the filter as the condition of a SELECT on request_log, "" for none.
// The relay's own id has its time in it, which spares the server other days.
func (f *filter) where() string { return f.whereBy("ts") }

// whereBy is where with the name of the column that has the time.
func (f *filter) whereBy(clock string) string {
	var all []string
	and := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if !f.From.IsZero() {
		and("%s >= fromUnixTimestamp64Milli(%d, 'UTC')", clock, f.From.UnixMilli())
	}
	if !f.To.IsZero() {
		and("%s < fromUnixTimestamp64Milli(%d, 'UTC')", clock, f.To.UnixMilli())
	}
	for column, value := range map[string]string{"tenant": f.Tenant, "key_id": f.Key, "upstream": f.Upstream, "end_reason": f.End} {
		if value != "" {
			and("%s = %s", column, clickhouse.Quote(value))
		}
	}
	if f.Model != "" {
		and("(model = %[1]s OR model_requested = %[1]s)", clickhouse.Quote(f.Model))
	}
	if f.Status != "" {
		if f.Status[1:] == "xx" {
			and("intDiv(status, 100) = %c", f.Status[0])
		} else {
			and("status = %s", f.Status)
		}
	}
	if f.Trace != "" {
		and("trace_id = %s", clickhouse.Quote(f.Trace))
	}
	for column, d := range map[string]time.Duration{"ttft_us": f.TTFTOver, "duration_us": f.DurationOver, "gap_max_us": f.GapOver} {
		if d > 0 {
			and("%s > %d", column, d.Microseconds())
		}
	}
	if f.RequestID != "" {
		if id, ok := parseID(f.RequestID); ok {
			text := clickhouse.Quote(f.RequestID)
			if ms, v7 := idTime(id); v7 {
				and("(client_request_id = %[1]s OR upstream_id = %[1]s OR id = toUUID(%[1]s) AND ts >= fromUnixTimestamp64Milli(%[2]d, 'UTC') AND ts <= fromUnixTimestamp64Milli(%[3]d, 'UTC'))", text, ms-1, ms+1)
			} else {
				and("(client_request_id = %[1]s OR upstream_id = %[1]s OR id = toUUID(%[1]s))", text)
			}
		} else {
			and("(client_request_id = %[1]s OR upstream_id = %[1]s)", clickhouse.Quote(f.RequestID))
		}
	}
	if len(all) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(all, " AND ")
}

// idTime is the time in a UUID of version 7, in Unix milliseconds.
func idTime(id [16]byte) (int64, bool) {
	ms := int64(id[0])<<40 | int64(id[1])<<32 | int64(id[2])<<24 | int64(id[3])<<16 | int64(id[4])<<8 | int64(id[5])
	return ms, id[6]>>4 == 7
}

// wholeHours reports whether the filter asks for nothing that the hourly
// rollup does not know.
func (f *filter) wholeHours() bool {
	return f.Status == "" && f.End == "" && f.RequestID == "" && f.Trace == "" && f.TTFTOver == 0 && f.DurationOver == 0 && f.GapOver == 0
}

// usageError is a mistake in how the command was called.
type usageError struct{ error }

func (usageError) ExitCode() int { return 2 }
