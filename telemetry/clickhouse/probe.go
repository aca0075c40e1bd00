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
// columns are those that the log writes; bodies those of request_bodies, which
// is looked for where request_log.bodies asks for it.
func Probe(columns, bodies []string) configs.Probe {
	return func(ctx context.Context, c *configs.Config) []configs.Finding {
		var found []configs.Finding
		tables := []wanted{{"request_log", columns}}
		if c.RequestLog.WithBodies() {
			tables = append(tables, wanted{"request_bodies", bodies})
		}
		for _, replicas := range c.ClickHouse.Servers() {
			for _, address := range replicas {
				found = append(found, probe(ctx, address, &c.ClickHouse, tables))
			}
		}
		return found
	}
}

// wanted is a table and what it is to have.
type wanted struct {
	table   string
	columns []string
}

func probe(ctx context.Context, address string, c *configs.ClickHouse, tables []wanted) configs.Finding {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	f := configs.Finding{Name: "clickhouse"}
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
	var names, hints []string
	for _, w := range tables {
		t, err := conn.Describe(ctx, w.table)
		if err != nil {
			return fail(err)
		}
		names = append(names, c.Database+"."+w.table)
		lacking := slices.DeleteFunc(slices.Clone(w.columns), func(name string) bool { return t.Columns[name] })
		switch {
		case len(lacking) > 0:
			hints = append(hints, "the table "+w.table+" lacks "+strings.Join(lacking, ", ")+", which will not be stored: run `relay migrate`")
		case t.Window == 0:
			hints = append(hints, "the table "+w.table+" remembers no deduplication tokens, so that each doubtful block is looked up by its ids: set non_replicated_deduplication_window = 10000")
		}
	}
	f.OK, f.Hint = true, strings.Join(hints, "; ")
	f.Detail = fmt.Sprintf("%s: version %s, table %s", address, conn.Version(), strings.Join(names, ", "))
	return f
}
