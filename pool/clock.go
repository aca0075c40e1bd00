package pool

import "time"

// epoch is when the process began, with its monotonic reading. Deadlines are
// made from it, so that a step of the wall clock moves none of them.
var epoch = time.Now()

// Now is the time in Unix nanoseconds as a clock shows it that nobody sets.
func Now() int64 { return epoch.UnixNano() + int64(time.Since(epoch)) }

// At is the time that Now will have called ns, for deadlines.
func At(ns int64) time.Time { return epoch.Add(time.Duration(ns - epoch.UnixNano())) }
