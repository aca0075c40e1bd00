//go:build race

package telemetry

// raceEnabled: sync.Pool forgets at random under the race detector, so that
// allocations cannot be counted.
const raceEnabled = true
