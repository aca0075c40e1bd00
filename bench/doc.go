// Package bench is the command relay bench: scenarios by name, searches for the
// highest load within an SLO, and the frontier of the public gateway benchmark.
// Below it stand what it is made of: a simulated provider (simulate), a load
// generator that checks every byte it gets back (load), reports (report), and
// the comparison of the relay with other proxies on one machine (peers). All of
// it speaks HTTP only and imports nothing of the product, so a mistake in the
// relay cannot hide itself in the tool that measures it. The folders vegeta and
// k6 hold ready-to-run files for those two tools, tools their pinned versions.
// Nothing here opens a connection beyond the addresses it was given, which have
// to be on this machine unless the user says otherwise.
package bench
