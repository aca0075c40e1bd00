package clickhouse

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"text/template"
	"time"

	"streamrelay/configs"
)

// Schema says in which form the log's tables are made.
type Schema struct {
	Name           string // of the database
	Cluster        string // "": a single server
	Retention      time.Duration
	UsageRetention time.Duration
	BodyRetention  time.Duration
}

// SchemaOf returns the schema that a configuration asks for.
func SchemaOf(c *configs.Config) Schema {
	return Schema{
		Name: c.ClickHouse.Database, Cluster: c.ClickHouse.Cluster,
		Retention: c.ClickHouse.Retention, UsageRetention: c.ClickHouse.UsageRetention, BodyRetention: c.RequestLog.BodyRetention,
	}
}

// Migration is one numbered statement.
type Migration struct {
	Version  int
	Name     string
	SQL      string
	Checksum string // SHA-256 of the shipped file, in hex
	Table    string // that it makes or changes; "": the database
}

// Migrations returns the statements for s in the order of their numbers.
func (s Schema) Migrations() ([]Migration, error) {
	files, err := fs.Glob(configs.ClickHouseSchema, "clickhouse/*.sql")
	if err != nil {
		return nil, err
	}
	var list []Migration
	for _, file := range files { // sorted
		name, forCluster := strings.CutSuffix(strings.TrimSuffix(path.Base(file), ".sql"), ".cluster")
		if forCluster && s.Cluster == "" {
			continue
		}
		number, name, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("migration %s: no number", file)
		}
		data, err := configs.ClickHouseSchema.ReadFile(file)
		if err != nil {
			return nil, err
		}
		tmpl, err := template.New(file).Parse(string(data))
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", file, err)
		}
		var sql strings.Builder
		if err := tmpl.Execute(&sql, s); err != nil {
			return nil, fmt.Errorf("migration %s: %w", file, err)
		}
		sum := sha256.Sum256(data)
		m := Migration{Version: version, Name: name, SQL: strings.TrimSpace(sql.String()), Checksum: hex.EncodeToString(sum[:])}
		if _, rest, ok := strings.Cut(m.SQL, s.Database()+"."); ok {
			m.Table = rest[:len(rest)-len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz_0123456789"))]
		}
		list = append(list, m)
	}
	return list, nil
}

// columns are those of the table that the statement makes; none where it makes
// a table like another, or none.
func (m *Migration) columns() (names []string) {
	_, list, ok := strings.Cut(m.SQL, "\n(\n")
	if !ok || !strings.Contains(m.SQL, "CREATE TABLE ") {
		return nil
	}
	list, _, _ = strings.Cut(list, "\n)")
	for line := range strings.Lines(list) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "INDEX" && name != "--" {
			names = append(names, strings.Trim(name, "`"))
		}
	}
	return names
}

// What follows are the fields of the templates.

// Database is the quoted name.
func (s Schema) Database() string { return quote(s.Name) }

// OnCluster follows the name of what a statement makes.
func (s Schema) OnCluster() string {
	if s.Cluster == "" {
		return ""
	}
	return " ON CLUSTER " + quote(s.Cluster)
}

func (s Schema) engine(kind, table string) string {
	if s.Cluster == "" {
		return kind
	}
	return "Replicated" + kind + "(" + literal("/clickhouse/tables/{shard}/"+s.Name+"/"+table) + ", '{replica}')"
}

// MergeTree is the engine of a table that each shard has its part of.
func (s Schema) MergeTree(table string) string { return s.engine("MergeTree", table) }

// AggregatingMergeTree is MergeTree for rollups.
func (s Schema) AggregatingMergeTree(table string) string {
	return s.engine("AggregatingMergeTree", table)
}

// Everywhere is the engine of a table that is the same on all servers.
func (s Schema) Everywhere(table string) string {
	if s.Cluster == "" {
		return "MergeTree"
	}
	return "ReplicatedMergeTree(" + literal("/clickhouse/tables/all/"+s.Name+"/"+table) + ", '{shard}-{replica}')"
}

// Distributed is the engine that reads all shards of a table.
func (s Schema) Distributed(table string) string {
	return "Distributed(" + literal(s.Cluster) + ", " + literal(s.Name) + ", " + literal(table) + ", cityHash64(tenant))"
}

// Window makes the servers remember the tokens of the last 10,000 INSERTs, on
// the log's table and on what its view writes to; a single server has no such
// memory by default, replicas one of an hour.
func (s Schema) Window() string {
	if s.Cluster == "" {
		return "non_replicated_deduplication_window = 10000"
	}
	return "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800"
}

// LogTTL is when rows of the log go.
func (s Schema) LogTTL() string { return ttl("toDateTime(ts)", s.Retention) }

// UsageTTL is when rows of the rollup go.
func (s Schema) UsageTTL() string { return ttl("hour", s.UsageRetention) }

// BodyTTL is when bodies go.
func (s Schema) BodyTTL() string { return ttl("toDateTime(ts)", s.BodyRetention) }

func ttl(from string, after time.Duration) string {
	return fmt.Sprintf("%s + toIntervalDay(%d)", from, max(1, int(after.Hours()/24)))
}
