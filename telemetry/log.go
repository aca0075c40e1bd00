package telemetry

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Log is the process's own log: one JSON object a line, with level, time
// (RFC 3339, UTC, milliseconds) and message. It never blocks its caller; lines
// that its reader is too slow for are dropped and counted. Nothing in it may
// ever hold a key or a body. All methods may be called from many goroutines,
// also on a nil *Log, which logs nothing.
type Log struct {
	out   *lineWriter
	z     zerolog.Logger
	level atomic.Int32 // zerolog.Level

	// mu guards warnings.
	mu       sync.Mutex
	warnings map[string]*warning
}

// warning is the state of one key of WarnEvery.
type warning struct {
	next       time.Time
	suppressed uint64
}

// maxWarnings bounds the keys of WarnEvery; further ones share one.
const maxWarnings = 256

// NewLog returns a log to w of the given level: debug, info, warn or error (the
// configuration has validated it; anything else is info). Close ends it.
func NewLog(w io.Writer, level string) *Log {
	l := &Log{out: newLineWriter(w, logBuffer), warnings: make(map[string]*warning)}
	l.z = zerolog.New(l.out)
	l.SetLevel(level)
	return l
}

// SetLevel changes the level, from the next line on.
func (l *Log) SetLevel(level string) {
	if l == nil {
		return
	}
	parsed := zerolog.InfoLevel
	switch level {
	case "debug":
		parsed = zerolog.DebugLevel
	case "warn":
		parsed = zerolog.WarnLevel
	case "error":
		parsed = zerolog.ErrorLevel
	}
	l.level.Store(int32(parsed))
}

// Level returns the level's name.
func (l *Log) Level() string {
	if l == nil {
		return ""
	}
	return zerolog.Level(l.level.Load()).String()
}

// Debug starts a line; the event is nil, which is safe to use, below the level.
func (l *Log) Debug() *zerolog.Event { return l.event(zerolog.DebugLevel, time.Now) }

// Info starts a line.
func (l *Log) Info() *zerolog.Event { return l.event(zerolog.InfoLevel, time.Now) }

// Warn starts a line that is written at once.
func (l *Log) Warn() *zerolog.Event { return l.event(zerolog.WarnLevel, time.Now) }

// Error starts a line that is written at once.
func (l *Log) Error() *zerolog.Event { return l.event(zerolog.ErrorLevel, time.Now) }

// WarnEvery starts a line of level warn, at most one per key in each interval
// of every; the others are nil and counted in the field suppressed of the next
// line of the key. The key is a constant of the caller: what happened, not to
// whom.
func (l *Log) WarnEvery(key string, every time.Duration) *zerolog.Event {
	if !l.enabled(zerolog.WarnLevel) {
		return nil
	}
	now := time.Now()
	l.mu.Lock()
	w := l.warnings[key]
	if w == nil {
		if len(l.warnings) >= maxWarnings {
			key = labelOther
		}
		if w = l.warnings[key]; w == nil {
			w = new(warning)
			l.warnings[key] = w
		}
	}
	if now.Before(w.next) {
		w.suppressed++
		l.mu.Unlock()
		return nil
	}
	suppressed := w.suppressed
	w.next, w.suppressed = now.Add(every), 0
	l.mu.Unlock()

	e := l.Warn()
	if suppressed > 0 {
		e.Uint64("suppressed", suppressed)
	}
	return e
}

// Dropped returns how many lines were not written.
func (l *Log) Dropped() uint64 {
	if l == nil {
		return 0
	}
	return l.out.dropped.Load()
}

// Close says which warnings are still held back, writes what is buffered and
// ends the log. Lines that come later are dropped and counted. The error says
// that w did not take the rest within 5 seconds.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	for key, w := range l.warnings {
		if w.suppressed > 0 {
			l.Warn().Str("warning", key).Uint64("suppressed", w.suppressed).Msg("warnings held back")
			w.suppressed = 0
		}
	}
	l.mu.Unlock()
	return l.out.close(closeWait)
}

func (l *Log) enabled(level zerolog.Level) bool {
	return l != nil && level >= zerolog.Level(l.level.Load())
}

// event starts a line of level with the time that now says.
func (l *Log) event(level zerolog.Level, now func() time.Time) *zerolog.Event {
	if !l.enabled(level) {
		return nil
	}
	return stamp(l.z.WithLevel(level), now())
}

// stamp adds the time. zerolog's own Timestamp takes its layout from a package
// variable, and its default has no fractions.
func stamp(e *zerolog.Event, now time.Time) *zerolog.Event {
	var b [40]byte
	text := now.UTC().AppendFormat(append(b[:0], '"'), time.RFC3339) // which AppendFormat is fast at
	ms := now.Nanosecond() / 1e6
	text = append(text[:len(text)-len("Z")], '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z', '"')
	return e.RawJSON("time", text)
}
