//go:build !race

package grafana

const raceEnabled = false
