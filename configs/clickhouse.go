package configs

import "embed"

// ClickHouseSchema holds the migrations of the request log's store,
// clickhouse/NNNN_name.sql: one statement each, a text/template whose fields
// package telemetry/clickhouse fills in. Those that end in .cluster.sql are for
// a cluster only. A file that has been released is not changed any more.
//
//go:embed clickhouse/*.sql
var ClickHouseSchema embed.FS
