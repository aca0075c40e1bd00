package clickhouse

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"
)

// Table is what the server says of one of the log's tables.
type Table struct {
	Name    string          // as it stands in statements, quoted
	Columns map[string]bool // that can be inserted
	// Window is how many of the last INSERTs the server knows by their tokens,
	// and Remembers for how long; 0: without a limit.
	Window    int
	Remembers time.Duration

	plain, database string
}

// quote quotes an identifier.
func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// literal quotes a string.
func literal(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// Describe asks for the columns and the deduplication window of a table. The
// error is a *DialError where the database or the table is missing.
func (c *Conn) Describe(ctx context.Context, table string) (*Table, error) {
	where := " WHERE database = " + literal(c.database)
	rows, err := c.strings(ctx, 1, "SELECT name FROM system.columns"+where+" AND table = "+literal(table)+
		" AND default_kind NOT IN ('ALIAS', 'MATERIALIZED')")
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", table, c.Explain(err))
	}
	if len(rows) == 0 {
		known, err := c.strings(ctx, 1, "SELECT name FROM system.databases WHERE name = "+literal(c.database))
		if err != nil {
			return nil, fmt.Errorf("describe %s: %w", table, c.Explain(err))
		}
		if len(known) == 0 {
			return nil, &DialError{Address: c.address, Kind: KindDatabase,
				Text: fmt.Sprintf("there is no database %q: run `relay migrate`, or correct clickhouse.database", c.database)}
		}
		return nil, &DialError{Address: c.address, Kind: KindTable,
			Text: fmt.Sprintf("there is no table %q in database %q, or the user may not see it: run `relay migrate`", table, c.database)}
	}
	if err := c.migrated(ctx); err != nil {
		return nil, err
	}
	t := &Table{Name: quote(c.database) + "." + quote(table), Columns: make(map[string]bool, len(rows)), plain: table, database: c.database}
	for _, r := range rows {
		t.Columns[r[0]] = true
	}
	engine, err := c.strings(ctx, 1, "SELECT engine_full FROM system.tables"+where+" AND name = "+literal(table))
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", table, c.Explain(err))
	}
	if len(engine) > 0 {
		t.Window, t.Remembers = window(engine[0][0])
	}
	return t, nil
}

// viewVersion is the migration that makes the rollup's view.
const viewVersion = 5

// migrated reports a migration under way: rows that are stored between the
// making of the table and that of its view would be missing from the rollup.
// Tables that `relay migrate` did not make are taken as they are.
func (c *Conn) migrated(ctx context.Context) error {
	applied, err := c.applied(ctx)
	if err != nil || applied == nil || applied[viewVersion] != "" {
		return err
	}
	return &DialError{Address: c.address, Kind: KindTable,
		Text: fmt.Sprintf("the tables in database %q are being made, or their making was cut off: run `relay migrate`", c.database)}
}

var (
	reWindow  = regexp.MustCompile(`\b(non_replicated|replicated)_deduplication_window = (\d+)`)
	reSeconds = regexp.MustCompile(`\breplicated_deduplication_window_seconds = (\d+)`)
)

// window reads the deduplication window out of a table's definition. Where it
// is not set there, servers have none (MergeTree) or the least that any
// version has by default (Replicated: 100 and an hour).
func window(engine string) (int, time.Duration) {
	replicated := strings.HasPrefix(engine, "Replicated") || strings.HasPrefix(engine, "Shared")
	n, age := 0, time.Duration(0)
	if replicated {
		n, age = 100, time.Hour
	}
	for _, m := range reWindow.FindAllStringSubmatch(engine, -1) {
		if (m[1] == "replicated") == replicated {
			n, _ = strconv.Atoi(m[2])
		}
	}
	if m := reSeconds.FindStringSubmatch(engine); m != nil && replicated {
		s, _ := strconv.Atoi(m[1])
		age = time.Duration(s) * time.Second
	}
	return n, age
}

// Insert stores one block by one INSERT under one deduplication token, and
// returns once the server has it. Columns that the table lacks are left out.
func (c *Conn) Insert(ctx context.Context, t *Table, input proto.Input, token string) error {
	kept := make(proto.Input, 0, len(input))
	for _, col := range input {
		if t.Columns[col.Name] {
			kept = append(kept, col)
		}
	}
	err := c.do(ctx, ch.Query{
		Body:  "INSERT INTO " + t.Name + " " + kept.Columns() + " VALUES",
		Input: kept,
		// Not one of them is Important: a server that does not know one shall
		// pass over it.
		Settings: []ch.Setting{
			{Key: "async_insert", Value: "0"}, // 1 by default since 26.3, and tokens then mean less
			{Key: "insert_deduplicate", Value: "1"},
			{Key: "insert_deduplication_token", Value: token},
			{Key: "deduplicate_blocks_in_dependent_materialized_views", Value: "1"},
			{Key: "insert_quorum", Value: "0"},
		},
	})
	if err != nil {
		return fmt.Errorf("insert into %s: %w", t.plain, err)
	}
	return nil
}

// Inserted returns for each partition of the table a number that grows by at
// least one with every INSERT into it, whoever makes it: that of its newest block.
func (c *Conn) Inserted(ctx context.Context, t *Table) (map[string]int64, error) {
	rows, err := c.strings(ctx, 2, "SELECT partition_id, toString(max(max_block_number)) FROM system.parts"+
		" WHERE database = "+literal(t.database)+" AND table = "+literal(t.plain)+" GROUP BY partition_id")
	if err != nil {
		return nil, fmt.Errorf("count inserts of %s: %w", t.plain, err)
	}
	newest := make(map[string]int64, len(rows))
	for _, r := range rows {
		if newest[r[0]], err = strconv.ParseInt(r[1], 10, 64); err != nil {
			return nil, fmt.Errorf("count inserts of %s: %w", t.plain, err)
		}
	}
	return newest, nil
}

// idsPerQuery keeps a statement below the least max_query_size of a server
// that does not let it be set.
const idsPerQuery = 5000

// Present returns which of ids are in the table. from and to are the earliest
// and the latest time of their rows in Unix milliseconds.
func (c *Conn) Present(ctx context.Context, t *Table, ids []uuid.UUID, from, to int64) (map[uuid.UUID]bool, error) {
	present := make(map[uuid.UUID]bool)
	for len(ids) > 0 {
		some := ids[:min(len(ids), idsPerQuery)]
		ids = ids[len(some):]
		var q strings.Builder
		fmt.Fprintf(&q, "SELECT id FROM %s WHERE ts >= fromUnixTimestamp64Milli(%d, 'UTC') AND ts <= fromUnixTimestamp64Milli(%d, 'UTC') AND id IN (", t.Name, from, to)
		for i, id := range some {
			if i > 0 {
				q.WriteByte(',')
			}
			q.WriteString("'" + id.String() + "'")
		}
		q.WriteByte(')')
		var col proto.ColUUID
		err := c.do(ctx, ch.Query{
			Body: q.String(), Settings: []ch.Setting{{Key: "max_query_size", Value: "1048576"}},
			Result: proto.Results{{Name: "id", Data: &col}},
			OnResult: func(context.Context, proto.Block) error {
				for _, id := range col {
					present[id] = true
				}
				return nil
			},
		})
		if err != nil {
			return nil, fmt.Errorf("look ids up in %s: %w", t.plain, err)
		}
	}
	return present, nil
}

// Select runs a SELECT and calls each with the rows of every block of its
// result, which stand in columns until each returns. Blocks come as the server
// makes them, so that memory is bounded by one of them.
func (c *Conn) Select(ctx context.Context, statement string, columns proto.Result, each func(rows int) error) error {
	// Two short cuts of ClickHouse 26.5 mistake the threshold of what is sorted by
	// a time and an id and limited: the one fails now and then with TYPE_MISMATCH
	// (ClickHouse/ClickHouse#106294), the other leaves out the newest rows. A
	// server that does not know a setting passes over it.
	settings := []ch.Setting{{Key: "use_top_k_dynamic_filtering", Value: "0"}, {Key: "use_skip_indexes_for_top_k", Value: "0"}}
	err := c.do(ctx, ch.Query{Body: statement, Result: columns, Settings: settings, OnResult: func(_ context.Context, b proto.Block) error {
		if b.Rows == 0 {
			return nil
		}
		return each(b.Rows)
	}})
	if err != nil {
		return c.Explain(err)
	}
	return nil
}

// Quote quotes a string as a literal of a statement.
func Quote(s string) string { return literal(s) }
