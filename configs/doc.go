// Package configs defines relay.yaml: its types, defaults, units, validation
// and redaction, and holds every file that is shipped to configure the relay.
//
// Load reads a file and everything it names (secrets, certificates); Parse
// does the same with bytes in memory and touches no file. Both start from
// Default, decode strictly, and report all mistakes at once as *Problems, each
// with file, line, key and what to do about it. A Config that they return is
// valid and complete: its reader never asks whether a key was given. It is not
// changed afterwards and may be read from any number of goroutines.
//
// No error, warning or printed configuration of this package holds the value
// of a secret, nor text of the file around a mistake. The package opens no
// connection except for `relay check --online`, and does not know how the
// other packages act on what it describes.
package configs
