package logs

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"streamrelay/configs"
	"streamrelay/telemetry"
	"streamrelay/telemetry/clickhouse/chtest"
)

// TestUsageOfAModelThatNobodyKnows: the rollup has it as "other", with the rest
// of those.
func TestUsageOfAModelThatNobodyKnows(t *testing.T) {
	files := configs.Default()
	files.RequestLog.Dir = t.TempDir()
	s := chtest.Start(t)
	store := configs.Default()
	store.RequestLog.Dir, store.ClickHouse.Address = t.TempDir(), s.Native
	makeTables(t, s.Native, store)
	day := time.Now().UTC().Truncate(24 * time.Hour).Add(-2 * time.Hour)
	printed := make(map[string]string)
	for name, c := range map[string]*configs.Config{"files": files, "clickhouse": store} {
		r := recorder(c)
		for i, model := range []string{"gpt-typo", "gpt-typo", "gpt-other", "m", "m", "m"} {
			at := day.Add(time.Duration(i) * 10 * time.Minute).UnixNano()
			q := &telemetry.Request{ID: testID(at, i), Start: at, Tenant: fmt.Appendf(nil, "t%d", i%2), Model: []byte(model), Method: []byte("POST"), Status: 404, UpstreamStatus: 404, End: telemetry.UpstreamStatus}
			if model == "m" {
				q.Status, q.UpstreamStatus, q.End = 200, 200, telemetry.Completed
				q.TTFT, q.UsageSource, q.Usage = 2e6, telemetry.UsageProvider, telemetry.Usage{Input: 3, Output: 4, Cached: -1, CacheWrite: -1, Reasoning: -1}
			}
			r.Append(q)
		}
		if err := r.Close(20 * time.Second); err != nil {
			t.Fatal(err)
		}
		src, end, err := open(t.Context(), c, false, nil, func(text string) { t.Errorf("warned: %s", text) })
		if err != nil {
			t.Fatal(err)
		}
		defer end()
		for _, f := range []filter{{Model: "gpt-typo"}, {Model: "gpt-typo", Tenant: "t0", From: day, To: day.Add(time.Hour)}, {Model: "m"}, {Model: "other"}, {Model: "it's"}, {}} {
			for _, by := range [][]string{{"tenant", "model", "day"}, nil} {
				groups, err := src.usage(t.Context(), &f, by)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				n := uint64(0)
				for i := range groups {
					n += groups[i].Requests
					groups[i].TTFT50, groups[i].TTFT95, groups[i].ttft = 0, 0, sketch{}
				}
				if want := map[string]uint64{"gpt-typo": 2, "m": 3, "other": 3, "": 6}[f.Model]; f.Tenant == "" && n != want {
					t.Errorf("%s: %d requests for model %q, want %d", name, n, f.Model, want)
				}
				printed[name] += fmt.Sprintf("%+v by %v: %+v\n", f, by, groups)
			}
		}
	}
	if printed["files"] != printed["clickhouse"] {
		t.Errorf("files:\n%s\nclickhouse:\n%s", printed["files"], printed["clickhouse"])
	}
}

// TestRowsAreSummedByTheHourAsTheRollupDoes: what hourly makes of rows is what
// the view of the schema makes of them, column by column.
func TestRowsAreSummedByTheHourAsTheRollupDoes(t *testing.T) {
	s := chtest.Start(t)
	c := configs.Default()
	c.RequestLog.Dir, c.ClickHouse.Address = t.TempDir(), s.Native
	makeTables(t, s.Native, c)
	fill(t, c)
	const by = " GROUP BY hour, tenant, key_id, model, upstream"
	sums := func(from string) string {
		return s.Query("SELECT hour, tenant, key_id, model, upstream, sum(requests), sum(errors), sum(unknown_usage), sum(unknown_cost), sum(input_tokens), sum(output_tokens)," +
			" sum(cached_tokens), sum(cache_write_tokens), sum(reasoning_tokens), sum(cost_nano), quantilesTDigestMerge(0.5, 0.95, 0.99)(ttft) FROM (" + from + ")" + by + " ORDER BY ALL")
	}
	rollup := sums("SELECT " + rollupColumns + " FROM relay.usage_1h")
	rows := sums("SELECT " + rollupColumns + " FROM relay.usage_1h WHERE 0 UNION ALL SELECT " + rollupOfRows + " FROM relay.request_log AS l" + by)
	if rollup != rows || strings.Count(rollup, "\n") < 5 {
		t.Errorf("the rollup:\n%s\nof rows:\n%s", rollup, rows)
	}
}
