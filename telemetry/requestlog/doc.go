// Package requestlog is the request log's live half: one row for every finished
// exchange, and where that is asked for what was said in it, from the moment
// telemetry hands the exchange over until both are stored.
//
// It owns the rows' schema, the records that requests append, the making of
// columns and blocks of them, and the delivery of blocks to ClickHouse. Files
// are package spool's, connections and statements package clickhouse's, reading
// the log package logs'. Append allocates nothing and waits for no I/O: it
// holds one shard's lock for a copy, and drops and counts what finds no room.
// What a block promises once it is sealed: it is stored exactly once, however
// often its delivery is tried and whatever a reload changes meanwhile, or it is
// counted as dropped or moved to quarantine, and said so. Bodies have a pipe of
// their own, with its own files, table and counts: that they are late, or lost,
// keeps no row from its place.
package requestlog
