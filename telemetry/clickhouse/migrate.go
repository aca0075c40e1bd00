package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Step is one statement of a migration, done or to be done.
type Step struct {
	Version int // 0: what follows the configuration and not a number
	Name    string
	SQL     string
}

// Pending returns what is missing for s on the server, in order: migrations
// that have not been applied, or whose table has gone since, and changed times to
// live. A migration that was applied in another form than this program ships is
// an error, and so is a table of somebody else's in the place of one.
func (c *Conn) Pending(ctx context.Context, s Schema) ([]Step, error) {
	migrations, err := s.Migrations()
	if err != nil {
		return nil, err
	}
	applied, err := c.applied(ctx)
	if err != nil {
		return nil, err
	}
	tables, err := c.tables(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, m := range migrations {
		sum, ok := applied[m.Version]
		there := m.Table == "" || tables[m.Table] != nil
		switch {
		case ok && sum == m.Checksum && there:
		case !ok || sum == m.Checksum: // statements can be repeated
			if there && !ok {
				if lacking := slices.DeleteFunc(m.columns(), func(name string) bool { return tables[m.Table][name] }); len(lacking) > 0 {
					return nil, fmt.Errorf("the table %s.%s was made by something else and lacks %s: rename or drop it, and run `relay migrate` again", s.Name, m.Table, strings.Join(lacking, ", "))
				}
			}
			steps = append(steps, Step{m.Version, m.Name, m.SQL})
		default:
			return nil, fmt.Errorf("migration %04d_%s was applied in another form than this version ships: compare the tables by hand, then delete its row from %s.schema_migrations", m.Version, m.Name, s.Name)
		}
	}
	for _, t := range [...]struct{ table, ttl string }{{"request_log", s.LogTTL()}, {"usage_1h", s.UsageTTL()}, {"request_bodies", s.BodyTTL()}} {
		rows, err := c.strings(ctx, 1, "SELECT create_table_query FROM system.tables WHERE database = "+literal(s.Name)+" AND name = "+literal(t.table))
		if err != nil {
			return nil, fmt.Errorf("read the table's definition: %w", c.Explain(err))
		}
		if len(rows) == 1 && !strings.Contains(rows[0][0], " TTL "+t.ttl+" ") {
			steps = append(steps, Step{Name: t.table + " time to live",
				SQL: "ALTER TABLE " + s.Database() + "." + quote(t.table) + s.OnCluster() + " MODIFY TTL " + t.ttl})
		}
	}
	return steps, nil
}

// tables returns the columns of each table and view of a database.
func (c *Conn) tables(ctx context.Context, database string) (map[string]map[string]bool, error) {
	rows, err := c.strings(ctx, 2, "SELECT table, name FROM system.columns WHERE database = "+literal(database))
	if err != nil {
		return nil, fmt.Errorf("look for the tables there are: %w", c.Explain(err))
	}
	tables := map[string]map[string]bool{}
	for _, r := range rows {
		if tables[r[0]] == nil {
			tables[r[0]] = map[string]bool{}
		}
		tables[r[0]][r[1]] = true
	}
	return tables, nil
}

// applied returns the checksums of the migrations that were applied.
func (c *Conn) applied(ctx context.Context) (map[int]string, error) {
	rows, err := c.strings(ctx, 1, "SELECT name FROM system.tables WHERE name = 'schema_migrations' AND database = "+literal(c.database))
	if err != nil {
		return nil, fmt.Errorf("look for schema_migrations: %w", c.Explain(err))
	}
	if len(rows) == 0 {
		return nil, nil // never migrated
	}
	rows, err = c.strings(ctx, 2, "SELECT toString(version), argMax(checksum, applied_at) FROM "+quote(c.database)+".schema_migrations GROUP BY version")
	if err != nil {
		return nil, fmt.Errorf("read schema_migrations: %w", c.Explain(err))
	}
	applied := make(map[int]string, len(rows))
	for _, r := range rows {
		version, err := strconv.Atoi(r[0])
		if err != nil {
			return nil, fmt.Errorf("read schema_migrations: version %q", r[0])
		}
		applied[version] = r[1]
	}
	return applied, nil
}

// Apply runs steps and writes down which numbers are done, under app, the
// version of the program. It stops at the first error: what was done stays,
// and the same steps can be applied again.
func (c *Conn) Apply(ctx context.Context, s Schema, steps []Step, app string, done func(Step)) error {
	sums := map[int]string{}
	migrations, err := s.Migrations()
	if err != nil {
		return err
	}
	for _, m := range migrations {
		sums[m.Version] = m.Checksum
	}
	var unrecorded []Step // before there is a table to write them down in
	for _, step := range steps {
		if err := c.Exec(ctx, step.SQL); err != nil {
			return fmt.Errorf("apply %04d %s: %w", step.Version, step.Name, c.Explain(err))
		}
		if step.Version > 0 {
			unrecorded = append(unrecorded, step)
		}
		for step.Version != 1 && len(unrecorded) > 0 {
			r := unrecorded[0]
			if err := c.Exec(ctx, fmt.Sprintf("INSERT INTO %s.schema_migrations (version, name, checksum, app_version) SELECT %d, %s, %s, %s",
				s.Database(), r.Version, literal(r.Name), literal(sums[r.Version]), literal(app))); err != nil {
				return fmt.Errorf("write %04d_%s down: %w", r.Version, r.Name, c.Explain(err))
			}
			unrecorded = unrecorded[1:]
		}
		done(step)
	}
	return nil
}
