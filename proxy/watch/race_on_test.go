//go:build race

package watch

// raceEnabled: sync.Pool drops objects at random under the race detector.
const raceEnabled = true
