package grafana

// The rows of states: keys, upstreams, the request log, the process.

var (
	upstreamStates   = map[string]string{"0": "up:green", "1": "half open:yellow", "2": "open:red", "3": "down:dark-red"}
	credentialStates = map[string]string{"0": "up:green", "1": "resting:yellow", "2": "refused:red"}
	upOrDown         = map[string]string{"0": "away:red", "1": "up:green"}
)

func keys() []Panel {
	return []Panel{
		{Title: "Key lookups", Unit: PerSecond, Stacked: true, About: "hit: known; miss: the store was asked; negative: known not to exist; stale: known, while Redis is away.",
			Queries: []Query{{Expr: `sum by (result) (rate(relay_auth_cache_requests_total{@}[r]))`, Legend: "{{result}}"}}},
		{Title: "Keys refused by reason", Unit: PerSecond, Stacked: true, About: "missing, invalid, expired: a client's mistake; many invalid: somebody tries keys; unavailable: the store cannot be asked, clients get 503.", Ask: "--since 1h --end denied",
			Queries: []Query{{Expr: `sum by (reason) (rate(relay_auth_failures_total{@}[r]))`, Legend: "{{reason}}"}},
			Links:   toRequests("Refused requests", "&var-reason=denied")},
		{Title: "Limited by reason", Unit: PerSecond, Stacked: true, About: "Requests refused with 429: requests or tokens per minute, concurrency, money.", Ask: "--since 1h --end limited",
			Queries: []Query{{Expr: `sum by (reason) (rate(relay_rate_limited_total{@}[r]))`, Legend: "{{reason}}"}},
			Links:   toRequests("Limited requests", "&var-reason=limited")},
		{Title: "Redis", Kind: States, Unit: Count, Names: upOrDown, About: "Whether each relay follows Redis. Known keys go on without it. Empty with keys.store: file.",
			Queries: []Query{{Expr: `relay_redis_up{@}`, Legend: "{{instance}}"}}},
		{Title: "Calls to Redis take", Unit: Seconds, Steps: above(.05), About: "Of lookups that missed, and of limits. Requests with known keys wait for none.",
			Queries: quantiles(`rate(relay_redis_request_duration_seconds_bucket{@}[r])`, .5, .99)},
		{Title: "Calls for limits", Unit: PerSecond, About: "A relay takes a slice of a limit at a time, so that few requests need a call.",
			Queries: []Query{{Expr: `sum(rate(relay_limits_calls_total{@}[r]))`, Legend: "calls"}, {Expr: `sum(rate(relay_limits_call_errors_total{@}[r]))`, Legend: "failed"}}},
		{Title: "Known keys are good for", Unit: Seconds, Steps: below(3600), About: "Should Redis stay away from now on (redis.stale_max).",
			Queries: []Query{{Expr: `relay_keys_left_seconds{@}`, Legend: "{{instance}}"}}},
		{Title: "Keys", Unit: Count, About: "That each relay knows. They should agree.",
			Queries: []Query{{Expr: `relay_keys{@}`, Legend: "{{instance}}"}}},
	}
}

func upstreams() []Panel {
	return []Panel{
		{Title: "Upstream states", Kind: States, W: 12, Unit: Count, Names: upstreamStates, About: "The worst that any relay sees. open: left alone after failures in a row; half open: one exchange finds out; down: its health check fails.",
			Queries: []Query{{Expr: `max by (upstream) (sum by (instance, upstream) (relay_upstream_state{@u,state="half_open"}) + 2 * sum by (instance, upstream) (relay_upstream_state{@u,state="open"}) + 3 * sum by (instance, upstream) (relay_upstream_state{@u,state="down"}))`, Legend: "{{upstream}}"}}},
		{Title: "Credential states", Kind: States, W: 12, Unit: Count, Names: credentialStates, About: "resting: a limit of the account was reached; refused: the provider does not take it any more.",
			Queries: []Query{{Expr: `max by (upstream, credential) (sum by (instance, upstream, credential) (relay_upstream_credential_state{@u,state="resting"}) + 2 * sum by (instance, upstream, credential) (relay_upstream_credential_state{@u,state="refused"}))`, Legend: "{{upstream}} {{credential}}"}}},
		{Title: "Upstream errors by reason", W: 12, Unit: PerSecond, Stacked: true, About: "Attempts that failed, also those that another one made good. http_4xx is most often the client's request.", Ask: "--since 1h --upstream UPSTREAM --status 5xx",
			Queries: []Query{{Expr: `sum by (upstream, reason) (rate(relay_upstream_errors_total{@u}[r])) > 0`, Legend: "{{upstream}} {{reason}}"}},
			Links:   toRequests("Requests at ${__field.labels.upstream}", "&var-upstream=${__field.labels.upstream:percentencode}")},
		{Title: "Second attempts", W: 12, Unit: PerSecond, About: "Failed attempts that another one followed; and those that the bound (a fifth of the requests) did not allow, a sign that much fails.",
			Queries: []Query{{Expr: `sum by (upstream) (rate(relay_upstream_retries_total{@u}[r]))`, Legend: "{{upstream}}"}, {Expr: `sum(rate(relay_retries_denied_total{@}[r]))`, Legend: "not allowed"}}},
		{Title: "Time to the head by upstream", Unit: Seconds, About: "p95 of request sent to the head of the answer.",
			Queries: []Query{{Expr: `histogram_quantile(0.95, sum by (le, upstream) (rate(relay_upstream_head_seconds_bucket{@u}[r])))`, Legend: "{{upstream}}"}}},
		{Title: "Attempts under way", Unit: Count, About: "By upstream, now.",
			Queries: []Query{{Expr: `sum by (upstream) (relay_upstream_inflight{@u})`, Legend: "{{upstream}}"}}},
		{Title: "Connections to upstreams", Unit: Count, About: "open: all; idle: kept for the next request.",
			Queries: []Query{{Expr: `sum by (upstream, state) (relay_upstream_connections{@u})`, Legend: "{{upstream}} {{state}}"}}},
	}
}

func requestLog() []Panel {
	return []Panel{
		{Title: "Rows", Unit: RowsPS, About: "appended: taken from requests; sealed: in files or on the way, stored exactly once from there on; stored: acknowledged by ClickHouse. The three go together.",
			Queries: []Query{
				{Expr: `sum(rate(relay_log_rows_appended_total{@}[r]))`, Legend: "appended"}, {Expr: `sum(rate(relay_log_rows_sealed_total{@}[r]))`, Legend: "sealed"},
				{Expr: `sum(rate(relay_log_rows_stored_total{@}[r]))`, Legend: "stored"}, {Expr: `sum(rate(relay_log_rows_replayed_total{@}[r]))`, Legend: "of them from files"}}},
		{Title: "Rows lost", Unit: RowsPS, Stacked: true, Steps: above(.001), About: "By reason; quarantined ones are kept, and never stored by themselves.",
			Queries: []Query{{Expr: `sum by (reason) (rate(relay_log_rows_dropped_total{@}[r]))`, Legend: "{{reason}}"}, {Expr: `sum(rate(relay_log_rows_quarantined_total{@}[r]))`, Legend: "quarantined"}}},
		{Title: "Bodies", Unit: RowsPS, About: "Of requests and answers, where request_log.bodies keeps them; else empty. appended, sealed and stored as above.",
			Queries: []Query{
				{Expr: `sum(rate(relay_log_bodies_appended_total{@}[r]))`, Legend: "appended"}, {Expr: `sum(rate(relay_log_bodies_sealed_total{@}[r]))`, Legend: "sealed"},
				{Expr: `sum(rate(relay_log_bodies_stored_total{@}[r]))`, Legend: "stored"}}},
		{Title: "Bodies lost", Unit: RowsPS, Stacked: true, Steps: above(.001), About: "By reason. Rows, with what was used, are not touched.",
			Queries: []Query{{Expr: `sum by (reason) (rate(relay_log_bodies_dropped_total{@}[r]))`, Legend: "{{reason}}"}}},
		{Title: "Rows and files that wait", Unit: Count, About: "Not acknowledged by ClickHouse yet.",
			Queries: []Query{{Expr: `sum by (instance) (relay_log_spool_rows{@})`, Legend: "{{instance}} rows"}, {Expr: `sum by (instance) (relay_log_spool_files{@})`, Legend: "{{instance}} files"}}},
		{Title: "Bytes of its files", Unit: Bytes, About: "At request_log.max_bytes the oldest are dropped, of rows and of bodies each.",
			Queries: []Query{{Expr: `sum by (instance) (relay_log_spool_bytes{@})`, Legend: "{{instance}} rows"}, {Expr: `sum by (instance) (relay_log_bodies_spool_bytes{@})`, Legend: "{{instance}} bodies"}}},
		{Title: "Oldest row that waits", Unit: Seconds, Steps: above(600), About: "How far ClickHouse is behind.",
			Queries: []Query{{Expr: `max by (instance) (relay_log_spool_oldest_seconds{@})`, Legend: "{{instance}}"}}},
		{Title: "Time to store a block", Unit: Seconds, About: "One INSERT, until it is acknowledged.",
			Queries: quantiles(`rate(relay_log_flush_duration_seconds_bucket{@}[r])`, .5, .95)},
		{Title: "Insert errors by class", Unit: PerSecond, Stacked: true, About: "By what is done about it. Blocks are tried again and stored once.",
			Queries: []Query{{Expr: `sum by (class) (rate(relay_log_insert_errors_total{@}[r]))`, Legend: "{{class}}"}}},
		{Title: "Shards of ClickHouse", Kind: States, Unit: Count, Names: upOrDown, About: "away: rows for it wait in files. Empty where no ClickHouse is configured.",
			Queries: []Query{{Expr: `min by (shard) (relay_log_shard_up{@})`, Legend: "shard {{shard}}"}}},
		{Title: "Process log lines lost", Unit: RowsPS, Steps: above(.001), About: "The log's reader was too slow; requests never wait for it.",
			Queries: []Query{{Expr: `sum by (instance) (rate(relay_log_lines_dropped_total{@}[r]))`, Legend: "{{instance}}"}}},
	}
}

func process() []Panel {
	const ours = ` and on (job, instance) relay_build_info`
	return []Panel{
		{Title: "CPU", Unit: Count, About: "Cores in use, and what the runtime may use.",
			Queries: []Query{{Expr: `rate(process_cpu_seconds_total{@}[r])` + ours, Legend: "{{instance}}"}, {Expr: `go_gomaxprocs{@}` + ours, Legend: "{{instance}} limit"}}},
		{Title: "Memory", Unit: Bytes, About: "Resident, the heap in use, and what the collector aims for next. About 20 to 60 KiB a stream.",
			Queries: []Query{
				{Expr: `process_resident_memory_bytes{@}` + ours, Legend: "{{instance}} resident"}, {Expr: `go_memstats_heap_inuse_bytes{@}` + ours, Legend: "{{instance}} heap"},
				{Expr: `go_memstats_next_gc_bytes{@}` + ours, Legend: "{{instance}} next collection"}}},
		{Title: "Request bodies held", Unit: Bytes, About: "Against limits.max_held.",
			Queries: []Query{{Expr: `relay_held_bytes{@}`, Legend: "{{instance}}"}}},
		{Title: "File descriptors", Unit: Share, Steps: above(.8), About: "Share of the limit in use. A stream takes two.",
			Queries: []Query{{Expr: `process_open_fds{@} / process_max_fds{@}` + ours, Legend: "{{instance}}"}}},
		{Title: "Connections in use", Unit: Share, Steps: above(.9), About: "Share of limits.max_connections. At 1 clients get 503.",
			Queries: []Query{{Expr: `relay_open_connections{@} / relay_connections_limit{@}`, Legend: "{{instance}}"}}},
		{Title: "Goroutines", Unit: Count, About: "About one for each client connection.",
			Queries: []Query{{Expr: `go_goroutines{@}` + ours, Legend: "{{instance}}"}}},
		{Title: "Time runnable goroutines waited", Unit: Seconds, Steps: above(.005), About: "p99 of the wait for a CPU: above some milliseconds the machine is too small, and the relay adds latency.",
			Queries: []Query{{Expr: `histogram_quantile(0.99, sum by (le, instance) (rate(go_sched_latencies_seconds_bucket{@}[r])))`, Legend: "{{instance}}"}}},
		{Title: "Garbage collection", Unit: Share, Steps: above(.1), About: "Share of the CPU time that the collector takes. Near GOMEMLIMIT it grows.",
			Queries: []Query{{Expr: `rate(go_gc_cpu_seconds_total{@}[r]) / rate(process_cpu_seconds_total{@}[r])` + ours, Legend: "{{instance}}"}}},
		{Title: "Panics and failed accepts", Unit: Count, Steps: above(1), About: "In the last hour. A panic is a bug; an accept fails where descriptors or memory have run out.",
			Queries: []Query{{Expr: `sum by (instance) (increase(relay_panics_total{@}[1h]))`, Legend: "{{instance}} panics"}, {Expr: `sum by (instance) (increase(relay_accept_errors_total{@}[1h]))`, Legend: "{{instance}} accepts"}}},
		{Title: "Certificate ends in", Kind: Stat, W: 8, Unit: Seconds, Steps: below(14 * 86400), About: "The public listener's; the first to end. Empty where it speaks no TLS.",
			Queries: []Query{{Expr: `min(relay_certificate_expiry_timestamp_seconds{@} - time())`, Legend: "certificate", Instant: true}}},
		{Title: "Running for", Kind: Table, Value: "for", Unit: Seconds, About: "Since its last start.",
			Queries: []Query{{Expr: `time() - process_start_time_seconds{@}` + ours, Legend: "{{instance}}", Instant: true}}},
		{Title: "Versions and configurations", Kind: Table, Value: "reload", W: 16, Unit: Count, About: "Relays that run the same file have the same hash. reload is 0 where the newest file was refused.",
			Queries: []Query{
				{Expr: `relay_build_info{@} * on (job, instance) group_left (hash) relay_config_hash * on (job, instance) group_left () relay_config_last_reload_successful`, Legend: "{{instance}}", Instant: true}}},
	}
}
