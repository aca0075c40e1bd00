// Package blackbox tests the relay from outside: it starts one in the test's
// process through the exported API of package proxy, and talks to it over real
// loopback sockets on both sides, byte by byte.
//
// It holds no code but tests. The upstream is a script that writes raw bytes
// when the test says so, the client reads raw bytes, and channels give the
// order, so that a test can stop an exchange at any byte. Nothing here knows
// how the relay does what it does; what it promises is looked at on the wire,
// in the records of finished exchanges and in the metrics. Every relay that a
// test started is looked over once more at the test's end: no exchange, stream,
// connection, held body or goroutine may be left, and no panic have happened.
package blackbox
