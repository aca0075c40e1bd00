package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"streamrelay/bench/simulate"
)

// Duration is a time.Duration that is JSON nanoseconds.
type Duration = time.Duration

// Loop is how requests come.
type Loop string

const (
	// Closed keeps Streams connections busy, each with one request after the
	// other: what the endpoint can do, but no latency that a user would see.
	Closed Loop = "closed"
	// Open sends Rate requests a second whether the earlier ones are answered
	// or not. Latency counts from the due time.
	Open Loop = "open"
	// Streams opens Streams streams over Ramp that all last beyond the window.
	Streams Loop = "streams"
	// Cancel lets Streams clients leave in each of three phases.
	Cancel Loop = "cancel"
)

// Job is one run.
type Job struct {
	Loop     Loop      `json:"loop"`
	Endpoint Endpoint  `json:"endpoint"`
	Direct   *Endpoint `json:"direct"` // gets the same load in turns, to be compared with
	Requests []Request `json:"requests"`
	Model    string    `json:"model"`   // that requests name; "": as they are
	Exact    bool      `json:"exact"`   // the simulated provider answers: check every byte
	Streams  int       `json:"streams"` // closed: connections; open: at most as many; streams: streams, half of them direct where there are two endpoints; cancel: clients in each phase
	Rate     float64   `json:"rate"`    // requests a second to each endpoint, loop open
	Ramp     Duration  `json:"ramp"`    // over which streams are opened
	Settle   Duration  `json:"settle"`  // before the window opens
	Window   Duration  `json:"window"`  // what is measured
	Timeout  Duration  `json:"timeout"` // of an answer, beyond what it takes by plan; 0: 30 s
	Stall    Duration  `json:"stall"`   // a gap above this is a stall; 0: none is
	Hold     int       `json:"hold"`    // quiet streams held open meanwhile
	Memory   bool      `json:"memory"`  // loop streams: read the endpoint's memory too
	PID      int       `json:"pid"`     // process whose tree is the endpoint's, 0: unknown
	Admin    string    `json:"admin"`   // URL of its metrics, where there is no PID
	Provider int       `json:"provider"`
	// ProviderURL is the simulated provider's base without a path; loop cancel
	// asks it when it noticed.
	ProviderURL string `json:"provider_url"`
	// Progress is called each second; nil: nobody wants to know.
	Progress func(Progress) `json:"-"`
}

// Progress is how far a run has come.
type Progress struct {
	Elapsed, Planned time.Duration
	Finished         int64
	Failed           int64
	Open             int // connections
	Latency          Summary
}

// run is the state that a run's goroutines share.
type run struct {
	job      Job
	nonce    string
	arms     []*arm // the endpoint and, where it is compared, the direct one
	meter    meter
	began    int64
	from, to atomic.Int64 // the window: simulate.Now; 0 before it is known
	done     chan struct{}
	lag      Histogram    // of sending, behind the due time
	sends    atomic.Int64 // within the window
	late     atomic.Int64 // of which more than muchLate
	notSent  atomic.Int64 // no connection was to be had
	errors   atomic.Int64 // of all arms
	reads    atomic.Int64
	strange  atomic.Bool    // times that the provider wrote are not of our clock
	wg       sync.WaitGroup // goroutines that own a connection

	mu      sync.Mutex // protects what follows
	stopped bool
	clients map[*client]struct{}
}

const (
	muchLate       = 10 * time.Millisecond
	defaultTimeout = 30 * time.Second
	// sweepEvery is how often requests are looked at that take too long.
	sweepEvery = 100 * time.Millisecond
	maxClasses = 50
)

// Alone readies a process that does nothing but run jobs: its heap is a few
// buffers a connection, so that collecting it less often leaves the CPU to what
// is measured, and the goroutine that keeps the schedule finds a processor of
// Go's scheduler free though the kernel has stopped the threads of all others.
func Alone() {
	debug.SetGCPercent(400)
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
}

// Run executes a job to its end. Whatever the endpoint does, it returns at the
// latest when Ramp, Settle, Window, the longest answer and Timeout have passed,
// and some seconds. Where ctx ends within the window, or before all that was under
// way at its end, it returns what was seen so far, which is not valid.
func Run(ctx context.Context, job Job) (Result, error) {
	r, err := newRun(job)
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var sweeping sync.WaitGroup
	sweeping.Go(func() { r.sweep(ctx) })
	defer sweeping.Wait()
	defer cancel()
	var res Result
	release, err := r.hold(ctx, job.Hold, 0)
	if err == nil {
		switch job.Loop {
		case Closed:
			err = r.closed(ctx, &res)
		case Open:
			err = r.open(ctx, &res)
		case Streams:
			err = r.streams(ctx, &res)
		case Cancel:
			err = r.cancel(ctx, &res)
		}
	}
	if err != nil {
		r.stop()
	}
	release()
	waiting := context.AfterFunc(ctx, r.stop) // for what was under way when the window closed
	r.wg.Wait()
	if !waiting() && err == nil {
		res.Invalid = append(res.Invalid, "interrupted before all answers had come")
	}
	if now := simulate.Now(); errors.Is(err, context.Canceled) && r.from.Load() != 0 && now > r.from.Load() {
		res.Seconds = float64(min(now, r.to.Load())-r.from.Load()) / 1e9
		res.Invalid = append(res.Invalid, fmt.Sprintf("interrupted after %s of %s", time.Duration(res.Seconds*1e9).Round(time.Millisecond), job.Window))
		err = nil
	}
	if err != nil {
		return Result{}, err
	}
	r.complete(&res)
	return res, nil
}

func newRun(job Job) (*run, error) {
	if !slices.Contains([]Loop{Closed, Open, Streams, Cancel}, job.Loop) {
		return nil, fmt.Errorf("loop %q: want closed, open, streams or cancel", job.Loop)
	}
	if job.Timeout == 0 {
		job.Timeout = defaultTimeout
	}
	if len(job.Requests) == 0 && job.Loop != Cancel {
		return nil, errors.New("no kind of request")
	}
	if job.Loop == Cancel {
		job.Exact = true
	}
	if job.Hold > 0 && !job.Exact {
		return nil, errors.New("streams can be held open only at the simulated provider")
	}
	r := &run{
		job: job, nonce: fmt.Sprintf("b%x", simulate.Now()), done: make(chan struct{}), began: simulate.Now(),
		clients: map[*client]struct{}{},
	}
	endpoints := []Endpoint{job.Endpoint}
	if job.Direct != nil && job.Loop != Cancel {
		endpoints = append(endpoints, *job.Direct)
	}
	for _, e := range endpoints {
		resolved, err := e.resolve()
		if err != nil {
			return nil, err
		}
		a := newArm(r, resolved, slicesOf(job.Window, len(endpoints) > 1))
		var queries []*query
		for i := range job.Requests {
			q, err := r.query(resolved, &job.Requests[i], fmt.Sprintf("%s.%d", r.nonce, i), "")
			if err != nil {
				return nil, err
			}
			queries = append(queries, q)
		}
		a.mix = mixOf(queries)
		r.arms = append(r.arms, a)
	}
	connections := job.Streams
	if job.Loop != Streams {
		connections *= len(r.arms)
	}
	most, err := descriptors(connections+job.Hold, job.Loop == Open)
	if err != nil {
		return nil, err
	}
	for _, a := range r.arms {
		a.idle.most = min(job.Streams, (most-job.Hold)/len(r.arms))
	}
	r.meter = newMeter(job.PID, job.Provider, job.Admin)
	return r, nil
}

// spare is what a run needs besides its connections.
const spare = 64

// descriptors returns how many connections there can be, and an error where
// those that must be there are more.
func descriptors(want int, atMost bool) (int, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	most := int(min(l.Cur, 1<<30)) - spare
	if want > most && !atMost {
		return 0, fmt.Errorf("%d connections need %d open files and the limit is %d: raise it (ulimit -n)", want, want+spare, l.Cur)
	}
	return min(want, most), nil
}

// armOf is who gets the k-th request: A B B A where two are compared, so that
// neither a trend nor a period of two favours one of them.
func (r *run) armOf(k int) (a *arm, q *query) {
	a = r.arms[0]
	if len(r.arms) == 2 {
		if k%4 == 1 || k%4 == 2 {
			a = r.arms[1]
		}
		k /= 2 // both get the same kinds
	}
	return a, a.mix.at(k)
}

// compared reports whether there is a direct endpoint, too.
func (r *run) compared() bool { return len(r.arms) == 2 }

// within reports whether a moment is in the window.
func (r *run) within(at int64) bool { return at >= r.from.Load() && at < r.to.Load() }

// part is the one of n equal parts of the window that a moment within it is in.
func (r *run) part(at int64, n int) int {
	from, to := r.from.Load(), r.to.Load()
	return int(float64(at-from) / float64(to-from) * float64(n))
}

// touches reports whether some of what lies between two moments is in the window.
func (r *run) touches(begin, end int64) bool { return begin < r.to.Load() && end >= r.from.Load() }

func (r *run) add(c *client) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return false
	}
	r.clients[c] = struct{}{}
	return true
}

func (r *run) remove(c *client) {
	r.mu.Lock()
	delete(r.clients, c)
	r.mu.Unlock()
}

// sweep gives up what takes too long and reports progress, until ctx ends.
func (r *run) sweep(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for k := 1; ; k++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := simulate.Now()
		r.mu.Lock()
		open := len(r.clients)
		for c := range r.clients {
			if due := c.due.Load(); due != 0 && now-due > int64(c.asked.Load().limit) {
				c.giveUp()
			}
		}
		r.mu.Unlock()
		if k%10 == 0 && r.job.Progress != nil {
			a := r.arms[0]
			r.job.Progress(Progress{
				Elapsed: time.Duration(now - r.began), Planned: r.job.Ramp + r.job.Settle + r.job.Window,
				Finished: a.finished.Load(), Failed: r.errors.Load(), Open: open, Latency: a.latency.Summary(),
			})
		}
	}
}

// stop breaks every connection; none is opened any more.
func (r *run) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	for c := range r.clients {
		_ = c.nc.SetDeadline(time.Unix(1, 0))
	}
}

// fail counts an error by its class and keeps what the first one said.
func (a *arm) fail(err error) {
	r := a.run
	r.errors.Add(1)
	a.errors.Add(1)
	class, said := classify(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := a.byClass[class]; !ok && len(a.byClass) >= maxClasses {
		class = "other"
	}
	if a.byClass[class]++; a.byClass[class] == 1 {
		for _, b := range r.arms {
			said = withoutKey(said, b.endpoint.Key)
		}
		a.examples[class] = said
	}
}

// withoutKey hides a key in what an error said, and at its end the part of one
// that was left where it was cut.
func withoutKey(said, key string) string {
	if key == "" {
		return said
	}
	cut := len(said) >= maxSaid
	said = strings.ReplaceAll(said, key, "***")
	for n := min(len(key)-1, len(said)); cut && n > 0; n-- {
		if rest, ok := strings.CutSuffix(said, key[:n]); ok {
			return rest + "***"
		}
	}
	return said
}

func classify(err error) (class, said string) {
	said = err.Error()
	var status statusError
	switch {
	case errors.As(err, &status):
		return status.Error(), status.said
	case errors.Is(err, errTimeout), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout", said
	case errors.Is(err, errHead):
		return errHead.Error(), said
	case errors.Is(err, errHandshake):
		return errHandshake.Error(), said
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused", said
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.EADDRNOTAVAIL):
		return ownLimit, said
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "cut", said
	}
	for _, known := range []error{errDiffers, errIncomplete, errTooLong, errAfter, errNoTerminal, errEvent, errNotJSON, errUnchecked, errNotStream, errNothing, errNever, errStale} {
		if errors.Is(err, known) {
			return known.Error(), said
		}
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		if op.Timeout() {
			return "timeout", said
		}
		return "dial", said
	}
	return "other", said
}

// ownLimit is the class of errors that are the generator's own.
const ownLimit = "generator: out of files or addresses"
