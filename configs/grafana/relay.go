package grafana

import "fmt"

// above and below are the colours of a value that should not rise above a
// bound, or not fall below it.
func above(at float64) []Step { return []Step{{0, "green"}, {at, "red"}} }
func below(at float64) []Step { return []Step{{0, "red"}, {at, "green"}} }

// quantiles asks for the quantiles of a histogram over all series of rate.
func quantiles(rate string, qs ...float64) (list []Query) {
	for _, q := range qs {
		list = append(list, Query{Expr: fmt.Sprintf("histogram_quantile(%g, sum by (le) (%s))", q, rate), Legend: fmt.Sprintf("p%g", q*100)})
	}
	return list
}

// toRequests leads from a series to the requests behind it, at the same times.
func toRequests(title, more string) []Link {
	return []Link{{Title: title, URL: "/d/relay-requests?${__url_time_range}" + more}}
}

// Relay is the dashboard of metrics: the first row answers whether all is
// well, the others why not.
func Relay() Dashboard {
	return Dashboard{
		UID: "relay", Title: "Stream Relay", Range: "now-3h", Refresh: "30s",
		About: "What the relays do, how fast, and what goes wrong. Alerts and what to do about them: configs/prometheus/README.md.",
		Variables: []Variable{
			{Name: "job", Label: "Job", Metric: "relay_build_info"},
			{Name: "instance", Label: "Instance", Metric: `relay_build_info{job=~"$job"}`},
			{Name: "upstream", Label: "Upstream", Metric: `relay_streams_total{job=~"$job"}`},
			{Name: "model", Label: "Model", Metric: `relay_tokens_total{job=~"$job",upstream=~"$upstream"}`},
			{Name: "tenant", Label: "Tenant", Metric: `relay_tenant_requests_total{job=~"$job"}`},
		},
		Rows: []Row{
			{Title: "Is it fine?", Open: true, Panels: overview()},
			{Title: "Requests", Open: true, Panels: requests()},
			{Title: "Streaming", Open: true, Panels: streaming()},
			{Title: "Tokens and tenants", Panels: tokens()},
			{Title: "Keys and limits", Panels: keys()},
			{Title: "Upstreams", Panels: upstreams()},
			{Title: "Request log", Panels: requestLog()},
			{Title: "Process", Panels: process()},
		},
	}
}

func overview() []Panel {
	return []Panel{
		{Title: "Relays", Kind: Stat, Unit: Count, Steps: below(1), About: "How many answer their scrapes. Of relay@blue and relay@green on one host one is enough.",
			Queries: []Query{{Expr: `count(up{@} == 1) or vector(0)`, Legend: "up", Instant: true}}},
		{Title: "Alerts", Kind: Stat, Unit: Count, Steps: above(1), About: "Alerts of configs/prometheus that fire. 0 also where nothing evaluates those rules.",
			Queries: []Query{{Expr: `count(ALERTS{alertname=~"Relay.+",alertstate="firing"}) or vector(0)`, Legend: "firing", Instant: true}}},
		{Title: "Not 5xx", Kind: Stat, Unit: Share, Steps: []Step{{0, "red"}, {.99, "orange"}, {.999, "green"}}, About: "Share of the answers of the last 5 minutes that are not 5xx. Objective: 99.9 %.",
			Ask:     "--since 5m --status 5xx",
			Queries: []Query{{Expr: `1 - sum(rate(relay_responses_total{@,class="5xx"}[5m])) / sum(rate(relay_responses_total{@}[5m]))`, Legend: "answers"}}},
		{Title: "Budget burnt", Kind: Stat, Unit: Times, Steps: []Step{{0, "green"}, {1, "orange"}, {14.4, "red"}}, About: "How many times faster than the objective allows the budget of 0.1 % of 5xx is used up, over the last hour. At 14.4 somebody is paged, at 1 it lasts exactly a month.",
			Queries: []Query{{Expr: `sum(rate(relay_responses_total{@,class="5xx"}[1h])) / sum(rate(relay_responses_total{@}[1h])) / 0.001`, Legend: "rate"}}},
		{Title: "First token in 2 s", Kind: Stat, Unit: Share, Steps: []Step{{0, "red"}, {.94, "orange"}, {.99, "green"}}, About: "Share of the streams of the last 5 minutes whose first token came within 2 s. Objective: 99 %. Mostly the provider's doing.",
			Queries: []Query{{Expr: `sum(rate(relay_time_to_first_token_seconds_bucket{@,le=~"2([.]0)?"}[5m])) / sum(rate(relay_time_to_first_token_seconds_count{@}[5m]))`, Legend: "streams"}}},
		{Title: "Held for 5 ms at most", Kind: Stat, Unit: Share, Steps: []Step{{0, "red"}, {.99, "orange"}, {.999, "green"}}, About: "Share of requests and of pieces of answers that the relay itself held for at most 5 ms, in the last 5 minutes; the worse of both. Objective: 99.9 %.",
			Queries: []Query{{Expr: `min(sum by (phase) (rate(relay_overhead_seconds_bucket{@,le="0.005"}[5m])) / sum by (phase) (rate(relay_overhead_seconds_count{@}[5m])))`, Legend: "held"}}},
		{Title: "Upstreams away", Kind: Stat, Unit: Count, Steps: above(1), About: "Upstreams that no relay sends requests to: circuit open, or health check failed.",
			Queries: []Query{{Expr: `count(max by (upstream) (relay_upstream_state{@,state=~"up|half_open"}) == 0) or vector(0)`, Legend: "away", Instant: true}}},
		{Title: "Log rows lost", Kind: Stat, Unit: Count, Steps: above(1), About: "Rows of the request log that were lost in the last hour. Each is a request whose use nobody knows.",
			Queries: []Query{{Expr: `sum(increase(relay_log_rows_dropped_total{@}[1h]))`, Legend: "rows", Instant: true}}},
	}
}

func requests() []Panel {
	return []Panel{
		{Title: "Requests by status", W: 12, Unit: PerSecond, Stacked: true, About: "Exchanges that ended, by the status that the client got. 499: it left before one.", Ask: "--since 1h --status 5xx",
			Queries: []Query{{Expr: `sum by (code) (rate(relay_requests_total{@um}[r])) > 0`, Legend: "{{code}}"}},
			Links:   toRequests("Requests with ${__field.labels.code}", "&var-status=${__field.labels.code:percentencode}")},
		{Title: "Failed by reason", W: 12, Unit: PerSecond, Stacked: true, About: "Exchanges that ended in another way than well, by reason: upstream_… and timeout_… are the provider's, denied and limited the client's, shed and drained the relay's, internal a bug.", Ask: "--since 1h --end upstream_cut",
			Queries: []Query{{Expr: `sum by (reason) (rate(relay_end_reasons_total{@,reason!="completed"}[r]))`, Legend: "{{reason}}"}},
			Links:   toRequests("Requests that ended by ${__field.labels.reason}", "&var-reason=${__field.labels.reason:percentencode}")},
		{Title: "Duration", Unit: Seconds, About: "Request received to last byte of the answer. Of streams that is their whole length.",
			Queries: quantiles(`rate(relay_request_duration_seconds_bucket{@u}[r])`, .5, .95, .99)},
		{Title: "Requests by model", Unit: PerSecond, Stacked: true, About: "none: no model was named; other: beyond the first 100 models.",
			Queries: []Query{{Expr: `topk(15, sum by (model) (rate(relay_requests_total{@um}[r])))`, Legend: "{{model}}"}},
			Links:   toRequests("Requests of ${__field.labels.model}", "&var-model=${__field.labels.model:percentencode}")},
		{Title: "5xx by model", Unit: Share, About: "Share of the requests of a model that were answered 5xx.", Ask: "--since 1h --status 5xx --model MODEL", Steps: above(.01),
			Queries: []Query{{Expr: `sum by (model) (rate(relay_requests_total{@um,code=~"5.."}[r])) / sum by (model) (rate(relay_requests_total{@um}[r])) > 0`, Legend: "{{model}}"}},
			Links:   toRequests("Failures of ${__field.labels.model}", "&var-status=5xx&var-model=${__field.labels.model:percentencode}")},
		{Title: "Requests by endpoint", Unit: PerSecond, Stacked: true, About: "By path, as the relay names it.",
			Queries: []Query{{Expr: `sum by (endpoint) (rate(relay_requests_total{@um}[r]))`, Legend: "{{endpoint}}"}}},
		{Title: "Turned away by the relay", Unit: PerSecond, Stacked: true, About: "Requests and connections that were refused before an upstream was asked. connections and held_bytes: the relay is full; bad_… and the like: the client's request is wrong.",
			Queries: []Query{{Expr: `sum by (reason) (rate(relay_rejected_total{@}[r]))`, Legend: "{{reason}}"}}},
		{Title: "Connections and streams", Unit: Count, About: "Now. A stream takes a connection of the client and one to the upstream.",
			Queries: []Query{
				{Expr: `sum(relay_open_connections{@})`, Legend: "client connections"}, {Expr: `sum(relay_inflight_requests{@})`, Legend: "exchanges"},
				{Expr: `sum(relay_active_streams{@})`, Legend: "streams"}}},
	}
}

func streaming() []Panel {
	return []Panel{
		{Title: "First token, all streams", Kind: Heatmap, W: 12, Unit: Seconds, About: "Request received to the first event that carries model output. Two bands are two kinds of requests, or two providers.",
			Queries: []Query{{Expr: `sum by (le) (increase(relay_time_to_first_token_seconds_bucket{@um}[r]))`, Legend: "{{le}}"}}},
		{Title: "Added by the relay", W: 12, Unit: Seconds, Steps: above(.005), About: "Time within the relay: request, until a request leaves for the upstream; chunk, from a piece of an answer read to the same piece written. A client that reads slowly lengthens the second. Objective: 99.9 % within 5 ms.",
			Queries: []Query{
				{Expr: `histogram_quantile(0.5, sum by (le, phase) (rate(relay_overhead_seconds_bucket{@}[r])))`, Legend: "{{phase}} p50"},
				{Expr: `histogram_quantile(0.99, sum by (le, phase) (rate(relay_overhead_seconds_bucket{@}[r])))`, Legend: "{{phase}} p99"},
				{Expr: `histogram_quantile(0.999, sum by (le, phase) (rate(relay_overhead_seconds_bucket{@}[r])))`, Legend: "{{phase}} p99.9"}}},
		{Title: "First token", Unit: Seconds, Steps: above(2), About: "Objective: 99 % within 2 s.",
			Queries: quantiles(`rate(relay_time_to_first_token_seconds_bucket{@um}[r])`, .5, .95, .99)},
		{Title: "First token by model", Unit: Seconds, Steps: above(2), About: "p95 of each model.",
			Queries: []Query{{Expr: `histogram_quantile(0.95, sum by (le, model) (rate(relay_time_to_first_token_seconds_bucket{@um}[r])))`, Legend: "{{model}}"}},
			Links:   toRequests("Slowest of ${__field.labels.model}", "&var-model=${__field.labels.model:percentencode}")},
		{Title: "Where the first token's time goes", Unit: Seconds, About: "p50. Until the head: the provider's queue, and the way there. From the head to the first event, and to the first token: its work on the prompt.",
			Queries: []Query{
				{Expr: `histogram_quantile(0.5, sum by (le) (rate(relay_upstream_head_seconds_bucket{@u}[r])))`, Legend: "head"},
				{Expr: `histogram_quantile(0.5, sum by (le) (rate(relay_first_event_seconds_bucket{@u}[r])))`, Legend: "first event"},
				{Expr: `histogram_quantile(0.5, sum by (le) (rate(relay_time_to_first_token_seconds_bucket{@um}[r])))`, Legend: "first token"}}},
		{Title: "Gaps between events", Unit: Seconds, About: "As they came from the upstream. An event may hold several tokens.",
			Queries: quantiles(`rate(relay_stream_inter_token_seconds_bucket{@um}[r])`, .5, .95, .99)},
		{Title: "Streams cut by whom", Unit: PerSecond, Stacked: true, About: "Streams that began and did not end well. client: it left, which is its right; upstream: broke off, fell silent, or sent an error; limit: a bound of time, size, budget; internal: a bug.", Ask: "--since 1h --end upstream_cut",
			Queries: []Query{{Expr: `sum by (by) (rate(relay_stream_aborts_total{@}[r]))`, Legend: "{{by}}"}},
			Links:   toRequests("Failed requests", "")},
		{Title: "Cancelled upstream after", Unit: Seconds, Steps: above(.02), About: "A client's leaving seen, until the connection to the upstream was closed: how long the provider goes on to be paid for nobody.",
			Queries: quantiles(`rate(relay_cancel_seconds_bucket{@}[r])`, .5, .99)},
	}
}

func tokens() []Panel {
	return []Panel{
		{Title: "Tokens", Unit: TokensPS, About: "As the providers counted them. cached and cache_write are parts of input, reasoning of output. Money is on the dashboard of requests.",
			Queries: []Query{{Expr: `sum by (type) (rate(relay_tokens_total{@um}[r]))`, Legend: "{{type}}"}}},
		{Title: "Output tokens by model", Unit: TokensPS, Stacked: true, About: "The 15 with the most.",
			Queries: []Query{{Expr: `topk(15, sum by (model) (rate(relay_tokens_total{@um,type="output"}[r])))`, Legend: "{{model}}"}},
			Links:   toRequests("Requests of ${__field.labels.model}", "&var-model=${__field.labels.model:percentencode}")},
		{Title: "Input read from a provider's cache", Unit: Share, About: "Share of the input tokens, by model. Cached ones cost less.",
			Queries: []Query{{Expr: `sum by (model) (rate(relay_tokens_total{@um,type="cached"}[r])) / sum by (model) (rate(relay_tokens_total{@um,type="input"}[r])) >= 0`, Legend: "{{model}}"}}},
		{Title: "Top tenants by tokens", Unit: TokensPS, Stacked: true, About: "The first 100 tenants have a name here, the rest is other; the dashboard of requests has all.", Ask: "--since 1h --tenant TENANT",
			Queries: []Query{{Expr: `topk(15, sum by (tenant) (rate(relay_tenant_tokens_total{@,tenant=~"$tenant"}[r])))`, Legend: "{{tenant}}"}},
			Links:   toRequests("Requests of ${__field.labels.tenant}", "&var-tenant=${__field.labels.tenant:percentencode}")},
		{Title: "Top tenants by requests", Unit: PerSecond, Stacked: true, About: "As above.", Ask: "--since 1h --tenant TENANT",
			Queries: []Query{{Expr: `topk(15, sum by (tenant) (rate(relay_tenant_requests_total{@,tenant=~"$tenant"}[r])))`, Legend: "{{tenant}}"}},
			Links:   toRequests("Requests of ${__field.labels.tenant}", "&var-tenant=${__field.labels.tenant:percentencode}")},
		{Title: "Answers without token counts", Unit: PerSecond, Stacked: true, About: "Good answers for which the provider named no tokens, or which were broken off before it did. They are recorded as unknown, never as 0.",
			Queries: []Query{{Expr: `sum by (model) (rate(relay_usage_unknown_total{@um}[r]))`, Legend: "{{model}}"}}},
	}
}
