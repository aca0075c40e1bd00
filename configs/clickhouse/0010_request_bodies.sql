-- What was said, where request_log.bodies keeps it: the first bytes of both
-- bodies, as they were. id, ts and tenant are those of the row in request_log.
CREATE TABLE IF NOT EXISTS {{.Database}}.request_bodies{{.OnCluster}}
(
    id UUID CODEC(ZSTD(1)),
    ts DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    tenant LowCardinality(String),
    request String CODEC(ZSTD(3)),                         -- up to request_log.body_max; any bytes, not always UTF-8
    answer String CODEC(ZSTD(3)),
    request_bytes UInt64 CODEC(T64, ZSTD(1)),              -- of the whole body
    answer_bytes UInt64 CODEC(T64, ZSTD(1)),
    request_cut Bool,                                      -- there was more than is kept
    answer_cut Bool,
    INDEX ix_id id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = {{.MergeTree "request_bodies"}}
PARTITION BY toDate(ts)
ORDER BY (tenant, toStartOfHour(ts), ts, id)
TTL {{.BodyTTL}}
SETTINGS ttl_only_drop_parts = 1, index_granularity = 256, {{.Window}}
