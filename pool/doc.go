// Package pool lends what is given back: buffers, and connections to upstreams
// together with the credential that goes with them.
//
// It owns dialling (both address families, forward proxies, TLS inside the
// connect deadline), keep-alive with a liveness check before reuse, the choice
// of an account, and what is known of it: limits that it reached, refusals,
// circuits, health checks. It does not know what is said over a connection: it
// reads no head and no body but those of its own health checks, and retries
// nothing; its caller says how an attempt went.
//
// Everything lent has one owner at a time, which gives it back exactly once;
// in race builds a buffer given back twice panics and its bytes are
// overwritten, so that a stale reader is seen. When an upstream is out of
// reach the caller gets an error and nothing is left behind.
package pool
