// Package proxy is the life of a request: accepting the connection, reading
// and checking its head, authenticating, choosing an upstream, forwarding,
// relaying the answer as it arrives, and saying exactly once how it ended.
//
// It owns the fasthttp server, the client connections under it, the watcher
// that notices clients leaving, the error answers of every dialect, and the
// stream carriers. It does not keep keys (package auth), connections to
// upstreams or memory (package pool), nor counts and logs (package telemetry);
// it calls them and none of them calls back.
//
// One goroutine owns an exchange from its head to its end. A caller may rely
// on this: no account of a provider gets a request twice unless nothing of it had
// left or the account asked for it, an answer that was cut short never looks
// whole, and whatever happens to a client, an upstream or the log,
// the exchange ends, is recorded once, and leaves nothing behind.
package proxy
