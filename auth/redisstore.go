package auth

import (
	"context"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/rs/zerolog"

	"streamrelay/configs"
)

const (
	beatEvery    = 250 * time.Millisecond
	reconnectMin = 50 * time.Millisecond
	reconnectMax = time.Second
	walkEvery    = 5 * time.Minute
	walkRate     = 20_000 // records a second, of a walk that nobody waits for
	// grace is what the table is believed beyond stale_max: with 0 it must
	// outlive the time between two signs of life.
	grace = 2 * time.Second
	// firstSync is how long Open waits for Redis before it goes on without.
	firstSync = 5 * time.Second
)

// redisStore keeps a Table equal to the keys in Redis. One goroutine owns the
// connection on which Redis tells of changes; it alone decides what is believed.
type redisStore struct {
	config atomic.Pointer[configs.Redis] // a reload may replace it
	names  redisNames
	log    zerolog.Logger
	table  *Table
	id     string // of this process, in this run
	pepper []byte

	client    atomic.Pointer[rueidis.Client] // nil: away
	tenants   *tenants
	relays    func(n int64) // is told how many relays there are
	moving    func()        // is told before Redis is another one
	called    func(of string, took time.Duration)
	negatives *negatives
	misses    *missLimits
	flights   flights

	// gens count, per group of digests, the changes that were heard of. A fetch
	// that sees its own change meanwhile is void: the change wins.
	gens [1024]atomic.Uint32

	// What the table was made from; written by the goroutine alone.
	from atomic.Pointer[string] // the marker
	seq  atomic.Int64           // the last change

	proof    atomic.Int64 // Unix ns, when Redis was last known to say the same
	phase    atomic.Int32
	tracking atomic.Bool
	lastErr  atomic.Pointer[string]
	beats    atomic.Int64
	fetches  atomic.Int64

	mu      sync.Mutex
	pending map[string]struct{} // subjects that changed and were not read yet
	all     bool                // everything may have changed
	next    *link               // to be followed instead of the one now

	wake  chan struct{}
	moved chan struct{} // there is, or was, a next
	tried chan struct{} // closed when the table is in step, or the first try failed
	ctx   context.Context
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// The phases of a redisStore.
const (
	phaseAway    int32 = iota // no Redis: what is known goes on for stale_max
	phaseSyncing              // Redis is there, the table is not yet up to date
	phaseReady
	phaseLost // Redis is there and has lost the keys: as away, said loudly
)

func newRedisStore(c configs.Redis, pepper []byte, t *tenants, log zerolog.Logger) *redisStore {
	s := &redisStore{
		names: namesFor(c.Prefix), log: log, table: NewTable(pepper), id: newID(), pepper: pepper,
		tenants: t, negatives: newNegatives(), misses: newMissLimits(), relays: func(int64) {},
		moving: func() {}, called: func(string, time.Duration) {},
		pending: map[string]struct{}{}, wake: make(chan struct{}, 1), moved: make(chan struct{}, 1), tried: make(chan struct{}),
	}
	s.config.Store(&c)
	s.from.Store(new(string))
	s.flights.of = map[Digest]*flight{}
	s.table.missing = s.missing
	s.table.goodUntil.Store(0)
	s.table.away.Store(true)
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// marker names the store that the table was made from; "": none yet.
func (s *redisStore) marker() string { return *s.from.Load() }

// lend returns the connection, for changes.
func (s *redisStore) lend() (rueidis.Client, error) {
	if c := s.client.Load(); c != nil {
		return *c, nil
	}
	return nil, errAway
}

// errAway is what a change gets while Redis is away.
var errAway = &exitError{exitUnavailable, errors.New("redis is away: try again when it is back")}

// start goes on from a state and begins to follow Redis.
func (s *redisStore) start(st *state) {
	if st != nil && st.Pepper == pepperMark(s.pepper) && st.Marker != "" {
		s.table.Replace(st.Records)
		s.tenants.replace(st.Tenants)
		s.from.Store(&st.Marker)
		s.seq.Store(st.Seq)
		s.believe(st.Proof)
	}
	s.done.Go(s.run)
	select {
	case <-s.tried:
	case <-time.After(firstSync):
		s.log.Warn().Int("keys", s.table.Len()).Msg("keys are not read from Redis yet: those that are known are good, others get 503")
	}
}

func (s *redisStore) close() {
	s.stop()
	s.done.Wait()
}

// enter changes the phase and returns the one before.
func (s *redisStore) enter(phase int32) (before int32) {
	s.table.away.Store(phase != phaseReady)
	return s.phase.Swap(phase)
}

// believe lets the table be used until stale_max after a time at which Redis
// said the same.
func (s *redisStore) believe(proof time.Time) {
	s.proof.Store(proof.UnixNano())
	s.table.goodUntil.Store(proof.Add(s.config.Load().StaleMax + grace).Unix())
}

// left says how long the table will be believed.
func (s *redisStore) left() string {
	return max(0, time.Until(time.Unix(s.table.goodUntil.Load(), 0))).Round(time.Second).String()
}

func (s *redisStore) run() {
	var left []rueidis.Client // lent until the next one is in step
	defer func() {
		closeAll(left)
		s.replaceNext(nil)
	}()
	delay := reconnectMin
	for s.ctx.Err() == nil {
		began := time.Now()
		err := s.connectOnce(&left)
		if errors.Is(err, errMoved) {
			delay = reconnectMin
			continue
		}
		s.client.Store(nil)
		closeAll(left)
		left = nil
		if s.ctx.Err() != nil {
			return
		}
		was := s.enter(phaseAway)
		text := err.Error()
		if old := s.lastErr.Swap(&text); was != phaseAway || old == nil {
			s.log.Error().Err(err).Int("keys", s.table.Len()).Str("known_keys_go_on_for", s.left()).
				Msg("Redis is away: known keys go on, others get 503")
		}
		s.hasTried()
		if time.Since(began) > 5*time.Second {
			delay = reconnectMin
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.moved:
		case <-time.After(delay + rand.N(delay)):
		}
		delay = min(2*delay, reconnectMax)
	}
}

// connectOnce follows Redis over one connection until it breaks, or until a
// reload has another one: then it goes to those that are left.
func (s *redisStore) connectOnce(left *[]rueidis.Client) error {
	l := s.takeNext()
	if l == nil {
		client, err := dialRedis(s.ctx, s.config.Load())
		if err != nil {
			return err
		}
		l = &link{client: client}
	}
	conn, release := l.client.Dedicate()
	f := &follower{redisStore: s, client: l.client, conn: conn, meant: l.meant, before: left}
	err := f.follow()
	release()
	if errors.Is(err, errMoved) {
		*left = append(*left, l.client)
	} else {
		l.client.Close()
	}
	return err
}

// hasTried ends the waiting of start.
func (s *redisStore) hasTried() {
	select {
	case <-s.tried:
	default:
		close(s.tried)
	}
}

// changed notes that Redis told of a change of subject.
func (s *redisStore) changed(subject string) {
	if digest, err := parseDigest(subject); err == nil {
		s.gens[genOf(&digest)].Add(1)
	}
	s.mu.Lock()
	s.pending[subject] = struct{}{}
	s.mu.Unlock()
}

// changedAll notes that any subject may have changed.
func (s *redisStore) changedAll() {
	for i := range s.gens {
		s.gens[i].Add(1)
	}
	s.mu.Lock()
	s.all = true
	s.mu.Unlock()
}

func (s *redisStore) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// takePending returns what changed since it was called last.
func (s *redisStore) takePending() (subjects []string, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for subject := range s.pending {
		subjects = append(subjects, subject)
	}
	clear(s.pending)
	all, s.all = s.all, false
	return subjects, all
}

func genOf(digest *Digest) int { return int(digest[8])<<2 | int(digest[9])&3 }

// apply puts one value of Redis into the table. generation is that of the
// digest before the value was asked for; apply reports whether the value still
// counts.
func (s *redisStore) apply(digest Digest, value string, generation uint32) (r *Record, current bool) {
	if s.gens[genOf(&digest)].Load() != generation {
		return nil, false
	}
	if value == "" {
		s.table.Delete(&digest)
		return nil, true
	}
	r, err := decodeRecord([]byte(value))
	if err == nil && r.Digest != digest {
		err = errors.New("the digest is not that of its place")
	}
	if err != nil {
		s.log.Error().Err(err).Str("key_id", r.name()).Msg("record in Redis cannot be used: the key stays as it was")
		return s.table.get(&digest), true
	}
	undone := false // Redis forgot a revocation: it lost changes, or an older record was imported
	if old := s.table.get(&digest); old != nil {
		undone = r.Revoked.IsZero() && !old.Revoked.IsZero()
		r.staysRevoked(old)
		if old.Version == r.Version && sameRecord(old, r) {
			return old, true
		}
	}
	if !s.table.PutNewer(r) {
		s.log.Warn().Str("key_id", r.ID).Msg("Redis has an older version of a key than this relay, after a failover perhaps: the newer one stays in force here; change the key again to make both the same")
		return s.table.get(&digest), true
	}
	if undone {
		s.log.Warn().Str("key_id", r.ID).Msg("Redis has a key as not revoked that this relay knows as revoked: it stays revoked here; revoke it again in Redis, for relays that do not know it")
	}
	s.negatives.forget(&digest)
	return r, true
}

func sameRecord(a, b *Record) bool { return string(encodeRecord(a)) == string(encodeRecord(b)) }

// applyTenant does the same with a tenant's limits.
func (s *redisStore) applyTenant(name, value string) {
	var t *Tenant
	if value != "" {
		var err error
		if t, err = decodeTenant([]byte(value)); err != nil {
			s.log.Error().Err(err).Msg("tenant in Redis cannot be used: its limits stay as they were")
			return
		}
	}
	s.tenants.set(name, t)
}

// read gets subjects from Redis and applies them. What is not there was taken
// out where prune says so and the store is the one that the table is made from;
// else it may be lost with all the others.
func (s *redisStore) read(ctx context.Context, c rueidis.CommandClient, subjects []string, prune bool) error {
	for len(subjects) > 0 {
		batch := subjects[:min(readBatch, len(subjects))]
		subjects = subjects[len(batch):]
		generations := make([]uint32, len(batch))
		digests := make([]Digest, len(batch))
		for i, subject := range batch {
			if !strings.HasPrefix(subject, tenantSubject) {
				d, err := parseDigest(subject)
				if err != nil {
					continue // somebody else's, or a canary
				}
				digests[i] = d
				generations[i] = s.gens[genOf(&d)].Load()
			}
		}
		s.fetches.Add(1)
		began := time.Now()
		marker, values, err := readSubjects(ctx, c, &s.names, batch)
		s.called(CallFollow, time.Since(began))
		if err != nil {
			return err
		}
		for i, value := range values {
			if value == "" && !(prune && marker == s.marker()) {
				continue
			}
			if name, is := strings.CutPrefix(batch[i], tenantSubject); is {
				s.applyTenant(name, value)
			} else if digests[i] != (Digest{}) {
				if _, current := s.apply(digests[i], value, generations[i]); !current {
					s.changed(batch[i]) // read again, with what came meanwhile
					s.signal()
				}
			}
		}
	}
	return nil
}

// state is what the next run may go on with.
func (s *redisStore) state() *state {
	return &state{
		Proof: time.Unix(0, s.proof.Load()), Pepper: pepperMark(s.pepper),
		// Before the records: a change that comes in between is read again.
		Marker: s.marker(), Seq: s.seq.Load(),
		Tenants: s.tenants.list(), Records: s.table.all(),
	}
}

func subjectOfDigest(d *Digest) string { return hex.EncodeToString(d[:]) }
