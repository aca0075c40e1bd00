// Package limits holds what a key or a tenant may use: requests and tokens per
// minute, requests at the same time, and money per day and month. It admits a
// request before it is forwarded, reserves what it may cost, and settles that
// by what it did cost, once, however it ended.
//
// Several relays share one limit through Redis without a round trip per
// request: each holds a lease, units that Redis granted it by one GCRA clock
// per limit, and spends them by an atomic operation. Nothing is granted twice,
// so requests, tokens and slots never overshoot; a lease that is not used goes
// back. Without Redis the same code grants from a clock of its own. While Redis
// is away, a relay grants its share of each limit or refuses, as configured.
//
// It knows neither keys nor HTTP: its caller says whose account a request is
// for and writes the headers.
package limits
