// Package clickhouse speaks to ClickHouse for the request log: connections by
// the native protocol, the INSERT of one block under its deduplication token,
// the question which rows of a block are there already, and the schema.
//
// It owns what ClickHouse's errors mean (try again, wait for a migration, give
// the block up), the diagnosis of a connection that does not come about in
// words that say what to change, and the failover among a shard's replicas. It
// does not queue, retry or store anything, and knows of rows no more than the
// names of their columns. Statements are ch-go's; a connection belongs to one
// goroutine, and after any error it is closed.
package clickhouse
