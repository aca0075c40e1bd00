//go:build race

package process

// raceEnabled: the relay under test is built with the race detector, too.
const raceEnabled = true
