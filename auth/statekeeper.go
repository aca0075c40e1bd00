package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"streamrelay/auth/limits"
)

// stateEvery is how often a relay writes down what its next run goes on with.
// What is used of the limits of a keys file follows sooner: relays that share
// the state file know of each other by nothing else.
const stateEvery = time.Minute

// endsWithin is how soon the end of a key is written down, with what ends
// meanwhile: a relay that is killed and starts in an outage must not take a
// revoked key for good. A keys file has it by itself.
const endsWithin = time.Second / 2

// stateKeeper writes the state file, which other relays may share: two of which
// one takes over, or several on one machine.
type stateKeeper struct {
	*Store
	last bool // this relay has ended

	seen  stamp         // of what was read or written last
	saved time.Time     // when it was written last
	took  time.Duration // and how long that took
}

func (s *Store) keepState(k *stateKeeper) {
	defer close(s.stopped)
	every := stateEvery
	if s.redis == nil {
		every = limits.ShareEvery
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var ends <-chan struct{}
	if s.redis != nil {
		ends = s.table.ends
	}
	var due <-chan time.Time
	for {
		select {
		case <-s.stop:
			return
		case <-ends:
			if due == nil {
				due = time.After(max(endsWithin, time.Until(k.saved.Add(4*k.took))))
			}
		case <-due:
			due = nil
			k.write()
		case <-ticker.C:
			if time.Since(k.saved) > 20*k.took { // of a million keys it takes seconds
				k.look()
			}
		}
	}
}

// look writes the state where there is something new to write, and else reads
// what another relay wrote.
func (k *stateKeeper) look() {
	if k.redis != nil || k.limiter.Used() {
		k.write()
		return
	}
	path := k.statePath()
	if now, err := stampOf(path); path == "" || err != nil || now == (stamp{}) || now == k.seen {
		return
	} else if st, err := readStateHead(path); err == nil {
		k.limiter.Share(st.Spent, true, false)
		k.seen = now
	}
}

func (k *stateKeeper) write() {
	path := k.statePath()
	if path == "" {
		return
	}
	began := time.Now()
	err := k.writeTo(path)
	k.saved, k.took = time.Now(), time.Since(began)
	if err != nil {
		k.limiter.Unsaved()
		k.log.Warn().Err(fmt.Errorf("a restart goes on without it: %w", err)).Msg("state not written")
	}
}

// writeTo writes the state where there is something to go on with. It waits for
// others that write it, and keeps what they wrote.
func (k *stateKeeper) writeTo(path string) error {
	if k.redis != nil && k.redis.marker() == "" {
		return nil // nothing was ever heard of Redis: keep what an earlier run knew
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write keys.state_file: %w", err)
	}
	lock, err := lockFile(path)
	if err != nil {
		return fmt.Errorf("write keys.state_file: %w", err)
	}
	defer lock.Close()
	st := &state{}
	if k.redis != nil {
		st = k.redis.state()
		st.Relays = k.limiter.Instances()
	}
	st.At = time.Now().UTC()
	var others []limits.Spent
	there, err := readStateHead(path)
	switch {
	case err == nil:
		if others = there.Spent; k.redis != nil && there.Marker == st.Marker && there.Pepper == st.Pepper && there.Proof.After(st.Proof) {
			return nil // another relay hears Redis, and this one does not
		}
	case !errors.Is(err, fs.ErrNotExist):
		k.log.Warn().Err(err).Msg("state of other relays cannot be used")
	}
	st.Spent = k.limiter.Share(others, err == nil, k.last)
	if k.redis == nil && len(st.Spent) == 0 && err != nil {
		return nil
	}
	if err := writeState(path, st); err != nil {
		return err
	}
	k.seen, err = stampOf(path)
	return err
}

func (s *Store) statePath() string {
	s.reload.Lock()
	defer s.reload.Unlock()
	return s.options.Keys.StateFile
}
