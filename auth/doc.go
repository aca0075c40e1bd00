// Package auth answers one question: whose key is this, and what may it do?
// It owns the keys' form, the records behind them, the table in which a
// request's key is looked up, the file that keeps them (keys.yaml) and the
// commands that write that file. It takes bytes and returns values: it knows
// no HTTP, counts nothing, and presents no credential to anyone.
//
// A lookup takes no lock, allocates nothing and never waits. What it returns
// is an immutable Record that its caller may keep for as long as a request
// lasts, whatever is revoked meanwhile. Raw keys are never stored, logged or
// put into an error; only their digests are.
//
// When the file is broken, unreadable or gone, the keys read last stay in
// force and the log says so once per change; a file that was never there means
// an empty table, which refuses every key.
package auth
