// Package spool keeps sealed blocks of the request log in files: until they
// are acknowledged where there is a store to send them to, and as the log
// itself where there is none.
//
// It owns the frame around a block with its checksums, the files and their
// names, the lock that makes a folder one process's own, the recovery of what
// a killed process left, acknowledgements, the caps in bytes and age, and the
// scan that readers use. It does not know what a block holds, and sends
// nothing. What Append has returned without an error is there after kill -9,
// and after a power cut once it has been synced (Options.Fsync); damaged bytes
// are cut out and counted, never handed out. Every file with the ending
// .native.zst is whole, and readable by ClickHouse's file() as it is.
package spool
