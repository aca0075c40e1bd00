package limits

import (
	"context"
	"fmt"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"streamrelay/auth/lua"
)

const (
	// callTimeout bounds what a request may wait for a lease.
	callTimeout = 200 * time.Millisecond
	// pause is how long no request asks a Redis that did not answer.
	pause = time.Second
	tick  = 100 * time.Millisecond
	// idleReturn is after how long without use a lease goes back.
	idleReturn = time.Second
	// slotRefresh keeps slots from being given to others, see slotScript.
	slotRefresh = 2 * time.Second
	callers     = 16 // of the background, at the same time
	maxUnpriced = 100
)

// ShareEvery is how often relays that share a state file are to look at it.
const ShareEvery = 5 * time.Second

// Options say where limits are shared.
type Options struct {
	// Client returns the connection to Redis, or nil while it is away. A nil
	// Client means that limits are this process's own.
	Client   func() rueidis.Client
	Prefix   string // of every key in Redis
	Instance string // tells this process, in this run, from every other; never ""
	Refuse   bool   // see SetRefuse
	Prices   Prices // see SetPrices
	// Called is told how long each call to Redis took, and must not wait; nil:
	// nobody is.
	Called func(took time.Duration)
	// Shared is told when calls begin to fail, with the first one's error, and
	// with nil when they succeed again; it must not wait. nil: nobody is.
	Shared func(err error)
	// Unpriced is told each model, once and up to maxUnpriced of them, that was
	// answered for an account with a budget and has no price; it must not wait.
	// nil: nobody is.
	Unpriced func(model string)
	// Now is the time in Unix nanoseconds; nil: by the monotonic clock.
	Now func() int64
}

// Limiter admits requests by the limits of accounts. Its methods may be called
// from any number of goroutines.
type Limiter struct {
	o         Options
	start     time.Time
	startUnix int64

	instances atomic.Int64 // relays that share the limits, this one included
	downUntil atomic.Int64
	calls     atomic.Int64
	failures  atomic.Int64
	failing   atomic.Bool  // as Options.Shared was told
	refusedAt atomic.Int64 // when Redis answered with an error last
	unpriced  atomic.Int64
	refuse    atomic.Bool
	prices    atomic.Pointer[Prices]
	told      atomic.Pointer[map[string]bool] // what Options.Unpriced was told, copied to be changed; nil: nothing

	used atomic.Bool // since Used was asked last

	mu       sync.Mutex
	accounts map[string]*Account
	active   []*Account       // to be looked at by the next tick
	others   map[string]Spent // what others spent, as a state file says
	entries  []Spent          // which of them spent what, for when that file is gone
	owed     map[string]Spent // what had been used of buckets when the process began

	stop, stopped chan struct{}
}

// New begins to keep limits. The caller closes the Limiter.
func New(o Options) *Limiter {
	l := &Limiter{o: o, start: time.Now(), accounts: map[string]*Account{}, stop: make(chan struct{}), stopped: make(chan struct{})}
	l.startUnix = l.start.UnixNano()
	l.instances.Store(1)
	l.SetRefuse(o.Refuse)
	l.SetPrices(o.Prices)
	go l.run()
	return l
}

// Close gives leases back and writes down what was spent, for a second at most.
func (l *Limiter) Close() {
	close(l.stop)
	<-l.stopped
}

// SetInstances says how many relays share the limits.
func (l *Limiter) SetInstances(n int64) { l.instances.Store(max(1, n)) }

// SetPrices says what models cost, for requests that are admitted or settled
// from now on. What was spent before stays as it was counted.
func (l *Limiter) SetPrices(p Prices) {
	l.prices.Store(&p)
	l.told.Store(nil)
}

// tellUnpriced says that a model has no price.
func (l *Limiter) tellUnpriced(model []byte) {
	was := l.told.Load()
	if l.o.Unpriced == nil || was != nil && ((*was)[string(model)] || len(*was) == maxUnpriced) {
		return
	}
	list := map[string]bool{string(model): true}
	if was != nil {
		maps.Copy(list, *was)
	}
	if l.told.CompareAndSwap(was, &list) {
		l.o.Unpriced(string(model))
	}
}

// SetRefuse says whether requests with limits are refused while Redis is away;
// else each relay grants its share.
func (l *Limiter) SetRefuse(refuse bool) { l.refuse.Store(refuse) }

// Moving says that Redis is another one from now on, which is asked at once.
func (l *Limiter) Moving() {
	l.downUntil.Store(0)
	for _, a := range l.all() {
		a.downUntil.Store(0)
	}
}

// Instances returns how many relays share the limits, as far as is known.
func (l *Limiter) Instances() int64 { return l.instances.Load() }

// Calls returns the calls to Redis so far and how many of them failed.
func (l *Limiter) Calls() (calls, failed int64) { return l.calls.Load(), l.failures.Load() }

// Unpriced returns how many requests with a budget were for a model without a
// price, and therefore cost nothing.
func (l *Limiter) Unpriced() int64 { return l.unpriced.Load() }

func (l *Limiter) now() int64 {
	if l.o.Now != nil {
		return l.o.Now()
	}
	return l.startUnix + int64(time.Since(l.start))
}

func (l *Limiter) shared() bool { return l.o.Client != nil }

// client returns the connection to Redis for an account that asks nothing until
// down; nil: there is none at the moment.
func (l *Limiter) client(now int64, down *atomic.Int64) rueidis.Client {
	if l.o.Client == nil || now < max(l.downUntil.Load(), down.Load()) {
		return nil
	}
	return l.o.Client()
}

// call runs a script. ok is false where Redis did not do it: then nobody asks
// for a while, and nothing is known of what it did. Where it answered, with an
// error, that is about these keys: then down has their account alone not ask.
func (l *Limiter) call(c rueidis.Client, down *atomic.Int64, s *lua.Script, keys []string, want int, args ...string) (answer []int64, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	l.calls.Add(1)
	began := time.Now()
	result := s.RunEvenFull(ctx, c, keys, args)
	answer, err := result.AsIntSlice()
	if l.o.Called != nil {
		l.o.Called(time.Since(began))
	}
	if err == nil && len(answer) != want {
		err = fmt.Errorf("%d numbers where %d were expected", len(answer), want)
	}
	now := l.now()
	if err != nil {
		l.failures.Add(1)
		if result.NonRedisError() != nil {
			down = &l.downUntil
		} else {
			l.refusedAt.Store(now)
		}
		down.Store(now + int64(pause))
	}
	l.tellShared(err, now)
	return answer, err == nil
}

// tellShared tells that calls fail, or succeed again: all of them, since one
// account's may go on failing.
func (l *Limiter) tellShared(err error, now int64) {
	failing := err != nil
	if l.failing.Load() == failing || !failing && now-l.refusedAt.Load() < 2*int64(pause) {
		return
	}
	if l.failing.CompareAndSwap(!failing, failing) && l.o.Shared != nil {
		l.o.Shared(err)
	}
}

// Account returns the account of a scope, such as key:ID or tenant:NAME, and
// gives it these limits, unless it was given those of a higher order before: who
// still holds an old record must not bring its limits back. The account is the
// same for as long as the Limiter lives.
func (l *Limiter) Account(scope string, limits Limits, order int64) *Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[scope]
	if a == nil {
		a = newAccount(l, scope)
		if s, ok := l.others[scope]; ok {
			a.restore(s)
		}
		if s, ok := l.owed[scope]; ok {
			a.requests.restore(s.RequestsFull)
			a.tokens.restore(s.TokensFull)
			delete(l.owed, scope)
		}
		l.accounts[scope] = a
	}
	if order >= a.order {
		a.order = order
		a.setLimits(limits)
	}
	return a
}

// activate has the next tick look at a.
func (l *Limiter) activate(a *Account) {
	if a.active.CompareAndSwap(false, true) {
		l.mu.Lock()
		l.active = append(l.active, a)
		l.mu.Unlock()
	}
}

func (l *Limiter) run() {
	defer close(l.stopped)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			l.sweep(true)
			return
		case <-ticker.C:
			l.sweep(false)
		}
	}
}

// sweep does what each active account has to do in the background.
func (l *Limiter) sweep(last bool) {
	l.mu.Lock()
	list := l.active
	l.active = nil
	l.mu.Unlock()
	if len(list) == 0 {
		return
	}
	deadline := time.Now().Add(time.Second)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(callers, len(list)) {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(list)) || last && time.Now().After(deadline) {
					return
				}
				a := list[i]
				a.active.Store(false) // before looking: what comes now is seen next time
				if a.upkeep(l.now(), last) && !last {
					l.activate(a)
				}
			}
		})
	}
	wg.Wait()
	l.used.Store(true)
}

// share is this relay's part of a limit while Redis is away.
func (l *Limiter) share(limit float64) float64 {
	if !l.shared() {
		return limit
	}
	return limit / float64(l.instances.Load())
}

// chunk is how many units a lease takes at once: what is used in 50 ms by one
// relay, and never more than a hundredth of the bucket.
func (l *Limiter) chunk(perMinute, bucket int64) int64 {
	n := float64(perMinute) / 60 * 0.05 / float64(l.instances.Load())
	return max(1, int64(math.Min(n, float64(bucket)*0.01)))
}
