//go:build race

package grafana

// raceEnabled: the servers are processes of their own, which a race detector
// in the test does not see.
const raceEnabled = true
