// Package live is the page of a running relay: what it does now and did in the
// last 15 minutes, in a browser at / of the admin listener, and as JSON for
// `relay top` and scripts.
//
// It owns the figures behind that page, in memory of a fixed size (at most
// 2 MiB, whatever clients send), and the page itself. Observe takes every finished exchange; what only the proxy knows
// (open streams, states of upstreams, the log, the keys) it asks for by the
// functions of Sources, once a second and only while somebody looks. It stores
// nothing: a restart begins anew. Metrics for alerts are telemetry's, the
// record of each request is requestlog's. Nobody who looks can hold up a
// request: a viewer that is too slow misses seconds, and is let go in the end.
package live
