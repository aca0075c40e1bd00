package load

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"streamrelay/bench/simulate"
)

// closed keeps Streams connections busy, each with one request after the other.
func (r *run) closed(ctx context.Context) (Result, error) {
	q, err := r.query("closed", "")
	if err != nil {
		return Result{}, err
	}
	var stop atomic.Bool
	deadline := time.Now().Add(r.job.Ramp + r.job.Settle + r.job.Window + slack)
	for i := range r.job.Streams {
		r.wg.Add(1)
		go func() {
			defer r.wg.Done()
			r.loop(i, q, deadline, func(int) (int64, bool) { return simulate.Now(), !stop.Load() })
		}()
	}
	res, err := r.window(ctx)
	stop.Store(true)
	r.complete(&res)
	return res, err
}

// open sends Rate requests a second whether the earlier ones are answered or
// not, as long as one of Streams connections is free; each has its own share of
// the schedule. Latency counts from the due time.
func (r *run) open(ctx context.Context) (Result, error) {
	q, err := r.query("open", "")
	if err != nil {
		return Result{}, err
	}
	var stop atomic.Bool
	deadline := time.Now().Add(r.job.Settle + r.job.Window + slack)
	start := simulate.Now() + int64(100*time.Millisecond)
	for i := range r.job.Streams {
		r.wg.Add(1)
		go func() {
			defer r.wg.Done()
			r.loop(i, q, deadline, func(k int) (int64, bool) {
				due := start + int64(float64(i+k*r.job.Streams)*1e9/r.job.Rate)
				sleepUntil(due)
				if r.recorded.Load() {
					r.lag.Add(simulate.Now() - due)
				}
				return due, !stop.Load()
			})
		}()
	}
	res, err := r.window(ctx)
	stop.Store(true)
	r.complete(&res)
	return res, err
}

// loop sends q again and again on the n-th connection, which is opened anew
// after an error. next waits for the k-th request's time and returns when it
// was due, and false when there is to be none.
func (r *run) loop(n int, q *query, deadline time.Time, next func(k int) (due int64, ok bool)) {
	var c *client
	drop := func() {
		if c != nil {
			r.reads.Add(int64(c.reads))
			c.close()
			c = nil
		}
	}
	defer drop()
	for k := 0; time.Now().Before(deadline); k++ {
		due, ok := next(k)
		if !ok {
			return
		}
		var err error
		if c == nil {
			if c, err = dial(r, n, deadline); err != nil {
				r.failed(err)
				time.Sleep(10 * time.Millisecond)
				continue
			}
		}
		if err = c.do(q); err != nil {
			r.failed(err)
			drop()
			continue
		}
		r.finished(due)
	}
}

// paced opens Streams streams over Ramp that all last beyond the window.
func (r *run) paced(ctx context.Context) (Result, error) {
	q, err := r.query("paced", "")
	if err != nil {
		return Result{}, err
	}
	deadline := time.Now().Add(r.job.Ramp + r.job.Settle + r.job.Window + slack)
	// The golden ratio's multiples fill a circle evenly however many there are.
	spread := func(i int) *query {
		_, turn := math.Modf(float64(i) * math.Phi)
		return r.after(q, time.Duration(turn*float64(r.job.Spread)))
	}
	if err := r.ramp(ctx, spread, deadline); err != nil {
		return Result{}, err
	}
	res, err := r.window(ctx)
	r.complete(&res)
	return res, err
}

// ramp opens Streams connections evenly over Ramp and sends on the i-th what
// q(i) is.
func (r *run) ramp(ctx context.Context, q func(i int) *query, deadline time.Time) error {
	start := time.Now()
	for i := range r.job.Streams {
		due := start.Add(r.job.Ramp * time.Duration(i) / time.Duration(r.job.Streams))
		if err := sleep(ctx, time.Until(due)); err != nil {
			return err
		}
		r.wg.Add(1)
		go func() {
			defer r.wg.Done()
			sent := false
			r.loop(i, q(i), deadline, func(int) (int64, bool) {
				first := !sent
				sent = true
				return simulate.Now(), first
			})
		}()
	}
	return nil
}

// WarmUp is the number of streams that hold sends before it begins.
const WarmUp = 20

// hold opens Streams streams of two events that are quiet for the window and
// then end, and reads the peer's memory before, with all open, and at the
// window's end.
func (r *run) hold(ctx context.Context) (res Result, err error) {
	// A peer that opens streams slower than they are asked for gets patience
	// more, so that memory is read with all of them open.
	const patience = 3 * time.Second
	quiet := r.job.Ramp + r.job.Settle + patience + r.job.Window + 2*time.Second
	warm, err := r.query("warm", "events=2")
	if err != nil {
		return res, err
	}
	q, err := r.query("hold", "events=2,hold="+quiet.String())
	if err != nil {
		return res, err
	}
	// What a first request sets up once is not the price of a stream.
	for i := range WarmUp {
		once := false
		r.loop(i, warm, time.Now().Add(slack), func(int) (int64, bool) { first := !once; once = true; return simulate.Now(), first })
	}
	if err := sleep(ctx, 500*time.Millisecond); err != nil {
		return res, err
	}
	if res.PssIdle, err = pss(r.pids); err != nil {
		return res, err
	}
	if err := r.ramp(ctx, func(int) *query { return q }, time.Now().Add(quiet+slack)); err != nil {
		return res, err
	}
	if err := sleep(ctx, r.job.Settle); err != nil {
		return res, err
	}
	want := int64(2 * (r.job.Streams + WarmUp))
	for end := time.Now().Add(patience); r.events.Load() < want && time.Now().Before(end); {
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return res, err
		}
	}
	events := r.events.Load()
	if res.PssOpen, err = pss(r.pids); err != nil {
		return res, err
	}
	if err := sleep(ctx, r.job.Window); err != nil {
		return res, err
	}
	if res.PssLater, err = pss(r.pids); err != nil {
		return res, err
	}
	r.complete(&res)
	res.Requests, res.Events = res.All, events
	if events != want {
		res.Errors["not open when memory was read"] = (want - events + 1) / 2
	}
	return res, nil
}
