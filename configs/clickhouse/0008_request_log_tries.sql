-- The attempts that failed before the last one, one element each, and the
-- client's trace (W3C trace context). Attempts as rows: … ARRAY JOIN tries.
ALTER TABLE {{.Database}}.request_log{{.OnCluster}}
    ADD COLUMN IF NOT EXISTS `tries.upstream` Array(LowCardinality(String)),
    ADD COLUMN IF NOT EXISTS `tries.credential` Array(LowCardinality(String)),
    ADD COLUMN IF NOT EXISTS `tries.status` Array(UInt16),                  -- 0: no answer
    ADD COLUMN IF NOT EXISTS `tries.failure` Array(LowCardinality(String)), -- as in relay_upstream_errors_total
    ADD COLUMN IF NOT EXISTS trace_id String CODEC(ZSTD(1)),                -- 32 hex digits, '' where the client sent none
    ADD COLUMN IF NOT EXISTS parent_span_id String CODEC(ZSTD(1)),          -- 16 hex digits: the client's span
    ADD INDEX IF NOT EXISTS ix_trace_id trace_id TYPE bloom_filter(0.01) GRANULARITY 1
