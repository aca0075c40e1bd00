ALTER TABLE {{.Database}}.request_log_all{{.OnCluster}}
    ADD COLUMN IF NOT EXISTS `tries.upstream` Array(LowCardinality(String)),
    ADD COLUMN IF NOT EXISTS `tries.credential` Array(LowCardinality(String)),
    ADD COLUMN IF NOT EXISTS `tries.status` Array(UInt16),
    ADD COLUMN IF NOT EXISTS `tries.failure` Array(LowCardinality(String)),
    ADD COLUMN IF NOT EXISTS trace_id String,
    ADD COLUMN IF NOT EXISTS parent_span_id String
