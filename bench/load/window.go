package load

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"streamrelay/bench/simulate"
)

// sample is the state of all counters at one moment.
type sample struct {
	at, requests, events, peer, provider, own int64
}

func (r *run) sample() (s sample, err error) {
	s.at, s.requests, s.events = simulate.Now(), r.requests.Load(), r.events.Load()
	if s.peer, err = cpu(r.pids); err != nil {
		return s, err
	}
	if r.job.Provider != 0 {
		if s.provider, err = cpu([]int{r.job.Provider}); err != nil {
			return s, err
		}
	}
	s.own, err = cpu([]int{os.Getpid()})
	return s, err
}

// window waits for the job to settle, measures for its window and returns
// what happened in it.
func (r *run) window(ctx context.Context) (Result, error) {
	if err := sleep(ctx, r.job.Settle); err != nil {
		return Result{}, err
	}
	before, err := r.sample()
	if err != nil {
		return Result{}, err
	}
	r.recorded.Store(true)
	if err := sleep(ctx, r.job.Window); err != nil {
		return Result{}, err
	}
	after, err := r.sample()
	r.recorded.Store(false)
	if err != nil {
		return Result{}, err
	}
	return Result{
		Requests:    after.requests - before.requests,
		Events:      after.events - before.events,
		Seconds:     float64(after.at-before.at) / 1e9,
		PeerCPU:     after.peer - before.peer,
		ProviderCPU: after.provider - before.provider,
		OwnCPU:      after.own - before.own,
	}, nil
}

// complete waits for the run's goroutines and adds what only the whole run
// tells.
func (r *run) complete(res *Result) {
	r.wg.Wait()
	res.All, res.Reads = r.requests.Load(), r.reads.Load()
	res.Delay, res.Latency, res.Lag = r.delay.Summary(), r.latency.Summary(), r.lag.Summary()
	r.mu.Lock()
	defer r.mu.Unlock()
	res.Errors = r.errors
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sleepUntil sleeps until due. Go's own timers are up to a millisecond late, so
// the end of the wait is left to the kernel.
func sleepUntil(due int64) {
	const late = 1500 * time.Microsecond
	if d := time.Duration(due - simulate.Now()); d > late {
		time.Sleep(d - late)
	}
	for {
		d := due - simulate.Now()
		if d <= 0 {
			return
		}
		ts := unix.NsecToTimespec(d)
		_ = unix.Nanosleep(&ts, nil) // interrupted or not, it is looked at again
	}
}

// slack is how long beyond its plan a connection may live.
const slack = 20 * time.Second
