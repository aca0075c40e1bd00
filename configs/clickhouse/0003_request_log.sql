-- One row a request. Tokens mean something only where usage_source is not
-- 'unknown'; cost_nano (billionths of a US dollar) is NULL where no price is known.
CREATE TABLE IF NOT EXISTS {{.Database}}.request_log{{.OnCluster}}
(
    id UUID CODEC(ZSTD(1)),                                -- the relay's, version 7, unique
    ts DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),      -- when the request began
    instance LowCardinality(String),                       -- the relay
    client_request_id String CODEC(ZSTD(1)),               -- as the client named it, '' where it did not
    tenant LowCardinality(String),
    key_id LowCardinality(String),
    method LowCardinality(String),
    endpoint LowCardinality(String),
    model LowCardinality(String),                          -- 'other' where nobody knows it
    model_requested String CODEC(ZSTD(1)),                 -- what the client wrote, where model is 'other'
    upstream LowCardinality(String),
    credential LowCardinality(String),
    upstream_id String CODEC(ZSTD(1)),                     -- the provider's id of the request
    status UInt16 CODEC(T64, ZSTD(1)),                     -- 499: the client left before one
    upstream_status UInt16 CODEC(T64, ZSTD(1)),            -- 0: no answer
    end_reason LowCardinality(String),
    error LowCardinality(String),                          -- code of the relay's own error
    stream Bool,
    attempts UInt8 CODEC(T64, ZSTD(1)),
    usage_source Enum8('unknown' = 0, 'provider' = 1, 'partial' = 2),
    input_tokens UInt64 CODEC(T64, ZSTD(1)),
    output_tokens UInt64 CODEC(T64, ZSTD(1)),
    cached_tokens UInt64 CODEC(T64, ZSTD(1)),
    cache_write_tokens UInt64 CODEC(T64, ZSTD(1)),
    reasoning_tokens UInt64 CODEC(T64, ZSTD(1)),
    cost_nano Nullable(Int64) CODEC(T64, ZSTD(1)),
    duration_us UInt64 CODEC(T64, ZSTD(1)),
    upstream_head_us UInt64 CODEC(T64, ZSTD(1)),
    first_event_us UInt64 CODEC(T64, ZSTD(1)),
    ttft_us UInt64 CODEC(T64, ZSTD(1)),                    -- 0: no output was seen
    overhead_us UInt64 CODEC(T64, ZSTD(1)),                -- within the relay
    gap_p50_us UInt64 CODEC(T64, ZSTD(1)),                 -- between events of a stream
    gap_max_us UInt64 CODEC(T64, ZSTD(1)),
    events UInt64 CODEC(T64, ZSTD(1)),
    content_events UInt64 CODEC(T64, ZSTD(1)),
    bytes_in UInt64 CODEC(T64, ZSTD(1)),
    bytes_out UInt64 CODEC(T64, ZSTD(1)),
    client_ip IPv6 CODEC(ZSTD(1)),
    user_agent LowCardinality(String),
    request_id String ALIAS if(client_request_id = '', toString(id), client_request_id),
    cost_usd Decimal(18, 9) ALIAS toDecimal64(ifNull(cost_nano, 0), 9) / 1000000000,
    INDEX ix_id id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX ix_client_request_id client_request_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX ix_upstream_id upstream_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX ix_key_id key_id TYPE set(256) GRANULARITY 4,
    INDEX ix_status status TYPE set(16) GRANULARITY 4,
    INDEX ix_ts ts TYPE minmax GRANULARITY 1
)
ENGINE = {{.MergeTree "request_log"}}
PARTITION BY toDate(ts)
PRIMARY KEY (tenant, model, toStartOfHour(ts))
ORDER BY (tenant, model, toStartOfHour(ts), ts, id)
TTL {{.LogTTL}}
SETTINGS ttl_only_drop_parts = 1, {{.Window}}
