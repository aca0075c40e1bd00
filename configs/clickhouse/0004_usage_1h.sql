-- What was used, by hour. Finish the states: quantilesTDigestMerge(0.5, 0.95, 0.99)(ttft).
CREATE TABLE IF NOT EXISTS {{.Database}}.usage_1h{{.OnCluster}}
(
    hour DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    tenant LowCardinality(String),
    key_id LowCardinality(String),
    model LowCardinality(String),
    upstream LowCardinality(String),
    requests SimpleAggregateFunction(sum, UInt64),
    errors SimpleAggregateFunction(sum, UInt64),
    unknown_usage SimpleAggregateFunction(sum, UInt64),   -- answered, and no tokens were named
    unknown_cost SimpleAggregateFunction(sum, UInt64),    -- tokens were named, and no price is known
    input_tokens SimpleAggregateFunction(sum, UInt64),
    output_tokens SimpleAggregateFunction(sum, UInt64),
    cached_tokens SimpleAggregateFunction(sum, UInt64),
    cache_write_tokens SimpleAggregateFunction(sum, UInt64),
    reasoning_tokens SimpleAggregateFunction(sum, UInt64),
    cost_nano SimpleAggregateFunction(sum, Int64),
    ttft AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), UInt64),
    duration AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), UInt64),
    max_duration_us SimpleAggregateFunction(max, UInt64)
)
ENGINE = {{.AggregatingMergeTree "usage_1h"}}
PARTITION BY toYYYYMM(hour)
ORDER BY (tenant, hour, model, upstream, key_id)
TTL {{.UsageTTL}}
SETTINGS {{.Window}}
