package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"streamrelay/auth/limits"
	"streamrelay/configs"
)

// Change is a new configuration that a Store could put in force. Exactly one of
// Apply and Discard is called.
type Change struct {
	s     *Store
	o     Options
	link  *link     // nil: the connection of now goes on
	other *keysFile // of the path of o, nil: the path of now
	stamp stamp
}

// NeedRestart names the settings in which two configurations differ and which
// a running Store does not change: the kind of store, what digests are made
// with, and under which names Redis has everything.
func NeedRestart(before, after Options) (names []string) {
	if before.Keys.Store != after.Keys.Store {
		names = append(names, "keys.store")
	}
	if before.Keys.Pepper != after.Keys.Pepper {
		names = append(names, "keys.pepper_file")
	}
	if after.Keys.Store == "redis" && before.Redis.Prefix != after.Redis.Prefix {
		names = append(names, "redis.prefix")
	}
	return names
}

// Prepare does all of a reload that can fail: it reads another keys file, and
// connects to another Redis, which takes some seconds at most where that does not
// answer. Until Apply nothing is different. Of o, Keys, Redis and Prices count.
// Calls do not overlap; each is followed by Apply or Discard before the next.
//
// A new Redis that cannot be reached, or that lacks keys which the relay knows,
// is an error: the one of before stays in force, and whoever changed the
// configuration is there to see it. A Redis that is away and whose settings did
// not change is none: other settings can be changed meanwhile.
func (s *Store) Prepare(o Options) (_ *Change, err error) {
	s.reload.Lock()
	defer s.reload.Unlock()
	before := s.options
	if names := NeedRestart(before, o); len(names) > 0 {
		return nil, fmt.Errorf("only a restart applies a change of %s", strings.Join(names, ", "))
	}
	c := &Change{s: s, o: o}
	switch {
	case s.redis != nil:
		c.link, err = s.redis.tryLink(o.Redis)
	case o.Keys.File != before.Keys.File:
		if c.other, c.stamp, err = s.file.try(o.Keys.File); errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; every key would be refused: make it first", err)
		}
		if err != nil {
			err = fmt.Errorf("keys.file: %w", err)
		}
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Discard frees what Prepare opened. The Store goes on as it was.
func (c *Change) Discard() {
	if c.link != nil {
		c.link.client.Close()
	}
}

// Apply puts the configuration in force. Lookups and requests under way do not
// wait for it; what was spent stays spent.
func (c *Change) Apply() {
	s := c.s
	s.reload.Lock()
	defer s.reload.Unlock()
	s.options.Keys, s.options.Redis, s.options.Prices = c.o.Keys, c.o.Redis, c.o.Prices
	s.limiter.SetPrices(limits.NewPrices(c.o.Prices))
	s.limiter.SetRefuse(refuses(&c.o.Keys))
	s.setToken(c.o.Keys.APIToken)
	if s.redis != nil {
		s.redis.relink(c.o.Redis, c.link)
		return
	}
	if c.other != nil {
		s.file.follow(c.o.Keys.File, c.other, c.stamp)
	}
	s.setKeeper(&fileKeeper{path: c.o.Keys.File, secret: s.pepper(), state: c.o.Keys.StateFile})
}

func refuses(keys *configs.Keys) bool { return keys.LimitsWithoutRedis == "refuse" }
