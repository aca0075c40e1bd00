package logs

import (
	"time"

	"streamrelay/telemetry/clickhouse"
)

// hourly is what usage sums by the hour, as it stands behind FROM: the rollup,
// with times widened to whole hours. To that a model which the relay did not know
// is "other", so that the rows are asked for its name.
func (t *table) hourly(f *filter) string {
	rough := *f
	rough.From, rough.Model = f.From.Truncate(time.Hour), ""
	if !f.To.IsZero() {
		rough.To = f.To.Add(time.Hour - 1).Truncate(time.Hour)
	}
	hours := rough.whereBy("hour")
	if f.Model == "" {
		return t.name("usage_1h") + hours
	}
	and := func(where, condition string) string {
		if where == "" {
			return " WHERE " + condition
		}
		return where + " AND " + condition
	}
	model := clickhouse.Quote(f.Model)
	return "(SELECT " + rollupColumns + " FROM " + t.name("usage_1h") + and(hours, "model = "+model) +
		" UNION ALL SELECT " + rollupOfRows + " FROM " + t.name("request_log") + " AS l" + and(rough.where(), "model_requested = "+model+" AND model != "+model) +
		" GROUP BY hour, tenant, key_id, model, upstream)"
}

// The columns of the rollup that usage sums, and what usage_1h_mv makes them of.
const (
	rollupColumns = "hour, tenant, key_id, model, upstream, requests, errors, unknown_usage, unknown_cost," +
		" input_tokens, output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, cost_nano, ttft"
	rollupOfRows = "toStartOfHour(ts) AS hour, tenant, key_id, model, upstream, count(), countIf(end_reason NOT IN ('completed', 'client_gone'))," +
		" countIf(usage_source = 'unknown' AND upstream_status BETWEEN 200 AND 299 AND model != ''), countIf(usage_source != 'unknown' AND l.cost_nano IS NULL)," +
		" sum(input_tokens), sum(output_tokens), sum(cached_tokens), sum(cache_write_tokens), sum(reasoning_tokens), sum(ifNull(l.cost_nano, 0))," +
		" quantilesTDigestStateIf(0.5, 0.95, 0.99)(ttft_us, ttft_us > 0)"
)
