package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/rueidis"

	"streamrelay/auth/lua"
)

// writeScript is the one way in which records change: all of a batch or none,
// only from the values that its author saw, each with the next number of the
// order of changes, in which relays that missed a message find what they missed.
// KEYS: meta, changed, ids, names, marker, a record each. ARGV: the pepper's
// mark, a marker for a store that is new, and of each record: the value it has
// ("": none), the value it gets ("": none), its subject, id, name before, name.
var writeScript = lua.New(`
local meta, changed, ids, names = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local pepper = redis.call('HGET', meta, 'pepper')
if pepper and pepper ~= ARGV[1] then return {'pepper'} end
for i = 6, #KEYS do
  local a = 3 + (i - 6) * 6
  local subject, name = ARGV[a + 2], ARGV[a + 5]
  local now = redis.call('GET', KEYS[i]) or ''
  if now ~= ARGV[a] then return {'changed', tostring(i - 6), now} end
  if name ~= '' then
    local other = redis.call('HGET', names, name)
    if other and other ~= subject then return {'name', tostring(i - 6)} end
    other = redis.call('HGET', ids, name)
    if other and other ~= subject then return {'name', tostring(i - 6)} end
    other = redis.call('HGET', names, ARGV[a + 3])
    if other and other ~= subject then return {'name', tostring(i - 6)} end
  end
  if now == '' then
    local other = redis.call('HGET', ids, ARGV[a + 3])
    if other and other ~= subject then return {'id', tostring(i - 6)} end
  end
end
redis.call('SETNX', KEYS[5], ARGV[2])
redis.call('HSET', meta, 'pepper', ARGV[1])
for i = 6, #KEYS do
  local a = 3 + (i - 6) * 6
  local new, subject, id, before, name = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5]
  local seq = redis.call('HINCRBY', meta, 'seq', 1)
  redis.call('ZADD', changed, seq, subject)
  if before ~= '' and before ~= name then redis.call('HDEL', names, before) end
  if new == '' then
    redis.call('DEL', KEYS[i])
    redis.call('HDEL', ids, id)
  else
    redis.call('SET', KEYS[i], new)
    redis.call('HSET', ids, id, subject)
    if name ~= '' then redis.call('HSET', names, name, subject) end
  end
end
return {'ok'}`)

// recordChange is one line of a write.
type recordChange struct{ old, new, subject, id, nameBefore, name string }

// conflict says that a record is not what the author of a change saw.
type conflict struct {
	index int
	now   string // its value
}

func (e *conflict) Error() string { return "the record was changed meanwhile" }

func (k *redisKeeper) write(ctx context.Context, c rueidis.CommandClient, changes []recordChange) error {
	keys := []string{k.names.meta, k.names.changed, k.names.ids, k.names.names, k.names.marker}
	args := []string{pepperMark(k.secret), newID()}
	for _, ch := range changes {
		keys = append(keys, k.names.records+ch.subject)
		args = append(args, ch.old, ch.new, ch.subject, ch.id, ch.nameBefore, ch.name)
	}
	run := writeScript.Run
	if !slices.ContainsFunc(changes, func(ch recordChange) bool { return ch.old == "" }) {
		run = writeScript.RunEvenFull // a revocation waits for nobody's memory
	}
	answer, err := run(ctx, c, keys, args).AsStrSlice()
	if err != nil {
		return fmt.Errorf("write to redis: %w", err)
	}
	at := func() int { n, _ := strconv.Atoi(answer[1]); return n }
	switch {
	case answer[0] == "ok":
		return nil
	case answer[0] == "pepper":
		return &exitError{exitConfig, errors.New("the keys in Redis were made with another pepper, or without one: set keys.pepper_file to the one that every relay has")}
	case answer[0] == "name":
		return nameTaken(at(), changes[at()].name)
	case answer[0] == "id":
		return nameTaken(at(), changes[at()].id)
	}
	return &conflict{at(), answer[2]}
}

// confirmed writes one change and waits until a replica has it, where there is
// one: a revocation must outlive the primary.
func (k *redisKeeper) confirmed(ctx context.Context, change recordChange) (said string, err error) {
	err = k.client.Dedicated(func(c rueidis.DedicatedClient) error {
		if err := k.write(ctx, c, []recordChange{change}); err != nil {
			return err
		}
		said = k.replicated(ctx, c)
		return nil
	})
	return said, err
}

// replicated waits, on the connection of a write, for a replica to have it.
func (k *redisKeeper) replicated(ctx context.Context, c rueidis.DedicatedClient) string {
	const relays = "connected relays follow at once"
	b := c.B()
	role, err := c.Do(ctx, b.Role().Build()).ToArray()
	replicas := -1
	if err == nil && len(role) == 3 {
		if list, err := role[2].ToArray(); err == nil {
			replicas = len(list)
		}
	}
	if replicas == 0 {
		return relays + "; Redis has no replica that would keep this if it fails"
	}
	n, err := c.Do(ctx, b.Wait().Numreplicas(1).Timeout(1000).Build()).AsInt64()
	switch {
	case err != nil:
		return relays + "; whether a replica of Redis has it is not known: " + err.Error()
	case n == 0:
		return relays + "; no replica of Redis confirmed it within 1 s: if the primary fails now, the change may be lost"
	}
	return fmt.Sprintf("%s; %d of Redis's replicas confirmed it", relays, n)
}
