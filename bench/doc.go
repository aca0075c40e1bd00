// Package bench holds what measures the relay from outside: a simulated
// provider (simulate), a load generator that checks every byte it gets back
// (load), and the comparison of the relay with other proxies on one machine
// (peers). It speaks HTTP only and imports nothing of the product, so a mistake
// in the relay cannot hide itself in the tool that measures it. The folders
// vegeta and k6 hold ready-to-run files for those two tools. Nothing here opens
// a connection beyond the addresses it was given.
package bench
