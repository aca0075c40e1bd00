// Package process tests the relay as its users have it: the binary, built once,
// started with a relay.yaml in a folder of its own, talked to over sockets,
// ended by signals and judged by its exit code and by what it printed.
//
// It holds no code but tests. What only the whole process can get wrong stands
// here: signals and draining, commands and their exit codes, a standard output
// that is full or closed, a lack of descriptors, kill -9, secrets in anything
// that leaves the process, and every command that README.md shows. The provider
// is `relay simulate`, or a scripted one where a test must hold a stream open.
// Every relay that a test started must have logged nothing but JSON, and no
// panic, by the test's end.
package process
