//go:build race

package blackbox

// raceEnabled: the race detector allocates and slows down.
const raceEnabled = true
