package logs

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"streamrelay/telemetry/requestlog"
)

// shards is the log in ClickHouse on servers that no cluster puts together: each
// is asked, and the answers are put together here.
type shards struct {
	tables []*table
	warn   func(string)
}

func (s *shards) scan(ctx context.Context, f *filter, yield func(*requestlog.Row) error) error {
	for _, t := range s.tables {
		if err := t.scan(ctx, f, yield); err != nil {
			return err
		}
	}
	return nil
}

func (s *shards) newest(ctx context.Context, f *filter, n int) ([]requestlog.Row, error) {
	var all []requestlog.Row
	for _, t := range s.tables {
		rows, err := t.newest(ctx, f, n)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return newestOf(all, n), nil
}

// newestOf returns the last n rows by the time of their beginning.
func newestOf(rows []requestlog.Row, n int) []requestlog.Row {
	slices.SortFunc(rows, func(a, b requestlog.Row) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return rows[max(0, len(rows)-n):]
}

// usage adds up what the shards say. Quantiles of several servers cannot be
// added up.
func (s *shards) usage(ctx context.Context, f *filter, by []string) ([]group, error) {
	sums := make(map[string]*group)
	for _, t := range s.tables {
		groups, err := t.usage(ctx, f, by)
		if err != nil {
			return nil, err
		}
		for i := range groups {
			g := &groups[i]
			g.TTFT50, g.TTFT95 = 0, 0
			key := strings.Join(g.By, "\x00")
			if sum := sums[key]; sum != nil {
				sum.merge(g)
			} else {
				sums[key] = g
			}
		}
	}
	s.warn("TTFT is left out: quantiles of several shards need clickhouse.cluster")
	list := make([]group, 0, len(sums))
	for _, key := range slices.Sorted(maps.Keys(sums)) {
		list = append(list, *sums[key])
	}
	return list, nil
}

// merge adds the sums of another server's group.
func (g *group) merge(o *group) {
	g.Requests += o.Requests
	g.Errors += o.Errors
	g.UnknownUsage += o.UnknownUsage
	g.UnknownCost += o.UnknownCost
	g.Input += o.Input
	g.Output += o.Output
	g.Cached += o.Cached
	g.CacheWrite += o.CacheWrite
	g.Reasoning += o.Reasoning
	g.Cost += o.Cost
}

func (s *shards) body(ctx context.Context, id [16]byte) (*requestlog.Body, error) {
	for _, t := range s.tables {
		if b, err := t.body(ctx, id); b != nil || err != nil {
			return b, err
		}
	}
	return nil, nil
}

// follow asks one shard after the other.
func (s *shards) follow(ctx context.Context, f *filter, print func(*requestlog.Row) error) (func() error, error) {
	var all []func() error
	for _, t := range s.tables {
		next, err := t.follow(ctx, f, print)
		if err != nil {
			return nil, err
		}
		all = append(all, next)
	}
	return func() error {
		for _, next := range all {
			if err := next(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}
