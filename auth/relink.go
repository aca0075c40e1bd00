package auth

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"streamrelay/configs"
)

// link is a connection to Redis that a reload has tried, to be followed.
type link struct {
	client rueidis.Client
	meant  bool // it takes the place of the one before, whatever its marker
}

// errMoved ends the following of a connection in favour of the next one.
var errMoved = errors.New("another connection takes over")

// tryLink connects to what c says, and makes sure that it may take the place of
// the Redis of now: it answers, takes writes, was made with the same pepper, and
// has the keys that the table has or was said to be meant. nil: the connection
// of now will do.
func (s *redisStore) tryLink(c configs.Redis) (_ *link, err error) {
	now := *s.config.Load()
	now.StaleMax = c.StaleMax
	now.PasswordFile, now.Sentinel.PasswordFile = c.PasswordFile, c.Sentinel.PasswordFile // what they hold counts
	if reflect.DeepEqual(now, c) {
		return nil, nil
	}
	explain := func(err error) error {
		f := failed(&c, err)
		return fmt.Errorf("redis: %s: %s", f.Detail, f.Hint)
	}
	client, err := dialRedis(s.ctx, &c)
	if err != nil {
		return nil, explain(err)
	}
	defer func() {
		if err != nil {
			client.Close()
		}
	}()
	b, err := askBeat(s.ctx, client, &s.names, "", s.seq.Load()) // a look, not a relay
	if err != nil {
		return nil, explain(err)
	}
	if b.pepper != "" && b.pepper != pepperMark(s.pepper) {
		return nil, fmt.Errorf("redis: %w", errPepper)
	}
	l := &link{client: client, meant: b.adopted}
	if known := s.marker(); known == "" || known == b.marker || b.adopted || s.table.Len() == 0 {
		return l, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, 10*redisTimeout)
	defer cancel()
	if b.marker != "" {
		if l.meant, err = s.hasAll(ctx, client); err != nil {
			return nil, explain(err)
		}
	}
	if !l.meant {
		return nil, fmt.Errorf("redis: there are not the keys at %v that this relay knows: copy them first (by replication, or `relay keys export` and `relay keys import --exported`), or say there that it is meant (`relay keys adopt`)", c.Addresses)
	}
	return l, nil
}

// hasAll reports whether every usable key of the table is in a Redis.
func (s *redisStore) hasAll(ctx context.Context, c rueidis.CommandClient) (bool, error) {
	var subjects []string
	for _, r := range s.table.all() {
		if r.usable {
			subjects = append(subjects, subjectOfDigest(&r.Digest))
		}
	}
	for batch := range slices.Chunk(subjects, readBatch) {
		_, values, err := readSubjects(ctx, c, &s.names, batch)
		if err != nil {
			return false, err
		}
		if slices.Contains(values, "") {
			return false, nil
		}
	}
	return true, nil
}

// relink puts c in force: of l, unless that is nil, from the next moment on.
// Until the table is in step with it, the connection of before is lent.
func (s *redisStore) relink(c configs.Redis, l *link) {
	s.config.Store(&c)
	if proof := s.proof.Load(); proof != 0 {
		s.table.goodUntil.Store(time.Unix(0, proof).Add(c.StaleMax + grace).Unix())
	}
	if l != nil {
		s.replaceNext(l)
		select {
		case s.moved <- struct{}{}:
		default:
		}
	}
}

func (s *redisStore) hasNext() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next != nil
}

func (s *redisStore) takeNext() *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.next
	s.next = nil
	return l
}

// replaceNext closes the next connection that nobody took.
func (s *redisStore) replaceNext(l *link) {
	s.mu.Lock()
	old := s.next
	s.next = l
	s.mu.Unlock()
	if old != nil {
		old.client.Close()
	}
}

// closeLater closes connections when nobody uses them any more who got them
// lent before.
func (s *redisStore) closeLater(left []rueidis.Client) {
	select {
	case <-s.ctx.Done():
	case <-time.After(apiTime):
	}
	closeAll(left)
}

func closeAll(clients []rueidis.Client) {
	for _, c := range clients {
		c.Close()
	}
}
