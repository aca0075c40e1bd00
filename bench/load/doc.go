// Package load drives an HTTP endpoint with the requests of one scenario and
// checks every answer to the last byte against what the simulated provider
// (bench/simulate) is known to send, so that a stream that was cut, shortened
// or altered is an error however cleanly it ended. It also reads what the run
// cost other processes (CPU, memory) at the borders of its measuring window,
// since only it knows when that window is. It is made to be cheap on a machine
// that it shares with what it measures: raw sockets, one goroutine and one
// buffer a connection, no allocation per event. Every run ends by itself: each
// connection has a deadline, and a missing answer is an error of class timeout.
package load
