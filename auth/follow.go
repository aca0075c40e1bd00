package auth

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// follower is one connection's life. It belongs to the store's goroutine.
type follower struct {
	*redisStore
	client rueidis.Client
	conn   rueidis.DedicatedClient
	meant  bool              // it takes the place of the one before, whatever its marker
	before *[]rueidis.Client // connections before it, which may be in use
	walked time.Time         // when everything was compared last
	lost   bool              // Redis has lost keys that the table has
	looked time.Time         // when that was looked at last
}

var (
	errConnection = errors.New("the connection was closed")
	errPepper     = errors.New("the keys in Redis were made with another pepper, or without one: set keys.pepper_file to the one that they were made with")
)

func (f *follower) follow() error {
	first, err := f.beat() // in a cluster, the first command chooses the node
	if err != nil {
		return err
	}
	if mark := pepperMark(f.pepper); first.pepper != "" && first.pepper != mark {
		return errPepper
	}
	if f.meant {
		first.adopted = true
	}
	closed := f.conn.SetOnInvalidations(f.invalidated)
	if err := f.track(); err != nil {
		return err
	}
	f.phase.CompareAndSwap(phaseAway, phaseSyncing)
	if err := f.sync(first); err != nil {
		return err
	}
	return f.loop(closed)
}

// track asks to be told of changes, and tries whether that works: a server or
// proxy without it may well say OK. Where it does not, beats find changes.
func (f *follower) track() error {
	was := f.tracking.Load()
	ctx, cancel := context.WithTimeout(f.ctx, redisTimeout)
	defer cancel()
	b := f.conn.B()
	err := f.conn.Do(ctx, b.ClientTracking().On().Prefix().Prefix(f.names.records).Bcast().Build()).Error()
	if _, answered := rueidis.IsRedisErr(err); err != nil && !answered {
		return fmt.Errorf("CLIENT TRACKING: %w", err)
	}
	if err == nil {
		err = f.canary(ctx)
	}
	f.tracking.Store(err == nil)
	if f.ctx.Err() != nil {
		return f.ctx.Err()
	}
	if err != nil && (was || f.beats.Load() <= 1) {
		f.log.Warn().Err(err).Stringer("every", beatEvery).Msg("Redis does not tell of changes (CLIENT TRACKING): asking for them instead")
	}
	return nil
}

// canarySubject begins subjects that stand for nothing.
const canarySubject = "canary:"

// canary changes a key that stands for nothing and waits to be told of it.
func (f *follower) canary(ctx context.Context) error {
	subject := canarySubject + f.id
	b := f.conn.B()
	if err := f.conn.Do(ctx, b.Set().Key(f.names.records+subject).Value("1").PxMilliseconds(1000).Build()).Error(); err != nil {
		return fmt.Errorf("write a key to see whether it is told of: %w", err)
	}
	for {
		f.mu.Lock()
		_, heard := f.pending[subject]
		delete(f.pending, subject)
		f.mu.Unlock()
		if heard {
			return nil
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return errors.New("the server accepts it and tells nothing")
		}
	}
}

// invalidated is called by the connection's reader: it must not wait.
func (f *follower) invalidated(messages []rueidis.RedisMessage) {
	if messages == nil { // FLUSHALL, FLUSHDB
		f.changedAll()
	}
	for i := range messages {
		if key, err := messages[i].ToString(); err == nil {
			if subject, ours := strings.CutPrefix(key, f.names.records); ours {
				f.changed(subject)
			}
		}
	}
	f.signal()
}

// sync brings the table up to date with all that changed before changes were
// told. With a store that is the one of before that is what the order of
// changes names; else everything.
func (f *follower) sync(b *beat) error {
	began := time.Now()
	switch {
	case f.lostBy(b):
		f.lose(b)
		return f.walk(false, false)
	case f.marker() != b.marker || b.seq < f.seq.Load():
		seq, before := f.seq.Load(), f.table.Len()
		older := f.marker() == b.marker && seq != math.MaxInt64
		f.from.Store(&b.marker)
		f.seq.Store(math.MaxInt64) // should this end early, it begins anew
		if err := f.walk(true, false); err != nil {
			return err
		}
		f.seq.Store(b.seq)
		if older {
			f.log.Warn().Int64("changes_lost", seq-b.seq).Int("keys_before", before).Int("keys", f.table.Len()).
				Msg(`Redis came back with an older state: keys that were made since are refused, and what was changed since is undone, revocations apart that this relay knows. Make the changes again, or restore them ("relay keys import --exported")`)
		}
	default:
		for {
			if err := f.take(b); err != nil {
				return err
			}
			if !b.more {
				break
			}
			var err error
			if b, err = f.beat(); err != nil {
				return err
			}
		}
	}
	f.ready(began, b)
	return nil
}

// lostBy reports whether b shows a store that is not the one the table was made
// from, and was not said to take its place.
func (f *follower) lostBy(b *beat) bool {
	return f.table.Len() > 0 && f.marker() != "" && b.marker != f.marker() && !b.adopted
}

// lose says that the keys in Redis are gone. Those of the table stay.
func (f *follower) lose(b *beat) {
	f.lost = true
	f.redisStore.client.Store(&f.client) // limits are counted all the same
	if f.enter(phaseLost) != phaseLost {
		f.log.Error().Int("keys", f.table.Len()).Bool("empty", b.marker == "").Str("known_keys_go_on_for", f.left()).
			Msg(`Redis came back without the keys that this relay knows: they go on, others get 503. Restore them ("relay keys import --exported"), or say that it is meant ("relay keys adopt")`)
	}
}

// ready lets the table be believed.
func (f *follower) ready(began time.Time, b *beat) {
	f.lost = false
	f.believe(began)
	f.relays(b.relays)
	left := *f.before
	*f.before = nil
	if len(left) > 0 {
		f.moving()
	}
	f.redisStore.client.Store(&f.client)
	if len(left) > 0 {
		f.done.Go(func() { f.closeLater(left) })
		f.log.Info().Int("keys", f.table.Len()).Msg("keys are followed over the Redis of the new configuration")
	}
	if f.enter(phaseReady) != phaseReady {
		f.lastErr.Store(nil)
		f.log.Info().Int("keys", f.table.Len()).Bool("tracking", f.tracking.Load()).Str("mode", string(f.client.Mode())).Msg("keys are in step with Redis")
	}
	f.hasTried()
}

func (f *follower) loop(closed <-chan error) error {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	if f.walked.IsZero() {
		f.walked = time.Now().Add(-walkEvery + time.Minute/2) // soon: hands may have been at it
	}
	for {
		select {
		case <-f.ctx.Done():
			return f.ctx.Err()
		case err := <-closed:
			if err == nil {
				err = errConnection
			}
			return err
		case <-f.moved:
			if f.hasNext() {
				return errMoved
			}
		case <-f.wake:
			if err := f.catchUp(); err != nil {
				return err
			}
		case <-ticker.C:
			if err := f.heartbeat(); err != nil {
				return err
			}
		}
	}
}

// catchUp reads what Redis told of.
func (f *follower) catchUp() error {
	subjects, all := f.takePending()
	if all {
		// Emptied by a command. What it means, the marker says.
		return f.heartbeatThen(true)
	}
	ctx, cancel := context.WithTimeout(f.ctx, redisTimeout)
	defer cancel()
	return f.read(ctx, f.client, subjects, !f.lost)
}

func (f *follower) heartbeat() error { return f.heartbeatThen(false) }

func (f *follower) heartbeatThen(walk bool) error {
	began := time.Now()
	b, err := f.beat()
	if err != nil {
		return err
	}
	if f.lostBy(b) {
		f.lose(b)
		if err := f.take(b); err != nil {
			return err
		}
		return f.recovered(b)
	}
	if f.marker() != b.marker || b.seq < f.seq.Load() {
		return f.sync(b)
	}
	if walk {
		if err := f.walk(true, false); err != nil {
			return err
		}
	}
	if err := f.take(b); err != nil {
		return err
	}
	if !b.more {
		f.ready(began, b)
	}
	if time.Since(f.walked) > walkEvery {
		return f.walk(true, true)
	}
	return nil
}

// recovered ends the loss where every usable key that the table has is in
// Redis again.
func (f *follower) recovered(b *beat) error {
	if b.marker == "" || time.Since(f.looked) < 10*beatEvery {
		return nil
	}
	f.looked = time.Now()
	if err := f.walk(false, false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(f.ctx, 10*redisTimeout)
	defer cancel()
	if all, err := f.hasAll(ctx, f.client); err != nil || !all {
		return err
	}
	b.adopted = true
	return f.sync(b)
}

// take reads the changes that a beat named.
func (f *follower) take(b *beat) error {
	if len(b.changed) > 0 {
		ctx, cancel := context.WithTimeout(f.ctx, redisTimeout)
		defer cancel()
		if err := f.read(ctx, f.client, b.changed, !f.lost); err != nil {
			return err
		}
	}
	if !f.lost {
		f.seq.Store(max(f.seq.Load(), b.last))
	}
	return nil
}

// walk compares everything. Without prune nothing is taken out of the table;
// paced, it leaves Redis room for others.
func (f *follower) walk(prune, paced bool) error {
	f.walked = time.Now().Add(rand.N(walkEvery / 10))
	seen := make(map[string]struct{}, f.table.Len())
	err := eachSubject(f.ctx, f.client, &f.names, func(subjects []string) error {
		ctx, cancel := context.WithTimeout(f.ctx, 5*redisTimeout)
		defer cancel()
		for _, s := range subjects {
			seen[s] = struct{}{}
		}
		if err := f.read(ctx, f.client, subjects, prune); err != nil || !paced {
			return err
		}
		return f.rest(time.Duration(len(subjects)) * time.Second / walkRate)
	})
	if err != nil || !prune {
		return err
	}
	// What no list names is asked for by itself: it may have come meanwhile.
	var missing []string
	for _, r := range f.table.all() {
		if s := subjectOfDigest(&r.Digest); !contains(seen, s) {
			missing = append(missing, s)
		}
	}
	for _, t := range f.tenants.list() {
		if s := tenantSubject + t.Name; !contains(seen, s) {
			missing = append(missing, s)
		}
	}
	ctx, cancel := context.WithTimeout(f.ctx, 10*redisTimeout)
	defer cancel()
	return f.read(ctx, f.client, missing, true)
}

// rest lets time pass in a long walk, in which changes and beats go on.
func (f *follower) rest(d time.Duration) error {
	if err := f.catchUp(); err != nil {
		return err
	}
	began := time.Now()
	if began.UnixNano()-f.proof.Load() > int64(beatEvery) {
		b, err := f.beat()
		if err != nil {
			return err
		}
		if f.lostBy(b) || b.marker != f.marker() {
			return errors.New("the store changed under a walk")
		}
		if err := f.take(b); err != nil {
			return err
		}
		f.believe(began)
	}
	select {
	case <-f.ctx.Done():
		return f.ctx.Err()
	case <-f.moved:
		if f.hasNext() {
			return errMoved
		}
	case <-time.After(d):
	}
	return nil
}

func contains(set map[string]struct{}, s string) bool { _, ok := set[s]; return ok }
