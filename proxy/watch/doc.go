// Package watch reads answers as they pass: events, model output, usage, the
// end. From the bytes of an event stream it learns when the first output came,
// what the provider counted, whether it said that it was finished or failed;
// from a JSON answer what was counted. It also takes out the one event that
// the relay itself asked for and the client did not.
//
// It does no I/O, knows no HTTP and starts no goroutine (Inflate's coroutine
// runs only inside its methods). Whatever arrives, in whatever pieces, costs
// bounded memory and no allocation: an event of 16 MB is read by the same
// state machine as one of 200 bytes, and nothing of it is kept. Every cut of
// the same bytes gives the same facts and the same output. Bytes that are not
// what they should be are never an error here: they pass, and what they did
// not say stays unknown.
package watch
