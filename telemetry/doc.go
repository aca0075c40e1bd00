// Package telemetry counts and records: metrics for /metrics, the process's
// JSON log with one access line per request, and the ids of requests.
//
// It owns what is known of a finished exchange from the moment its owner hands
// it to Telemetry.Observe; it does not measure anything itself, and it opens no
// listener. No call that a request makes waits for a disk, a socket or a lock
// held during I/O: log lines go through a bounded buffer and are dropped and
// counted when the reader of the log is too slow, a scrape works on a copy.
// What clients choose (models, tenants) never makes more than a fixed number of
// series: beyond it the label is "other" and every sum stays exact. Two
// Telemetry values in one process share nothing.
package telemetry
