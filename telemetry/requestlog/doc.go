// Package requestlog is the request log's live half: one row for every finished
// exchange, in columns, from the moment telemetry hands the exchange over until
// the row is stored.
//
// It owns the row's schema, the batches that rows are appended to, the sealing
// of batches into blocks, and the delivery of blocks to ClickHouse. Files are
// package spool's, connections and statements package clickhouse's, reading
// the log package logs'. Append allocates nothing and waits for no I/O: it
// holds one shard's lock for a copy, and drops and counts a row that finds no
// room. What a block promises once it is sealed: it is stored exactly once,
// however often its delivery is tried, or it is counted as dropped or moved to
// quarantine, and said so.
package requestlog
