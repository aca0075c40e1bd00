package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"streamrelay/configs"
)

const probeTimeout = 5 * time.Second

// Probe returns what `relay check --online` tries at every server of the
// section clickhouse: the connection, the login, the version and the tables.
// columns are those that the log writes.
func Probe(columns []string) configs.Probe {
	return func(ctx context.Context, c *configs.Config) []configs.Finding {
		var found []configs.Finding
		for _, replicas := range c.ClickHouse.Servers() {
			for _, address := range replicas {
				found = append(found, probe(ctx, address, &c.ClickHouse, columns))
			}
		}
		return found
	}
}

func probe(ctx context.Context, address string, c *configs.ClickHouse, columns []string) configs.Finding {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	f := configs.Finding{Store: "clickhouse"}
	fail := func(err error) configs.Finding {
		f.Detail = err.Error()
		var dial *DialError
		if errors.As(err, &dial) { // "what is wrong: what to change"
			if wrong, change, ok := strings.Cut(dial.Text, ": "); ok {
				f.Detail, f.Hint = address+": "+wrong, change
			} else {
				f.Detail = address + ": " + dial.Text
			}
		}
		return f
	}
	conn, err := Dial(ctx, address, FromConfig(c))
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	t, err := conn.Describe(ctx, "request_log")
	if err != nil {
		return fail(err)
	}
	f.OK = true
	f.Detail = fmt.Sprintf("%s: version %s, table %s.request_log", address, conn.Version(), c.Database)
	lacking := slices.DeleteFunc(slices.Clone(columns), func(name string) bool { return t.Columns[name] })
	switch {
	case len(lacking) > 0:
		f.Hint = "the table lacks " + strings.Join(lacking, ", ") + ", which will not be stored: run `relay migrate`"
	case t.Window == 0:
		f.Hint = "the table remembers no deduplication tokens, so that each doubtful block is looked up by its ids: set non_replicated_deduplication_window = 10000"
	}
	return f
}
