package grafana

import "strings"

// Requests is the dashboard of the request log: from a spike to request ids,
// and what was used by whom, in tokens and money.
func Requests() Dashboard {
	text := func(name, label, sql string) Variable { return Variable{Name: name, Label: label, SQL: sql} }
	return Dashboard{
		UID: "relay-requests", Title: "Stream Relay: requests", Range: "now-3h",
		About: "The request log in ClickHouse, one row a request: what failed, what was slow, who used how much. A click on a request id shows all that is known of it.",
		Variables: []Variable{
			text("tenant", "Tenant", "SELECT DISTINCT tenant FROM usage_1h WHERE hour > now() - INTERVAL 30 DAY AND tenant != '' ORDER BY tenant LIMIT 1000"),
			text("model", "Model", "SELECT DISTINCT model FROM usage_1h WHERE hour > now() - INTERVAL 30 DAY AND model != '' ORDER BY model LIMIT 1000"),
			text("upstream", "Upstream", "SELECT DISTINCT upstream FROM usage_1h WHERE hour > now() - INTERVAL 30 DAY AND upstream != '' ORDER BY upstream LIMIT 1000"),
			text("reason", "Ended by", "SELECT DISTINCT end_reason FROM request_log WHERE ts > now() - INTERVAL 1 DAY ORDER BY 1"),
			{Name: "status", Label: "Status (503, 5xx)"},
			{Name: "request", Label: "Request id"},
		},
		Rows: []Row{
			{Title: "In this time", Open: true, Panels: totals()},
			{Title: "Failures", Open: true, Panels: failures()},
			{Title: "Slow", Open: true, Panels: slow()},
			{Title: "Tokens and money", Open: true, Panels: money()},
			{Title: "One request", Open: true, Panels: single()},
		},
	}
}

// where is the choice that the variables make. A variable with all its values
// chosen is no condition, so that rows without one (no model named) count.
func where(more ...string) string {
	conditions := append([]string{
		"$__timeFilter(ts)",
		"$__conditionalAll(tenant IN (${tenant:singlequote}), $tenant)",
		"$__conditionalAll(model IN (${model:singlequote}), $model)",
		"$__conditionalAll(upstream IN (${upstream:singlequote}), $upstream)",
		"$__conditionalAll(end_reason IN (${reason:singlequote}), $reason)",
		"(${status:singlequote} = '' OR match(toString(status), concat('^', replaceAll(${status:singlequote}, 'x', '.'), '$')))",
	}, more...)
	return "WHERE " + strings.Join(conditions, "\n  AND ")
}

const failed = "(status >= 500 OR end_reason NOT IN ('completed', 'client_gone', 'denied', 'limited', 'upstream_status'))"

func stat(title, unit, about, expr string, more ...string) Panel {
	return Panel{Title: title, Kind: Stat, W: 4, Unit: unit, About: about, Queries: []Query{{SQL: "SELECT " + expr + " AS value\nFROM request_log\n" + where(more...)}}}
}

func totals() []Panel {
	return []Panel{
		stat("Requests", Count, "Rows of the request log.", "count()"),
		stat("Failed", Count, "5xx, cut, timed out, shed. What clients did wrong, and clients who left, are not counted.", "countIf("+failed+")"),
		stat("Output tokens", Count, "As the providers counted them.", "sum(output_tokens)"),
		stat("Cost", Dollars, "Where prices has the model. Tokens that nobody named cost nothing here.", "sum(ifNull(cost_nano, 0)) / 1e9"),
		stat("First token p95", Micros, "Of the streams that had one.", "quantile(0.95)(ttft_us)", "ttft_us > 0"),
		stat("Use unknown", Count, "Good answers without token counts.", "countIf(usage_source = 'unknown' AND upstream_status BETWEEN 200 AND 299 AND model != '')"),
	}
}

var requestLinks = []Link{{Title: "All of this request", Column: "request_id", URL: "/d/relay-requests?${__url_time_range}&var-request=${__value.raw:percentencode}"}}

func failures() []Panel {
	return []Panel{
		{Title: "Failures by reason", W: 12, Unit: Count, Stacked: true, About: "Requests that failed, in each interval.", Ask: "--since 1h --status 5xx",
			Queries: []Query{{SQL: "SELECT $__timeInterval(ts) AS time, end_reason AS reason, count() AS failed\nFROM request_log\n" + where(failed) + "\nGROUP BY time, reason\nORDER BY time, reason"}}},
		{Title: "Failures by model and upstream", Kind: Table, W: 12, Unit: Count, Columns: map[string]string{"share": Share}, About: "Where it fails, and how much of it.", Ask: "--since 1h --status 5xx --model MODEL --upstream UPSTREAM",
			Queries: []Query{{SQL: "SELECT model, upstream, countIf(" + failed + ") AS failed, count() AS requests, failed / requests AS share, topKIf(3)(end_reason, " + failed + ") AS reasons\nFROM request_log\n" + where() + "\nGROUP BY model, upstream\nHAVING failed > 0\nORDER BY failed DESC\nLIMIT 50"}}},
		{Title: "Attempts that another one followed", Kind: Table, W: 12, Unit: Count, About: "By upstream, the relay's credential and reason. made_good: the request ended well all the same. answer is the status, 0 where there was none.",
			Queries: []Query{{SQL: "SELECT tries.upstream AS failed_at, tries.credential AS credential_used, tries.failure AS failure, tries.status AS answer, count() AS attempts_failed, countIf(NOT " + failed + ") AS made_good\nFROM request_log ARRAY JOIN tries\n" + where() + "\nGROUP BY failed_at, credential_used, failure, answer\nORDER BY attempts_failed DESC\nLIMIT 50"}}},
		{Title: "Requests over time", W: 12, Unit: Count, Stacked: true, About: "By status, in each interval.",
			Queries: []Query{{SQL: "SELECT $__timeInterval(ts) AS time, toString(status) AS code, count() AS requests\nFROM request_log\n" + where() + "\nGROUP BY time, code\nORDER BY time, code"}}},
		{Title: "Last failures", Kind: Table, W: 24, H: 10, Unit: Text, Columns: map[string]string{"time": Time, "duration": Micros}, About: "The newest 100. A click on an id shows the request.", Ask: "--since 1h --request-id ID --json", Links: requestLinks,
			Queries: []Query{{SQL: "SELECT ts AS time, request_id, tenant, model, upstream, status, upstream_status, end_reason AS reason, error, attempts, duration_us AS duration, upstream_id, trace_id\nFROM request_log\n" + where(failed) + "\nORDER BY ts DESC\nLIMIT 100"}}},
	}
}

func slow() []Panel {
	return []Panel{
		{Title: "First token over time", W: 12, Unit: Micros, About: "p50, p95 and p99 in each interval, exact.",
			Queries: []Query{{SQL: "SELECT $__timeInterval(ts) AS time, quantile(0.5)(ttft_us) AS p50, quantile(0.95)(ttft_us) AS p95, quantile(0.99)(ttft_us) AS p99\nFROM request_log\n" + where("ttft_us > 0") + "\nGROUP BY time\nORDER BY time"}}},
		{Title: "Slowest first tokens", Kind: Table, W: 12, Unit: Text, Columns: map[string]string{"time": Time, "first_token": Micros, "head": Micros, "relay": Micros}, Links: requestLinks, About: "head: until the provider's head; relay: what the relay took before the request left.",
			Queries: []Query{{SQL: "SELECT ts AS time, request_id, ttft_us AS first_token, upstream_head_us AS head, overhead_us AS relay, tenant, model, upstream, attempts, input_tokens\nFROM request_log\n" + where("ttft_us > 0") + "\nORDER BY ttft_us DESC\nLIMIT 50"}}},
		{Title: "Longest silences", Kind: Table, W: 12, Unit: Text, Columns: map[string]string{"time": Time, "longest_gap": Micros, "median_gap": Micros}, Links: requestLinks, About: "Streams with the longest gap between two events of the upstream.",
			Queries: []Query{{SQL: "SELECT ts AS time, request_id, gap_max_us AS longest_gap, gap_p50_us AS median_gap, tenant, model, upstream, events\nFROM request_log\n" + where("gap_max_us > 0") + "\nORDER BY gap_max_us DESC\nLIMIT 50"}}},
		{Title: "Held longest by the relay", Kind: Table, W: 12, Unit: Text, Columns: map[string]string{"time": Time, "relay": Micros}, Links: requestLinks, About: "Until the request left for the upstream, connecting not counted.",
			Queries: []Query{{SQL: "SELECT ts AS time, request_id, overhead_us AS relay, bytes_in, tenant, model, upstream, endpoint\nFROM request_log\n" + where() + "\nORDER BY overhead_us DESC\nLIMIT 50"}}},
	}
}

func money() []Panel {
	by := func(column string) string {
		return "SELECT " + column + ", count() AS requests, sum(input_tokens) AS input, sum(cached_tokens) AS cached, sum(output_tokens) AS output, sum(ifNull(cost_nano, 0)) / 1e9 AS cost, countIf(usage_source != 'unknown' AND cost_nano IS NULL) AS without_price, countIf(usage_source = 'unknown' AND upstream_status BETWEEN 200 AND 299 AND model != '') AS use_unknown\nFROM request_log\n" + where() + "\nGROUP BY " + column + "\nORDER BY cost DESC, output DESC\nLIMIT 200"
	}
	over := func(column string) string {
		return "SELECT $__timeInterval(ts) AS time, " + column + ", sum(ifNull(cost_nano, 0)) / 1e9 AS cost\nFROM request_log\n" + where("cost_nano > 0") + "\nGROUP BY time, " + column + "\nORDER BY time, " + column
	}
	units := map[string]string{"cost": Dollars}
	return []Panel{
		{Title: "Money by model", W: 12, Unit: Dollars, Stacked: true, About: "In each interval.", Queries: []Query{{SQL: over("model")}}},
		{Title: "Money by tenant", W: 12, Unit: Dollars, Stacked: true, About: "In each interval.", Queries: []Query{{SQL: over("tenant")}}},
		{Title: "Tenants", Kind: Table, W: 12, Unit: Count, Columns: units, About: "`relay logs usage --since 30d --by tenant` prints the same. without_price: tokens are known, prices has no price for the model.",
			Links:   []Link{{Title: "This tenant alone", Column: "tenant", URL: "/d/relay-requests?${__url_time_range}&var-tenant=${__value.raw:percentencode}"}},
			Queries: []Query{{SQL: by("tenant")}}},
		{Title: "Models", Kind: Table, W: 12, Unit: Count, Columns: units, About: "`relay logs usage --since 30d --by model` prints the same.",
			Links:   []Link{{Title: "This model alone", Column: "model", URL: "/d/relay-requests?${__url_time_range}&var-model=${__value.raw:percentencode}"}},
			Queries: []Query{{SQL: by("model")}}},
		{Title: "Keys", Kind: Table, W: 12, Unit: Count, Columns: units, About: "Ids, never keys; `relay keys show ID` says whose.", Queries: []Query{{SQL: by("key_id")}}},
		{Title: "Money by month, tenant and model", Kind: Table, W: 12, Unit: Count, Columns: units, About: "Of the hourly rollup, which outlives the rows; the time chosen above does not matter, tenant and model do.",
			Queries: []Query{{SQL: "SELECT toString(toStartOfMonth(hour)) AS month, tenant, model, sum(requests) AS requests, sum(input_tokens) AS input, sum(output_tokens) AS output, sum(cost_nano) / 1e9 AS cost\nFROM usage_1h\nWHERE $__conditionalAll(tenant IN (${tenant:singlequote}), $tenant)\n  AND $__conditionalAll(model IN (${model:singlequote}), $model)\nGROUP BY month, tenant, model\nORDER BY month DESC, cost DESC\nLIMIT 500"}}},
	}
}

func single() []Panel {
	return []Panel{
		{Title: "All of one request", Kind: Table, W: 24, H: 6, Unit: Text, Columns: map[string]string{"ts": Time}, About: "The one whose id stands above, the client's or the relay's, at any time. Click on an id in another table, or type one in.", Ask: "--request-id ID --json",
			Queries: []Query{{SQL: "SELECT *, request_id, cost_usd\nFROM request_log\nWHERE ${request:singlequote} != '' AND (id = toUUIDOrZero(${request:singlequote}) OR client_request_id = ${request:singlequote})\nORDER BY ts\nLIMIT 20"}}},
	}
}
