// Package auth answers one question: whose key is this, and what may it do and
// use? It owns the keys' form, the records behind them, the table in which a
// request's key is looked up, the stores that keep them (keys.yaml or Redis),
// the commands and the API that change those, and, in package limits, what keys
// and tenants may use. It takes bytes and returns values: it knows no HTTP but
// that of its own API, counts no metrics, and presents no credential to anyone.
//
// A lookup of a known key takes no lock, allocates nothing and never waits. What
// it returns is an immutable Record that its caller may keep for as long as a
// request lasts, whatever is revoked meanwhile; Record.Ended says so. Raw keys
// are never stored, logged or put into an error; only their digests are.
//
// When the keys file is broken, unreadable or gone, the keys read last stay in
// force and the log says so once per change; a file that was never there means
// an empty table, which refuses every key. When Redis is away, or came back
// without the keys, known keys go on for redis.stale_max, over a restart as
// well, and others are Unavailable, never Unknown; when it is back, the table is
// brought up to date before it counts as fresh.
//
// A reload puts prices, another keys file or another Redis in force on a running
// Store, all of it or nothing: see Store.Prepare.
package auth
