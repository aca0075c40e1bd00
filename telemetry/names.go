package telemetry

import "strings"

// family is the metadata of one metric name.
type family struct{ name, kind, help string }

// families are the metrics that this package fills. What others publish is
// described by Describe.
var families = [...]family{
	{"relay_build_info", "gauge", "Always 1; the labels say what runs."},
	{nameConfigHash, "gauge", "Always 1; the label hash is the same on relays that run the same configuration."},
	{"relay_config_last_reload_successful", "gauge", "1 if the newest configuration is in force, 0 if it was refused and the old one is kept."},
	{"relay_config_last_reload_timestamp_seconds", "gauge", "When a configuration was last put in force, in Unix seconds."},
	{"relay_requests_total", "counter", "Exchanges finished, by the status the client got (499: it left before one)."},
	{"relay_responses_total", "counter", "Exchanges finished, by the class of the status the client got; few series, all there from the start, for objectives."},
	{"relay_end_reasons_total", "counter", "Exchanges finished, by the reason of their end."},
	{"relay_streams_total", "counter", "Streamed answers that began, by upstream."},
	{"relay_stream_aborts_total", "counter", "Streamed answers that began and did not complete, by who ended them."},
	{"relay_tokens_total", "counter", "Tokens as the provider counted them; cached and cache_write are parts of input, reasoning of output, where the provider says so."},
	{"relay_usage_unknown_total", "counter", "Successful answers of a model for which no token counts were seen."},
	{"relay_upstream_errors_total", "counter", "Attempts at an upstream that failed, by reason."},
	{"relay_upstream_retries_total", "counter", "Attempts at an upstream that failed and were followed by another attempt."},
	{"relay_rejected_total", "counter", "Requests or connections that the relay itself turned away."},
	{"relay_rate_limited_total", "counter", "Requests refused by a limit of their key or tenant."},
	{"relay_auth_failures_total", "counter", "Requests refused for their key."},
	{"relay_tenant_requests_total", "counter", "Exchanges finished, by tenant; the first 100 tenants, the rest as other."},
	{"relay_tenant_tokens_total", "counter", "Tokens by tenant; the first 100 tenants, the rest as other."},
	{"relay_panics_total", "counter", "Panics that were caught; each is a bug."},
	{"relay_accept_errors_total", "counter", "Accepts of connections that failed and were tried again."},
	{"relay_log_lines_dropped_total", "counter", "Log lines that were not written, since the log's reader was too slow or failed."},
	{"relay_open_connections", "gauge", "Client connections open now."},
	{"relay_inflight_requests", "gauge", "Exchanges under way now."},
	{"relay_active_streams", "gauge", "Streamed answers under way now."},
	{"relay_held_bytes", "gauge", "Bytes of request bodies held in memory now."},
	{nameDuration, "histogram", "Request received to last byte of the answer."},
	{nameHead, "histogram", "Request sent to the head of the upstream's answer."},
	{nameFirstEvent, "histogram", "Request sent to the first event of a stream, whatever it carries."},
	{nameTTFT, "histogram", "Request received to first event that carries model output."},
	{nameGaps, "histogram", "Gap between two events of a stream; an event may carry several tokens."},
	{nameOverhead, "histogram", "Time spent within the relay itself: request, until a request leaves for the upstream; chunk, from a piece of the answer read to the same piece written."},
	{nameCancel, "histogram", "A client's close seen to the upstream's connection closed."},
}

// The names of the histograms.
const (
	nameDuration   = "relay_request_duration_seconds"
	nameHead       = "relay_upstream_head_seconds"
	nameFirstEvent = "relay_first_event_seconds"
	nameTTFT       = "relay_time_to_first_token_seconds"
	nameGaps       = "relay_stream_inter_token_seconds"
	nameOverhead   = "relay_overhead_seconds"
	nameCancel     = "relay_cancel_seconds"
)

// bounds are the buckets of the histograms. What an objective is set on must be
// a bound, since between two bounds a quantile is guessed.
type bounds struct{ duration, ttft, gaps, overhead, cancel buckets }

func newBounds() bounds {
	return bounds{
		duration: newBuckets(.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600),
		ttft:     newBuckets(.005, .01, .025, .05, .075, .1, .15, .2, .3, .5, .75, 1, 1.5, 2, 3, 5, 10, 30),
		cancel:   newBuckets(100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 200e-3, 500e-3, 1),
		gaps:     bucketsOf(GapBuckets[:]),
		overhead: bucketsOf(DelayBuckets[:]),
	}
}

const nameConfigHash = "relay_config_hash"

// describe returns the HELP text and the type of a name that is not in
// families: its own words, and what its ending says.
func describe(name string) family {
	kind := "gauge"
	if strings.HasSuffix(name, "_total") {
		kind = "counter"
	}
	words := strings.ReplaceAll(strings.TrimPrefix(name, "relay_"), "_", " ")
	return family{name, kind, strings.ToUpper(words[:1]) + words[1:] + "."}
}
