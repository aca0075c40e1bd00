package telemetry

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	logBuffer  = 1 << 20                // bytes, twice: one fills while the other is written
	flushDelay = 200 * time.Millisecond // from the first line of a buffer to its write
	closeWait  = 5 * time.Second
)

// errLogStuck is what Close returns when the log's reader does not take the rest.
var errLogStuck = errors.New("log: the writer does not take the last lines")

// lineWriter buffers log lines and writes them from one goroutine of its own,
// so that a log call costs a copy under a mutex that is never held during I/O.
// It never blocks: a line that finds the buffer full is dropped and counted.
type lineWriter struct {
	w       io.Writer
	dropped atomic.Uint64
	first   chan struct{} // has room for one: the buffer is no longer empty
	hurry   chan struct{} // has room for one: write now
	stop    chan struct{}
	stopped chan struct{}
	once    sync.Once

	// mu guards what follows.
	mu     sync.Mutex
	fill   []byte // what came since the last write
	lines  uint64 // in fill
	spare  []byte // the other buffer; nil while it is being written
	closed bool
}

// newLineWriter starts the goroutine; close ends it.
func newLineWriter(w io.Writer, size int) *lineWriter {
	b := &lineWriter{
		w: w, fill: make([]byte, 0, size), spare: make([]byte, 0, size),
		first: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go b.run()
	return b
}

// Write takes one line. It never fails: a dropped line is a count.
func (b *lineWriter) Write(line []byte) (int, error) { return b.WriteLevel(zerolog.InfoLevel, line) }

// WriteLevel is Write, and has the buffer written at once from level warn on.
func (b *lineWriter) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	b.mu.Lock()
	if b.closed || len(line) > cap(b.fill)-len(b.fill) {
		b.mu.Unlock()
		b.dropped.Add(1)
		return len(line), nil
	}
	first := len(b.fill) == 0
	b.fill = append(b.fill, line...)
	b.lines++
	hurry := level >= zerolog.WarnLevel && level <= zerolog.PanicLevel || len(b.fill) > cap(b.fill)/2
	b.mu.Unlock()
	if first {
		signal(b.first)
	}
	if hurry {
		signal(b.hurry)
	}
	return len(line), nil
}

// signal wakes the receiver of c, unless that is already due.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run writes the buffer flushDelay after its first line, or sooner if asked.
func (b *lineWriter) run() {
	defer close(b.stopped)
	delay := time.NewTimer(flushDelay)
	defer delay.Stop()
	for {
		select {
		case <-b.first:
		case <-b.stop:
			b.flush()
			b.release()
			return
		}
		delay.Reset(flushDelay)
		select {
		case <-delay.C:
		case <-b.hurry:
		case <-b.stop:
		}
		b.flush()
	}
}

// flush writes what has come. Only run calls it.
func (b *lineWriter) flush() {
	b.mu.Lock()
	full, lines := b.fill, b.lines
	b.fill, b.lines, b.spare = b.spare, 0, nil
	b.mu.Unlock()
	if len(full) > 0 {
		if _, err := b.w.Write(full); err != nil {
			b.dropped.Add(lines) // there is no place left to say it
		}
	}
	b.mu.Lock()
	b.spare = full[:0]
	b.mu.Unlock()
}

// release lets the buffers go, which whoever still holds a closed log, such as an
// idle worker of the server, needs no more. Only run calls it, at its end.
func (b *lineWriter) release() {
	b.mu.Lock()
	b.fill, b.spare = nil, nil
	b.mu.Unlock()
}

// close writes what is left and ends the goroutine; lines that come later are
// dropped and counted. It waits at most wait for a writer that is stuck.
func (b *lineWriter) close(wait time.Duration) error {
	b.once.Do(func() {
		b.mu.Lock()
		b.closed = true
		b.mu.Unlock()
		close(b.stop)
	})
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case <-b.stopped:
		return nil
	case <-late.C:
		return errLogStuck
	}
}
