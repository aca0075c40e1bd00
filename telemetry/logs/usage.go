package logs

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"streamrelay/telemetry"
	"streamrelay/telemetry/requestlog"
)

// group is the usage of one combination of what is grouped by. Tokens and cost
// are sums over the requests for which they are known; UnknownUsage and
// UnknownCost say of how many they are not.
type group struct {
	By                                           []string // values, as the fields asked for
	Requests, Errors, UnknownUsage, UnknownCost  uint64
	Input, Output, Cached, CacheWrite, Reasoning uint64
	Cost                                         int64   // nano US dollars
	TTFT50, TTFT95                               float64 // milliseconds; 0: no output was seen
	ttft                                         sketch
}

// fields that usage can be grouped by, and the SQL of each.
var groupFields = map[string]string{
	"tenant": "CAST(tenant, 'String')", "key": "CAST(key_id, 'String')", "model": "CAST(model, 'String')", "upstream": "CAST(upstream, 'String')",
	"day": "toString(toDate(%s))", "hour": "formatDateTime(toStartOfHour(%s), '%%Y-%%m-%%dT%%H:00Z', 'UTC')",
}

// maxGroups bounds the memory of a sum.
const maxGroups = 100_000

func fieldOf(r *requestlog.Row, field string) string {
	switch field {
	case "tenant":
		return r.Tenant
	case "key":
		return r.KeyID
	case "model":
		return r.Model
	case "upstream":
		return r.Upstream
	case "day":
		return time.UnixMilli(r.Start).UTC().Format(time.DateOnly)
	}
	return time.UnixMilli(r.Start).UTC().Format("2006-01-02T15:00Z")
}

// add counts a row, as usage_1h_mv does.
func (g *group) add(r *requestlog.Row) {
	g.Requests++
	if r.EndReason != telemetry.Completed.String() && r.EndReason != telemetry.ClientGone.String() {
		g.Errors++
	}
	if r.UsageSource == telemetry.UsageUnknown {
		if r.UpstreamStatus/100 == 2 && r.Model != "" {
			g.UnknownUsage++
		}
	} else if !r.CostKnown {
		g.UnknownCost++
	}
	g.Input += r.Input
	g.Output += r.Output
	g.Cached += r.Cached
	g.CacheWrite += r.CacheWrite
	g.Reasoning += r.Thought
	g.Cost += r.Cost
	if r.TTFT > 0 {
		g.ttft.add(float64(r.TTFT))
	}
}

func (d *folder) usage(ctx context.Context, f *filter, by []string) ([]group, error) {
	groups := make(map[string]*group)
	err := d.scan(ctx, f, func(r *requestlog.Row) error {
		values := make([]string, len(by))
		for i, field := range by {
			values[i] = fieldOf(r, field)
		}
		key := strings.Join(values, "\x00")
		g := groups[key]
		if g == nil {
			if len(groups) == maxGroups {
				return fmt.Errorf("more than %d groups: group by fewer fields with --by, or narrow with --since", maxGroups)
			}
			g = &group{By: values}
			groups[key] = g
		}
		g.add(r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	list := make([]group, 0, len(groups))
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		g := groups[key]
		g.TTFT50, g.TTFT95 = g.ttft.quantile(0.5)/1e3, g.ttft.quantile(0.95)/1e3
		list = append(list, *g)
	}
	return list, nil
}

// usage reads the hourly rollup where it knows enough, since that outlives the
// rows; times are then widened to whole hours.
func (t *table) usage(ctx context.Context, f *filter, by []string) ([]group, error) {
	fields := make([]string, 0, len(by)+12)
	from, clock := t.name("request_log"), "ts"
	where := f.where()
	if f.wholeHours() {
		from, clock, where = t.hourly(f), "hour", ""
	}
	for i, field := range by {
		sql := groupFields[field]
		if strings.Contains(sql, "%s") {
			sql = fmt.Sprintf(sql, clock)
		}
		fields = append(fields, fmt.Sprintf("%s AS g%d", sql, i))
	}
	const tokens = "sum(input_tokens), sum(output_tokens), sum(cached_tokens), sum(cache_write_tokens), sum(reasoning_tokens)"
	if f.wholeHours() {
		fields = append(fields, "sum(requests), sum(errors), sum(unknown_usage), sum(unknown_cost), "+tokens+", sum(cost_nano)",
			"quantilesTDigestMerge(0.5, 0.95, 0.99)(ttft) AS q, if(isFinite(q[1]), toFloat64(q[1]), 0), if(isFinite(q[2]), toFloat64(q[2]), 0)")
	} else {
		fields = append(fields, "count(), countIf(end_reason NOT IN ('completed', 'client_gone')),"+
			" countIf(usage_source = 'unknown' AND upstream_status BETWEEN 200 AND 299 AND model != ''), countIf(usage_source != 'unknown' AND cost_nano IS NULL), "+tokens+", sum(ifNull(cost_nano, 0))",
			"arrayMap(x -> if(isFinite(x), toFloat64(x), 0), quantilesTDigestIf(0.5, 0.95)(ttft_us, ttft_us > 0)) AS q, toFloat64(q[1]), toFloat64(q[2])")
	}
	groupBy := ""
	if len(by) > 0 {
		names := make([]string, len(by))
		for i := range by {
			names[i] = fmt.Sprintf("g%d", i)
		}
		groupBy = " GROUP BY " + strings.Join(names, ", ") + " ORDER BY " + strings.Join(names, ", ")
	}

	values := make([]proto.ColStr, len(by))
	var sums [9]proto.ColUInt64
	var cost proto.ColInt64
	q := proto.NewArray[float64](new(proto.ColFloat64))
	if f.wholeHours() {
		q = nil
	}
	var p50, p95 proto.ColFloat64
	var results proto.Results
	for i := range values {
		results = append(results, proto.ResultColumn{Data: &values[i]})
	}
	for i := range sums {
		results = append(results, proto.ResultColumn{Data: &sums[i]})
	}
	results = append(results, proto.ResultColumn{Data: &cost})
	if q != nil {
		results = append(results, proto.ResultColumn{Data: q})
	} else {
		results = append(results, proto.ResultColumn{Data: proto.NewArray[float32](new(proto.ColFloat32))})
	}
	results = append(results, proto.ResultColumn{Data: &p50}, proto.ResultColumn{Data: &p95})

	var list []group
	statement := "SELECT " + strings.Join(fields, ", ") + " FROM " + from + where + groupBy + fmt.Sprintf(" LIMIT %d", maxGroups+1)
	err := t.conn.Select(ctx, statement, results, func(rows int) error {
		for i := range rows {
			g := group{
				Requests: sums[0][i], Errors: sums[1][i], UnknownUsage: sums[2][i], UnknownCost: sums[3][i],
				Input: sums[4][i], Output: sums[5][i], Cached: sums[6][i], CacheWrite: sums[7][i], Reasoning: sums[8][i],
				Cost: cost[i], TTFT50: p50[i] / 1e3, TTFT95: p95[i] / 1e3,
			}
			for c := range values {
				g.By = append(g.By, values[c].Row(i))
			}
			if g.Requests > 0 || len(by) > 0 {
				list = append(list, g)
			}
		}
		if len(list) > maxGroups {
			return fmt.Errorf("more than %d groups: group by fewer fields with --by, or narrow with --since", maxGroups)
		}
		return nil
	})
	return list, err
}

// sketch keeps quantiles of positive values to 1 % (buckets that grow by 2 %,
// after DDSketch, Masson et al. 2019), in memory bounded by the range of what
// it saw. The zero value is ready.
type sketch struct {
	buckets map[int16]uint64
	n       uint64
}

var logGamma = math.Log(1.02)

func (s *sketch) add(v float64) {
	if s.buckets == nil {
		s.buckets = make(map[int16]uint64)
	}
	s.buckets[int16(math.Ceil(math.Log(max(v, 1))/logGamma))]++
	s.n++
}

// quantile is 0 where nothing was added.
func (s *sketch) quantile(q float64) float64 {
	rank, seen := uint64(q*float64(s.n-min(s.n, 1)))+1, uint64(0)
	for _, b := range slices.Sorted(maps.Keys(s.buckets)) {
		if seen += s.buckets[b]; seen >= rank {
			return math.Exp(float64(b)*logGamma) * 2 / 2.02
		}
	}
	return 0
}
