package clickhouse

import (
	"context"
	"strings"
	"testing"
	"time"

	"streamrelay/configs"
	"streamrelay/telemetry/clickhouse/chtest"
)

const day = 24 * time.Hour

func dialed(t *testing.T, s *chtest.Server) *Conn {
	t.Helper()
	conn, err := Dial(context.Background(), s.Native, Options{Database: "relay", Username: "default"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func apply(t *testing.T, conn *Conn, schema Schema) (names []string) {
	t.Helper()
	steps, err := conn.Pending(t.Context(), schema)
	if err != nil {
		t.Fatal(err)
	}
	err = conn.Apply(t.Context(), schema, steps, "test", func(s Step) { names = append(names, s.Name) })
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestMigrationsAreAppliedOnceAndFollowTheConfiguredRetention(t *testing.T) {
	s := chtest.Start(t)
	conn := dialed(t, s)
	schema := Schema{Name: "relay", Retention: 90 * day, UsageRetention: 1095 * day, BodyRetention: 7 * day}
	if got := strings.Join(apply(t, conn, schema), " "); got != "database schema_migrations request_log usage_1h usage_1h_mv request_log_tries request_bodies request_log_cost" {
		t.Errorf("applied %s", got)
	}
	if got := apply(t, conn, schema); len(got) != 0 {
		t.Errorf("applied again: %q", got)
	}
	schema.Retention, schema.BodyRetention = 30*day, 3*day
	if got := strings.Join(apply(t, conn, schema), " "); got != "request_log time to live request_bodies time to live" {
		t.Errorf("after a change of the retention: %s", got)
	}
	if got := apply(t, conn, schema); len(got) != 0 {
		t.Errorf("applied again: %q", got)
	}
	if got := s.Query("SELECT count(), uniqExact(version) FROM relay.schema_migrations"); got != "8\t8" {
		t.Errorf("written down: %s", got)
	}
	s.Query("ALTER TABLE relay.schema_migrations UPDATE checksum = 'x' WHERE version = 3 SETTINGS mutations_sync = 1")
	if _, err := conn.Pending(t.Context(), schema); err == nil || !strings.Contains(err.Error(), "0003_request_log was applied in another form") {
		t.Errorf("a changed migration: %v", err)
	}
}

// TestClusterStatementsAreParsedByTheEngine: parsed, and not run: the engine
// of the tests has no Keeper, which Replicated tables and ON CLUSTER want.
func TestClusterStatementsAreParsedByTheEngine(t *testing.T) {
	s := chtest.Start(t)
	list, err := Schema{Name: "re`lay", Cluster: "main", Retention: day, UsageRetention: day, BodyRetention: day}.Migrations()
	if err != nil || len(list) != 13 {
		t.Fatalf("%d statements: %v", len(list), err)
	}
	for _, m := range list {
		if !strings.Contains(m.SQL, "ON CLUSTER `main`") {
			t.Errorf("%04d_%s is not for the cluster", m.Version, m.Name)
		}
		s.Query("EXPLAIN AST " + m.SQL)
	}
}

func TestWindowIsReadFromTheTablesDefinition(t *testing.T) {
	for engine, want := range map[string]struct {
		n   int
		age time.Duration
	}{
		"MergeTree ORDER BY a": {0, 0},
		"MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 8192":                               {10000, 0},
		"ReplicatedMergeTree('/a', 'b') ORDER BY a":                                                                                         {100, time.Hour},
		"ReplicatedMergeTree('/a', 'b') SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800": {10000, 7 * day},
		"ReplicatedMergeTree('/a', 'b') SETTINGS non_replicated_deduplication_window = 5":                                                   {100, time.Hour},
	} {
		if n, age := window(engine); n != want.n || age != want.age {
			t.Errorf("%s: %d, %v", engine, n, age)
		}
	}
}

func TestProbeSaysWhatIsThereAndWhatIsMissing(t *testing.T) {
	s := chtest.Start(t)
	c := configs.Default()
	c.ClickHouse.Address = s.Native
	probe := Probe([]string{"id", "ts", "not_yet"}, []string{"id", "request"})
	if f := probe(t.Context(), c); len(f) != 1 || f[0].OK || !strings.Contains(f[0].Detail, `there is no database "relay"`) || !strings.Contains(f[0].Hint, "relay migrate") {
		t.Errorf("without a database: %+v", f)
	}
	conn := dialed(t, s)
	apply(t, conn, SchemaOf(c))
	if f := probe(t.Context(), c); len(f) != 1 || !f[0].OK || !strings.Contains(f[0].Hint, "not_yet") {
		t.Errorf("with the tables: %+v", f)
	}
	s.Query("DROP TABLE relay.request_bodies")
	if f := probe(t.Context(), c); len(f) != 1 || !f[0].OK {
		t.Errorf("without bodies, which are not wanted: %+v", f)
	}
	c.RequestLog.Bodies = "errors"
	if f := probe(t.Context(), c); len(f) != 1 || f[0].OK || !strings.Contains(f[0].Detail, `there is no table "request_bodies"`) || !strings.Contains(f[0].Hint, "relay migrate") {
		t.Errorf("without bodies, which are wanted: %+v", f)
	}
	c.ClickHouse.Address = ""
	if f := probe(t.Context(), c); f != nil {
		t.Errorf("not configured: %+v", f)
	}
}

func TestATableThatHasGoneIsMadeAgain(t *testing.T) {
	s := chtest.Start(t)
	conn := dialed(t, s)
	schema := Schema{Name: "relay", Retention: 90 * day, UsageRetention: 1095 * day, BodyRetention: 7 * day}
	apply(t, conn, schema)
	for _, c := range []struct{ drop, want string }{
		{"DROP TABLE relay.request_log", "request_log request_log_tries request_log_cost"},
		{"DROP VIEW relay.usage_1h_mv", "usage_1h_mv"},
		{"DROP TABLE relay.request_bodies", "request_bodies"},
		{"DROP TABLE relay.schema_migrations", "database schema_migrations request_log usage_1h usage_1h_mv request_log_tries request_bodies request_log_cost"},
	} {
		s.Query(c.drop)
		if got := strings.Join(apply(t, conn, schema), " "); got != c.want {
			t.Errorf("after %s: applied %s", c.drop, got)
		}
		if got := apply(t, conn, schema); len(got) != 0 {
			t.Errorf("after %s: applied again: %q", c.drop, got)
		}
	}
	if got := s.Query("SELECT count() FROM system.columns WHERE database = 'relay' AND table = 'request_log' AND name IN ('tries.failure', 'trace_id')"); got != "2" {
		t.Errorf("%s of the columns that came later", got)
	}
}

func TestATableOfSomebodyElsesIsNotTakenForTheLog(t *testing.T) {
	s := chtest.Start(t)
	s.Query("CREATE DATABASE relay")
	s.Query("CREATE TABLE relay.request_log (ts DateTime, id UUID, model String) ENGINE = MergeTree ORDER BY ts")
	conn := dialed(t, s)
	schema := Schema{Name: "relay", Retention: 90 * day, UsageRetention: 1095 * day, BodyRetention: 7 * day}
	_, err := conn.Pending(t.Context(), schema)
	if err == nil || !strings.HasPrefix(err.Error(), "the table relay.request_log was made by something else and lacks instance, client_request_id, tenant, key_id,") ||
		!strings.HasSuffix(err.Error(), "request_id, cost_usd: rename or drop it, and run `relay migrate` again") {
		t.Fatal(err)
	}
	s.Query("RENAME TABLE relay.request_log TO relay.theirs")
	if got := strings.Join(apply(t, conn, schema), " "); got != "database schema_migrations request_log usage_1h usage_1h_mv request_log_tries request_bodies request_log_cost" {
		t.Errorf("applied %s", got)
	}
}

func TestEveryCostIsThereInDollars(t *testing.T) {
	s := chtest.Start(t)
	apply(t, dialed(t, s), Schema{Name: "relay", Retention: 90 * day, UsageRetention: 1095 * day, BodyRetention: 7 * day})
	s.Query("INSERT INTO relay.request_log (id, ts, tenant, cost_nano) SELECT generateUUIDv4(), now(), 'a', arrayJoin([NULL, 1, 9223372036, 10000000001, 9223372036854775807])")
	const want = "0,0.000000001,9.223372036,10.000000001,9223372036.854775807"
	if got, err := s.Try("SELECT arrayStringConcat(groupArray(toString(cost_usd)), ',') FROM (SELECT cost_usd FROM relay.request_log ORDER BY cost_nano NULLS FIRST)"); err != nil || got != want {
		t.Errorf("%q, want %q: %v", got, want, err)
	}
}
