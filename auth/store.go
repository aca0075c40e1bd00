package auth

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/rs/zerolog"

	"streamrelay/auth/limits"
	"streamrelay/configs"
)

// Options are what a Store is made of.
type Options struct {
	Keys   configs.Keys
	Redis  configs.Redis // of Keys.Store redis
	Prices map[string]configs.Price
	Log    zerolog.Logger // the zero Logger says nothing
	// RedisCall is told how long each question to Redis took, be it answered or
	// given up, and what it was for: CallLimits, CallLookup or CallFollow. It is
	// called from any goroutine and must not wait. nil: nobody is told.
	RedisCall func(of string, took time.Duration)
}

// What Redis is asked for.
const (
	CallLimits = "limits" // units of limits; a request may wait for it
	CallLookup = "lookup" // a key that the table lacks; its request waits
	CallFollow = "follow" // what changed; nobody waits
)

// Store is the keys of a relay and what they may use: the file or Redis behind
// one Table, and the limits. The caller closes it after the last Settle.
type Store struct {
	table   *Table
	tenants *tenants
	limiter *limits.Limiter
	file    *FileStore  // nil: Redis
	redis   *redisStore // nil: the file
	kept    atomic.Pointer[keeper]
	token   atomic.Pointer[[sha256.Size]byte] // of the API, hashed; nil: none
	log     zerolog.Logger

	reload  sync.Mutex
	options Options // in force; protected by reload

	stop    chan struct{}
	stopped chan struct{}
	close   sync.Once
}

// Open opens the store that the configuration names. A keys file that is broken
// is an error. Redis that does not answer is none: known keys of the state file
// go on, and the store follows Redis as soon as it is there.
func Open(o Options) (*Store, error) {
	s := &Store{log: o.Log, options: o, stop: make(chan struct{}), stopped: make(chan struct{})}
	s.setToken(o.Keys.APIToken)
	st, err := readState(o.Keys.StateFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn().Err(err).Msg("state of the last run cannot be used")
	}
	pepper := s.pepper()
	lo := limits.Options{Prefix: o.Redis.Prefix, Instance: newID(), Refuse: refuses(&o.Keys), Prices: limits.NewPrices(o.Prices)}
	if o.RedisCall != nil {
		lo.Called = func(took time.Duration) { o.RedisCall(CallLimits, took) }
	}
	lo.Shared = func(err error) {
		if err != nil {
			f := failed(&o.Redis, err)
			s.log.Warn().Str("error", f.Detail).Str("hint", f.Hint).Msg("limits are not shared: redis does not take them")
			return
		}
		s.log.Info().Msg("limits are shared again")
	}
	lo.Unpriced = func(model string) {
		if HoldsKey([]byte(model)) {
			model = "[key]"
		}
		s.log.Warn().Str("model", model).Msg("a budget does not count this model, which has no price: write one in prices, by this name")
	}
	var lent atomic.Pointer[redisStore]
	if o.Keys.Store == "redis" {
		lo.Client = func() rueidis.Client {
			if r := lent.Load(); r != nil {
				if c := r.client.Load(); c != nil {
					return *c
				}
			}
			return nil
		}
	}
	s.limiter = limits.New(lo)
	if st != nil {
		s.limiter.Restore(st.Spent, st.At)
	}
	s.tenants = newTenants(s.limiter)
	if o.Keys.Store == "redis" {
		s.redis = newRedisStore(o.Redis, pepper, s.tenants, o.Log)
		s.redis.relays, s.redis.moving = s.limiter.SetInstances, s.limiter.Moving
		if o.RedisCall != nil {
			s.redis.called = o.RedisCall
		}
		lent.Store(s.redis)
		if st != nil { // until Redis says how many there are
			s.limiter.SetInstances(st.Relays)
		}
		s.redis.start(st)
		s.table = s.redis.table
		s.setKeeper(&redisKeeper{lend: s.redis.lend, names: s.redis.names, secret: pepper})
	} else {
		if s.file, err = OpenFile(o.Keys.File, FileOptions{Log: o.Log, Pepper: pepper, tenants: s.tenants.replace}); err != nil {
			s.limiter.Close()
			return nil, err
		}
		s.table = s.file.Table()
		s.setKeeper(&fileKeeper{path: o.Keys.File, secret: pepper, state: o.Keys.StateFile})
	}
	go s.keepState(&stateKeeper{Store: s})
	return s, nil
}

// pepper is what digests are made with. A reload does not change it.
func (s *Store) pepper() []byte { return []byte(s.options.Keys.Pepper.Reveal()) }

// keeper is where the API changes keys.
func (s *Store) keeper() keeper { return *s.kept.Load() }

func (s *Store) setKeeper(k keeper) { s.kept.Store(&k) }

func (s *Store) setToken(token configs.Secret) {
	if text := token.Reveal(); text != "" {
		sum := sha256.Sum256([]byte(text))
		s.token.Store(&sum)
	} else {
		s.token.Store(nil)
	}
}

// Table is where keys are looked up.
func (s *Store) Table() *Table { return s.table }

// OnEnd has f called, from a goroutine of the store, after keys were revoked,
// disabled or taken out: f looks which of the exchanges under way have a Record
// that has Ended. It must not wait. It is called once at most, before requests
// are served.
//
// The record tells whom it concerns, so that nobody keeps a list of streams by
// key, and an exchange costs nothing more; the call tells when, since the owner
// of a silent stream does not look by itself.
func (s *Store) OnEnd(f func()) { s.table.onEnd.Store(&f) }

// Admit decides whether a request of a key, for a tenant, may be forwarded, and
// reserves what it may use in g; see limits.Limiter. Every grant is settled.
func (s *Store) Admit(g *limits.Grant, r *Record, tenant []byte, ask *limits.Ask) (limits.Refusal, bool) {
	return s.limiter.Admit(g, r.limitsOf(s.limiter), s.tenants.account(tenant), ask)
}

// limitsOf returns the record's account; nil: nothing is limited.
func (r *Record) limitsOf(l *limits.Limiter) *limits.Account {
	if r.Limits.None() {
		return nil
	}
	if a := r.account.Load(); a != nil {
		return a
	}
	a := l.Account(keyScope(r.ID), r.Limits, r.order)
	r.account.Store(a)
	return a
}

func keyScope(id string) string { return "key:" + id }

// Health is what /readyz and the metrics say of the store. Its words are
// constant or come from Redis, never from a key.
type Health struct {
	Store    string        // file | redis
	Ready    bool          // lookups can be believed, be it for a while
	Phase    string        // ready | syncing | away | lost
	Error    string        // why it is not ready; "": nothing is wrong
	Tracking bool          // Redis tells of changes; else it is asked each 250 ms
	Stale    time.Duration // since when Redis was heard of; 0 with a file
	Left     time.Duration // until when known keys go on, should it stay away
	Keys     int
	Relays   int64 // that share the limits
	Lookups  Lookups
	Fetches  int64 // reads of records from Redis so far
	Beats    int64
	// Calls and CallErrors are those of limits to Redis; Unpriced are requests
	// with a budget for a model without a price.
	Calls, CallErrors, Unpriced int64
}

var phases = [...]string{"away", "syncing", "ready", "lost"}

// Health returns the state of this moment. It is not for the hot path.
func (s *Store) Health() Health {
	h := Health{Store: "file", Ready: true, Phase: "ready", Keys: s.table.Len(), Relays: s.limiter.Instances(), Unpriced: s.limiter.Unpriced(), Lookups: s.table.lookups.sum()}
	if s.redis == nil {
		return h
	}
	r := s.redis
	h.Store, h.Phase, h.Tracking = "redis", phases[r.phase.Load()], r.tracking.Load()
	h.Fetches, h.Beats = r.fetches.Load(), r.beats.Load()
	h.Calls, h.CallErrors = s.limiter.Calls()
	now := time.Now()
	if proof := r.proof.Load(); proof != 0 {
		h.Stale = now.Sub(time.Unix(0, proof))
	}
	h.Left = time.Unix(r.table.goodUntil.Load(), 0).Sub(now)
	h.Ready = h.Left > 0
	if e := r.lastErr.Load(); e != nil && h.Phase != "ready" {
		h.Error = *e
	} else if h.Phase == "lost" {
		h.Error = "Redis has lost the keys that this relay knows"
	}
	return h
}

// Close ends the following of the store, settles leases and writes the state.
func (s *Store) Close() {
	s.close.Do(func() {
		close(s.stop)
		<-s.stopped
		s.limiter.Close() // while Redis is still lent
		if s.redis != nil {
			s.redis.close()
		} else {
			s.file.Close()
		}
		(&stateKeeper{Store: s, last: true}).write()
	})
}
