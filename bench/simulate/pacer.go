package simulate

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pacer wakes connections at their times. Go's timers would do, but the
// runtime sleeps in whole milliseconds: at 20,000 events a second twenty would
// leave together each millisecond, and whatever relays them would seem cheaper
// and slower than it is. The pacer sleeps by nanosleep while a time is near, and
// so sends the same events in groups of two or three.
type pacer struct {
	mu     sync.Mutex
	waits  []*wait // a heap: the earliest first
	news   chan struct{}
	closed chan struct{}
}

// wait is one connection's place in the heap. It belongs to its connection and
// is only touched with pacer.mu held.
type wait struct {
	due  int64 // Now
	at   int   // index in the heap, -1: not in it
	wake func()
}

const (
	// tick is the shortest sleep. The kernel adds its timer slack of 50 µs.
	tick = 50 * time.Microsecond
	// near is how long before a time the pacer stops to trust Go's timers.
	near = 2 * time.Millisecond
)

func newPacer() *pacer {
	return &pacer{news: make(chan struct{}, 1), closed: make(chan struct{})}
}

// add has w.wake called once, at due or shortly after, unless remove comes
// before. wake must not block.
func (p *pacer) add(w *wait, due int64) {
	p.mu.Lock()
	w.due, w.at = due, len(p.waits)
	p.waits = append(p.waits, w)
	p.up(w.at)
	first := w.at == 0
	p.mu.Unlock()
	if first {
		select {
		case p.news <- struct{}{}:
		default:
		}
	}
}

// remove takes w back; when it has returned, wake is not called any more.
func (p *pacer) remove(w *wait) {
	p.mu.Lock()
	if w.at >= 0 {
		p.removeLocked(w)
	}
	p.mu.Unlock()
}

// run wakes until the pacer is closed.
func (p *pacer) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next := p.wakeDue(Now())
		switch {
		case next < 0:
			timer.Reset(time.Hour)
		case next > near:
			timer.Reset(next - near)
		default:
			ts := unix.NsecToTimespec(int64(max(next, tick)))
			// Interrupted or not, the time is looked at again.
			_ = unix.Nanosleep(&ts, nil)
			select {
			case <-p.closed:
				return
			default:
			}
			continue
		}
		select {
		case <-timer.C:
		case <-p.news:
		case <-p.closed:
			return
		}
	}
}

// wakeDue wakes all whose time has come and returns how long it is until the
// next one's, negative where there is none.
func (p *pacer) wakeDue(now int64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.waits) > 0 {
		w := p.waits[0]
		if w.due > now {
			return time.Duration(w.due - now)
		}
		p.removeLocked(w)
		w.wake()
	}
	return -1
}

func (p *pacer) removeLocked(w *wait) {
	i, last := w.at, len(p.waits)-1
	p.swap(i, last)
	p.waits[last] = nil
	p.waits = p.waits[:last]
	w.at = -1
	if i < last {
		p.down(i)
		p.up(i)
	}
}

func (p *pacer) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if p.waits[parent].due <= p.waits[i].due {
			return
		}
		p.swap(i, parent)
		i = parent
	}
}

func (p *pacer) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(p.waits) {
			return
		}
		if child+1 < len(p.waits) && p.waits[child+1].due < p.waits[child].due {
			child++
		}
		if p.waits[i].due <= p.waits[child].due {
			return
		}
		p.swap(i, child)
		i = child
	}
}

func (p *pacer) swap(i, j int) {
	p.waits[i], p.waits[j] = p.waits[j], p.waits[i]
	p.waits[i].at, p.waits[j].at = i, j
}
