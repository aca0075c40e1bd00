// Package load drives HTTP endpoints with requests and checks every answer: to
// the last byte against what the simulated provider (bench/simulate) is known to
// send, or, at a provider whose answers nobody knows beforehand, by its form up
// to the terminal event. So a stream that was cut, shortened or altered is an
// error however cleanly it ended. Requests come by schedule (open loop; latency
// counts from the time at which a request was due, and how late the generator
// itself sent is a histogram of its own that can make a run invalid), on a fixed
// number of connections (closed loop), as streams held open, or from clients that
// leave. It also reads what the run cost other processes (CPU, memory) at the
// borders of its measuring window. It is made to be cheap on a machine that it
// shares with what it measures: raw sockets, one goroutine and one buffer a
// connection, no allocation per event. Its memory does not grow with the length
// of a run, and every run ends by itself: each answer has a time after which it
// is given up.
package load
