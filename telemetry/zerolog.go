package telemetry

import (
	"time"

	"github.com/rs/zerolog"
)

// Zerolog returns a logger into l for packages that do not know this one. It
// keeps the level that l has now.
func (l *Log) Zerolog() zerolog.Logger {
	if l == nil {
		return zerolog.Nop()
	}
	return l.z.Level(zerolog.Level(l.level.Load())).Hook(stampHook{})
}

// stampHook adds the time as all other lines have it.
type stampHook struct{}

func (stampHook) Run(e *zerolog.Event, _ zerolog.Level, _ string) { stamp(e, time.Now()) }
