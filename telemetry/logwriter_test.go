package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// sink is a writer that remembers its writes, and may be held up.
type sink struct {
	mu     sync.Mutex
	writes []string
	err    error
	gate   chan struct{} // nil: open; else a write waits until it is closed
}

func (s *sink) Write(p []byte) (int, error) {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.writes = append(s.writes, string(p))
	return len(p), nil
}

func (s *sink) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.writes, "")
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.writes)
}

func TestLinesAreWrittenTogetherAfter200Milliseconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		w := newLineWriter(&s, 1000)
		fmt.Fprintln(w, "one")
		fmt.Fprintln(w, "two")
		time.Sleep(flushDelay - time.Nanosecond)
		synctest.Wait()
		if n := s.count(); n != 0 {
			t.Errorf("%d writes before the delay", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := s.all(); s.count() != 1 || got != "one\ntwo\n" {
			t.Errorf("%d writes of %q", s.count(), got)
		}
		if err := w.close(time.Second); err != nil {
			t.Error(err)
		}
	})
}

func TestWarningsAndHalfFullBuffersAreWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		w := newLineWriter(&s, 20)
		begin := time.Now()
		w.WriteLevel(zerolog.ErrorLevel, []byte("bad\n"))
		synctest.Wait()
		if got := s.all(); got != "bad\n" {
			t.Errorf("after an error %q is written", got)
		}
		w.WriteLevel(zerolog.InfoLevel, []byte("0123456789\n"))
		synctest.Wait()
		if got := s.all(); got != "bad\n0123456789\n" {
			t.Errorf("after half a buffer %q is written", got)
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("that took %v", d)
		}
		w.close(time.Second)
	})
}

func TestASlowWriterNeverBlocksAndWhatDoesNotFitIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{gate: make(chan struct{})}
		w := newLineWriter(&s, 100)
		line := []byte("0123456789012345678\n") // 5 to a buffer
		w.WriteLevel(zerolog.WarnLevel, line)
		synctest.Wait() // the goroutine now hangs in Write
		for range 12 {
			w.Write(line)
		}
		if d := w.dropped.Load(); d != 12-5 {
			t.Errorf("%d lines dropped, want 7", d)
		}
		close(s.gate)
		synctest.Wait()
		w.Write(line)
		if err := w.close(time.Second); err != nil {
			t.Error(err)
		}
		if got := strings.Count(s.all(), "\n"); got != 1+5+1 {
			t.Errorf("%d lines written, want 7", got)
		}
		if d := w.dropped.Load(); d != 7 {
			t.Errorf("%d lines dropped at the end, want 7", d)
		}
	})
}

func TestALineLargerThanTheBufferIsDropped(t *testing.T) {
	var s sink
	w := newLineWriter(&s, 10)
	w.Write(bytes.Repeat([]byte("x"), 11))
	w.Write([]byte("fits\n"))
	w.close(time.Second)
	if got := s.all(); got != "fits\n" || w.dropped.Load() != 1 {
		t.Errorf("%q written, %d dropped", got, w.dropped.Load())
	}
}

func TestLinesOfAFailedWriteAreCounted(t *testing.T) {
	s := sink{err: errors.New("broken pipe")}
	w := newLineWriter(&s, 100)
	for range 3 {
		w.Write([]byte("x\n"))
	}
	w.close(time.Second)
	if d := w.dropped.Load(); d != 3 {
		t.Errorf("%d dropped, want 3", d)
	}
}

func TestCloseWritesEveryLineOfEveryGoroutine(t *testing.T) {
	var s sink
	w := newLineWriter(&s, 1<<20)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 1000 {
				fmt.Fprintf(w, "%d-%d\n", g, i)
			}
		})
	}
	wg.Wait()
	if err := w.close(time.Second); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for line := range strings.Lines(s.all()) {
		seen[line]++
	}
	for g := range 8 {
		for i := range 1000 {
			if n := seen[fmt.Sprintf("%d-%d\n", g, i)]; n != 1 {
				t.Fatalf("line %d-%d was written %d times", g, i, n)
			}
		}
	}
	w.Write([]byte("late\n"))
	if d := w.dropped.Load(); d != 1 {
		t.Errorf("%d dropped, want the late one", d)
	}
	if err := w.close(time.Second); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestCloseGivesUpOnAStuckWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{gate: make(chan struct{})}
		w := newLineWriter(&s, 100)
		w.Write([]byte("x\n"))
		if err := w.close(time.Second); !errors.Is(err, errLogStuck) {
			t.Errorf("close returned %v", err)
		}
		close(s.gate)
		if err := w.close(time.Second); err != nil {
			t.Errorf("close afterwards: %v", err)
		}
		if got := s.all(); got != "x\n" {
			t.Errorf("%q written", got)
		}
	})
}
