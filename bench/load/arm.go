package load

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// arm is one endpoint and what it showed.
type arm struct {
	endpoint *endpoint
	idle     idle
	mix      mix

	finished atomic.Int64 // requests answered whole, in the whole run
	begun    atomic.Int64 // answers of which an event came
	open     atomic.Int64 // of which not yet ended
	events   atomic.Int64 // content events, in the whole run
	requests atomic.Int64 // due within the window, or in a closed loop under way in it: answered or failed
	failed   atomic.Int64 // of which failed
	broken   atomic.Int64 // failed after a 200 had come, in the whole run
	stalls   atomic.Int64 // answers with a gap above Job.Stall
	errors   atomic.Int64 // in the whole run

	byClass  map[string]int64  // of errors; protected by run.mu
	examples map[string]string // likewise

	latency Histogram // due to last byte
	head    Histogram // due to the head
	ttft    Histogram // due to the first event with output
	gap     Histogram // between events
	delay   Histogram // of an event, the provider's write to our read
	connect Histogram // of new connections, TLS included
	waits   waits     // of failures
	waited  int64     // failures that are in latency

	slices []slice  // the window in equal parts, for series and intervals
	halves [2]total // latency in its halves: where it grows the endpoint does not keep up
	run    *run
}

func newArm(r *run, e *endpoint, slices int) *arm {
	return &arm{endpoint: e, run: r, slices: make([]slice, slices), byClass: map[string]int64{}, examples: map[string]string{}}
}

// slice is a part of the window.
type slice struct {
	finished atomic.Int64
	failed   atomic.Int64
	latency  Histogram
	delay    Histogram
	waits    sample

	// Where two endpoints are compared.
	latencies, ttfts, delays sample
}

// total is a sum of times and how many they are.
type total struct{ n, sum atomic.Int64 }

func (t *total) add(ns int64) {
	t.n.Add(1)
	t.sum.Add(ns)
}

func (t *total) mean() float64 {
	return float64(t.sum.Load()) / float64(max(t.n.Load(), 1))
}

// Window is cut in parts of a second or more, of which there are at most
// maxSlices and, where two endpoints are compared, at least minSlices.
const (
	maxSlices = 60
	minSlices = 20
)

func slicesOf(window time.Duration, compared bool) int {
	n := min(max(int(window/time.Second), 1), maxSlices)
	if compared {
		n = max(n, minSlices)
	}
	return n
}

// slice is the one that at falls in, nil outside the window.
func (a *arm) slice(at int64) *slice {
	if !a.run.within(at) {
		return nil
	}
	return &a.slices[a.run.part(at, len(a.slices))]
}

// record counts a request's end. now is when it came.
func (a *arm) record(c *client, due, now int64, err error) {
	r := a.run
	at := due
	switch from := r.from.Load(); {
	case r.job.Loop == Streams:
		at = now // streams begin before the window and are counted where they end
	case r.job.Loop == Closed && due < from && now >= from:
		at = from // it was under way when the window opened: left out, an answer that takes longer than a window would never count
	}
	s := a.slice(at)
	counted := s != nil || r.job.Loop == Streams
	if counted {
		a.requests.Add(1)
	}
	if c != nil && c.headAt != 0 && c.firstAt != 0 {
		a.open.Add(-1)
	}
	if err != nil {
		if c != nil && c.headAt != 0 && !errors.As(err, new(statusError)) {
			a.broken.Add(1)
		}
		if counted {
			a.failed.Add(1)
			a.failedAfter(c, s, now-due)
		}
		if s != nil {
			s.failed.Add(1)
		}
		a.fail(err)
		return
	}
	a.finished.Add(1)
	if stall := r.job.Stall; stall > 0 && c.largest > int64(stall) {
		a.stalls.Add(1)
	}
	if !counted {
		return
	}
	a.latency.Add(now - due)
	a.head.Add(c.headAt - due)
	if s != nil {
		s.finished.Add(1)
		s.latency.Add(now - due)
		a.halves[r.part(at, len(a.halves))].add(now - due)
		if r.compared() {
			s.latencies.add(now - due)
		}
	}
	if c.firstAt != 0 && c.asked.Load().stream {
		a.ttft.Add(c.firstAt - due)
		if s != nil && r.compared() {
			s.ttfts.add(c.firstAt - due)
		}
	}
}

// idle are an arm's connections without a request, the last used first. What is
// in it is owned by its reader, which only watches for its end.
type idle struct {
	mu      sync.Mutex // protects what follows
	clients []*client
	open    int // connections there are, busy ones included
	most    int
}

// take gives a request to an idle connection and returns it, or nil and whether
// one may be opened.
func (p *idle) take(q *query, due int64) (c *client, dial bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.clients); n > 0 {
		c = p.clients[n-1]
		p.clients[n-1] = nil
		p.clients = p.clients[:n-1]
		c.ask(q, due)
		return c, false
	}
	if p.open >= p.most {
		return nil, false
	}
	p.open++
	return nil, true
}

func (p *idle) put(c *client) {
	p.mu.Lock()
	c.due.Store(0) // here, so that a request given right away is not wiped out
	p.clients = append(p.clients, c)
	p.mu.Unlock()
}

// retire takes out a connection that its reader found dead. It returns false
// where a request has been given to it meanwhile, which then has failed.
func (p *idle) retire(c *client) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.clients, c)
	if i >= 0 {
		p.clients = slices.Delete(p.clients, i, i+1)
	}
	return i >= 0
}

// closed makes room for another connection.
func (p *idle) closed() {
	p.mu.Lock()
	p.open--
	p.mu.Unlock()
}
