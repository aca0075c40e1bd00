// Package report says what a run of the load generator showed: as text, as JSON
// (the Report itself), as a percentile distribution that HdrHistogram's tools
// read, as one HTML page that needs no network, and as a comparison of two runs.
// It holds runs against the bounds that a user set for them (SLO). It measures
// nothing and opens no connection.
package report
