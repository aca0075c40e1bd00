//go:build race

package requestlog

const raceEnabled = true
