// Package logs is `relay logs`: it reads the request log, wherever it is, and
// sends files of it to ClickHouse.
//
// It owns the commands, their filters and their output. The log is the files of
// request_log.dir where no ClickHouse is configured, or with --files, and the
// table in ClickHouse otherwise; both give the same rows. Reading is streaming:
// memory holds one block, the rows that are printed last, and one line for each
// group of a sum, whatever the log's size. Damaged parts of files are left out
// and said so on standard error.
package logs
