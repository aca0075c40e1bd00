package load

import (
	"context"
	"fmt"
	"time"

	"streamrelay/bench/simulate"
)

// warmUp is the number of streams that are sent before memory is read, and as
// many are open when the memory is read from which that of the others counts:
// what is set up once, at the first of them, is not the price of a stream.
const warmUp = 20

// patience is how long an endpoint may take beyond Ramp and Settle until all
// streams are open.
const patience = 3 * time.Second

// Lasting is what a stream of the loop Streams must last so that it outlives the
// window.
func (j *Job) Lasting() time.Duration {
	return j.Ramp + j.Settle + patience + j.Window + time.Second
}

// streams opens the streams, waits until all of them are open, and measures.
func (r *run) streams(ctx context.Context, res *Result) (err error) {
	if r.job.Memory {
		if res.Memory.Idle, err = r.idleMemory(ctx); err != nil {
			return err
		}
		release, err := r.hold(ctx, warmUp, firstPause)
		defer func() { release() }()
		if err != nil {
			return err
		}
		if err := sleep(ctx, firstPause/2); err != nil {
			return err
		}
		if res.Memory.Base, err = r.meter.memory(ctx); err != nil {
			return err
		}
	}
	n := r.job.Streams
	start := simulate.Now() + int64(20*time.Millisecond)
	for i := range n {
		due := start + int64(float64(r.job.Ramp)*float64(i)/float64(n))
		if err := sleepUntil(ctx, due); err != nil {
			return err
		}
		r.wg.Go(func() {
			// The ramp is no arrival process: nothing waits for it, so a
			// stream's times count from when it really began.
			began := simulate.Now()
			r.lag.Add(began - due)
			r.one(ctx, i, began)
		})
	}
	if err := sleep(ctx, r.job.Settle); err != nil {
		return err
	}
	for end := time.Now().Add(patience); r.waiting(n) && time.Now().Before(end); {
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	r.opens(simulate.Now())
	res.Open = r.openStreams()
	a := r.arms[0]
	res.Memory.Streams = a.open.Load()
	if r.job.Memory {
		if res.Memory.Open, err = r.meter.memory(ctx); err != nil {
			return err
		}
	}
	if err := r.measure(ctx, res); err != nil {
		return err
	}
	res.Open = min(res.Open, r.openStreams())
	if missing := int64(n) - r.errors.Load() - res.Open; missing > 0 {
		res.Invalid = append(res.Invalid, fmt.Sprintf("only %d of %d streams were open throughout the window: the others began late or ended early", res.Open, n))
	}
	if r.job.Memory {
		res.Memory.Later, err = r.meter.memory(ctx)
	}
	return err
}

// waiting reports whether streams have yet to begin.
func (r *run) waiting(n int) bool {
	begun := r.errors.Load()
	for _, a := range r.arms {
		begun += a.begun.Load()
	}
	return begun < int64(n)
}

// openStreams counts the streams that have begun and not ended.
func (r *run) openStreams() (n int64) {
	for _, a := range r.arms {
		n += a.open.Load()
	}
	return n
}

// one runs the i-th stream on a connection of its own.
func (r *run) one(ctx context.Context, i int, due int64) {
	a, q := r.armOf(i)
	c, err := r.dial(ctx, a, i)
	if err == nil {
		defer c.close()
		err = r.exchange(c, q, due)
	}
	if r.isStopped() {
		return
	}
	a.record(c, due, simulate.Now(), err)
}

// idleMemory reads the endpoint's memory before there are streams.
func (r *run) idleMemory(ctx context.Context) (int64, error) {
	a := r.arms[0]
	q, err := r.query(a.endpoint, a.mix.at(0).request, r.nonce+".warm", "ttft=0,gap=0,hold=0,events=2")
	if err != nil {
		return 0, err
	}
	for i := range warmUp {
		c, err := r.dial(ctx, a, i)
		if err != nil {
			return 0, err
		}
		err = r.exchange(c, q, simulate.Now())
		c.close()
		if err != nil {
			return 0, fmt.Errorf("a first stream: %w", err)
		}
	}
	if err := sleep(ctx, 500*time.Millisecond); err != nil {
		return 0, err
	}
	a.begun.Store(0)
	a.open.Store(0)
	a.events.Store(0)
	return r.meter.memory(ctx)
}

// heldGap is shorter than the idle timeout of any proxy.
const heldGap = 25 * time.Second

// firstPause is how long the streams that stay open wait for their first event
// where memory is read: a stream that waits for an event may need more of it.
const firstPause = 500 * time.Millisecond

// hold opens n streams whose first event comes after ttft, and which are then
// quiet but for an event each heldGap, until the returned function is called.
// It returns when all have had their first event.
func (r *run) hold(ctx context.Context, n int, ttft time.Duration) (release func(), err error) {
	if n == 0 {
		return func() {}, nil
	}
	e := r.arms[0].endpoint
	quiet := r.job.Lasting() + r.job.Timeout + time.Duration(n)*time.Millisecond
	events := fmt.Sprintf("ttft=%s,gap=%s,events=%d", ttft, heldGap, quiet/heldGap+2)
	q, err := r.query(e, &Request{Name: "held", Path: "/chat/completions", Body: heldBody, Length: quiet + heldGap}, r.nonce+".held", events)
	if err != nil {
		return func() {}, err
	}
	// An arm of their own: they are no part of what is measured.
	a := newArm(r, e, 1)
	clients := make(chan *client, n)
	gone := make(chan struct{})
	for i := range n {
		if err := sleep(ctx, 200*time.Microsecond); err != nil {
			break
		}
		r.wg.Go(func() {
			c, err := r.dial(ctx, a, i)
			if err != nil {
				r.arms[0].fail(fmt.Errorf("held stream: %w", err))
				return
			}
			defer c.close()
			clients <- c
			err = r.exchange(c, q, simulate.Now())
			select {
			case <-gone: // we ended it
			default:
				if !r.isStopped() {
					r.arms[0].fail(fmt.Errorf("held stream ended: %w", errOr(err, errIncomplete)))
				}
			}
		})
	}
	release = func() {
		close(gone)
		for {
			select {
			case c := <-clients:
				c.giveUp()
			default:
				return
			}
		}
	}
	for end := time.Now().Add(patience); a.begun.Load()+r.errors.Load() < int64(n) && time.Now().Before(end); {
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return release, err
		}
	}
	if begun := a.begun.Load(); begun < int64(n) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return release, fmt.Errorf("hold: %d of %d streams began: %v %v", begun, n, r.arms[0].byClass, r.arms[0].examples)
	}
	return release, nil
}

// heldBody asks for usage: a proxy that does so by itself alters the answers to
// those who do not.
const heldBody = `{"model":"simulated","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Say something."}]}`

func errOr(err, otherwise error) error {
	if err == nil {
		return otherwise
	}
	return err
}
