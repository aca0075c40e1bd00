CREATE MATERIALIZED VIEW IF NOT EXISTS {{.Database}}.usage_1h_mv{{.OnCluster}} TO {{.Database}}.usage_1h AS
SELECT
    toStartOfHour(ts) AS hour,
    tenant,
    key_id,
    model,
    upstream,
    count() AS requests,
    countIf(end_reason NOT IN ('completed', 'client_gone')) AS errors,
    countIf(usage_source = 'unknown' AND upstream_status BETWEEN 200 AND 299 AND model != '') AS unknown_usage,
    countIf(usage_source != 'unknown' AND l.cost_nano IS NULL) AS unknown_cost,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cached_tokens) AS cached_tokens,
    sum(cache_write_tokens) AS cache_write_tokens,
    sum(reasoning_tokens) AS reasoning_tokens,
    sum(ifNull(l.cost_nano, 0)) AS cost_nano,
    quantilesTDigestStateIf(0.5, 0.95, 0.99)(ttft_us, ttft_us > 0) AS ttft,
    quantilesTDigestState(0.5, 0.95, 0.99)(duration_us) AS duration,
    max(duration_us) AS max_duration_us
FROM {{.Database}}.request_log AS l
GROUP BY hour, tenant, key_id, model, upstream
