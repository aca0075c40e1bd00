package load

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"streamrelay/bench/simulate"
)

// closed keeps Streams connections busy.
func (r *run) closed(ctx context.Context, res *Result) error {
	var next atomic.Int64
	stop := make(chan struct{})
	for i := range r.job.Streams {
		r.wg.Go(func() { r.busy(ctx, i, &next, stop) })
	}
	r.opens(simulate.Now() + int64(r.job.Settle))
	err := r.measure(ctx, res)
	close(stop)
	return err
}

// busy sends one request after the other until stop is closed. Each endpoint has
// a connection of its own, opened anew after an error.
func (r *run) busy(ctx context.Context, n int, next *atomic.Int64, stop chan struct{}) {
	open := map[*arm]*client{}
	defer func() {
		for _, c := range open {
			c.close()
		}
	}()
	for {
		select {
		case <-stop:
			return
		default:
		}
		a, q := r.armOf(int(next.Add(1) - 1))
		due := simulate.Now()
		c, err := open[a], error(nil)
		if c == nil {
			if c, err = r.dial(ctx, a, n); err == nil {
				open[a] = c
			}
		}
		if err == nil {
			err = r.exchange(c, q, due)
		}
		if r.isStopped() {
			return
		}
		a.record(c, due, simulate.Now(), err)
		if c != nil && c.closing {
			c.close()
			delete(open, a)
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // an endpoint that is down is not to be hammered
		}
	}
}

func (r *run) isStopped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped
}

// exchange sends a request and reads its answer.
func (r *run) exchange(c *client, q *query, due int64) error {
	err := c.send(q, due)
	if err == nil {
		err = c.answer(q)
	} else {
		c.closing, c.headAt = true, 0
	}
	c.due.Store(0)
	return err
}

// open sends by schedule. The goroutine that keeps the schedule writes the
// requests itself, on a connection without a request, and the connection's own
// goroutine reads: no wake-up lies between the due time and the write.
func (r *run) open(ctx context.Context, res *Result) error {
	start := simulate.Now() + int64(50*time.Millisecond)
	r.opens(start + int64(r.job.Settle))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.schedule(ctx, start)
	}()
	err := r.measure(ctx, res)
	<-ended
	if err == nil {
		err = r.drain(ctx)
	}
	r.stop() // the idle ones
	return err
}

func (r *run) schedule(ctx context.Context, start int64) {
	defer precedence()()
	rate := r.job.Rate * float64(len(r.arms))
	end := r.to.Load()
	for k := 0; ctx.Err() == nil; k++ {
		due := start + int64(float64(k)*1e9/rate)
		if due >= end {
			return
		}
		if sleepUntil(ctx, due) != nil {
			return
		}
		a, q := r.armOf(k)
		c, dial := a.idle.take(q, due)
		switch {
		case c != nil:
			r.sent(due)
			_, _ = c.nc.Write(q.raw) // where it fails the reader sees it, too
		case dial:
			r.wg.Go(func() { r.fresh(ctx, a, q, due, k) })
		default:
			r.notSent.Add(1)
		}
	}
}

// precedence gives the calling goroutine a thread that comes before others, where
// the system lets it: where all cores are taken by what is measured, the schedule
// would be kept least when it matters most. The returned function ends it.
func precedence() func() {
	runtime.LockOSThread()
	// The kernel wakes a thread up to 50 µs late, to save power, unless it is told
	// otherwise; 0 is the default again.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	before, err := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
	raised := err == nil && unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -10) == nil
	return func() {
		if raised { // the system call returns 20 less the nice value
			_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 20-before)
		}
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
		runtime.UnlockOSThread()
	}
}

// sent notes by how much a send is late.
func (r *run) sent(due int64) {
	if !r.within(due) {
		return
	}
	late := simulate.Now() - due
	r.sends.Add(1)
	r.lag.Add(late)
	if late > int64(muchLate) {
		r.late.Add(1)
	}
}

// fresh opens a connection for a request that is due and reads from it until it
// ends.
func (r *run) fresh(ctx context.Context, a *arm, q *query, due int64, n int) {
	defer a.idle.closed()
	r.sent(due)
	c, err := r.dial(ctx, a, n)
	if err != nil {
		if !r.isStopped() {
			a.record(nil, due, simulate.Now(), err)
		}
		return
	}
	defer c.close()
	if err := c.send(q, due); err != nil {
		a.record(c, due, simulate.Now(), err)
		return
	}
	for {
		q, due = c.asked.Load(), c.due.Load()
		err := c.answer(q)
		if r.isStopped() {
			return
		}
		a.record(c, due, simulate.Now(), err)
		if c.closing {
			return
		}
		c.headAt = 0
		a.idle.put(c)
		// Until the next answer begins, or the connection ends.
		if err := c.fill(); err != nil {
			if !a.idle.retire(c) && !r.isStopped() {
				a.record(c, c.due.Load(), simulate.Now(), err)
			}
			return
		}
		if a.idle.retire(c) { // nothing was asked
			if !r.isStopped() {
				a.fail(errAfter)
			}
			return
		}
	}
}

// drain waits until every request has been answered or given up.
func (r *run) drain(ctx context.Context) error {
	for {
		busy := false
		for _, a := range r.arms {
			a.idle.mu.Lock()
			busy = busy || a.idle.open > len(a.idle.clients)
			a.idle.mu.Unlock()
		}
		if !busy {
			return nil
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// opens sets the window.
func (r *run) opens(at int64) {
	r.from.Store(at)
	r.to.Store(at + int64(r.job.Window))
}

// measure waits for the window, reads the meters at its ends and returns.
func (r *run) measure(ctx context.Context, res *Result) error {
	if err := sleep(ctx, time.Duration(r.from.Load()-simulate.Now())); err != nil {
		return err
	}
	before, err := r.read()
	if err != nil {
		return err
	}
	if err := sleep(ctx, time.Duration(r.to.Load()-simulate.Now())); err != nil {
		return err
	}
	after, err := r.read()
	if err != nil { // the endpoint has ended, say: what it answered before is a result
		res.Invalid = append(res.Invalid, err.Error())
		after.peer, after.provider, after.own = before.peer, before.provider, before.own
	}
	res.cost(before, after)
	return nil
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
func sleepUntil(ctx context.Context, due int64) error {
	const late = 1500 * time.Microsecond
	if d := time.Duration(due - simulate.Now()); d > late {
		if err := sleep(ctx, d-late); err != nil {
			return err
		}
	}
	for {
		d := due - simulate.Now()
		if d <= 0 {
			return nil
		}
		ts := unix.NsecToTimespec(d)
		_ = unix.Nanosleep(&ts, nil) // interrupted or not, it is looked at again
	}
}
