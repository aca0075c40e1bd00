package auth

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"streamrelay/auth/limits"
	"streamrelay/configs"
)

const (
	writeBatch  = 500 // records in one step
	readBatch   = 500
	maxConflict = 16 // somebody else's changes that an edit outlives
)

// redisKeeper keeps keys in Redis.
type redisKeeper struct {
	client rueidis.Client                 // its own, or nil
	lend   func() (rueidis.Client, error) // else who has one
	names  redisNames
	secret []byte
	config *configs.Redis // of a command's own client
}

// connected returns k with a client.
func (k *redisKeeper) connected() (*redisKeeper, error) {
	if k.client != nil {
		return k, nil
	}
	c, err := k.lend()
	return &redisKeeper{client: c, names: k.names, secret: k.secret}, err
}

// openRedisKeeper connects for a command.
func openRedisKeeper(ctx context.Context, keys *configs.Keys, redis *configs.Redis) (*redisKeeper, error) {
	client, err := dialRedis(ctx, redis)
	if err != nil {
		return nil, &exitError{exitUnavailable, explained(redis, err)}
	}
	return &redisKeeper{client: client, names: namesFor(redis.Prefix), secret: []byte(keys.Pepper.Reveal()), config: redis}, nil
}

func (k *redisKeeper) pepper() []byte { return k.secret }

func (k *redisKeeper) close() {
	if k.client != nil {
		k.client.Close()
	}
}

func (k *redisKeeper) read(ctx context.Context) (records []*Record, tenants []*Tenant, err error) {
	if k, err = k.connected(); err != nil {
		return nil, nil, err
	}
	err = eachSubject(ctx, k.client, &k.names, func(subjects []string) error {
		_, values, err := readSubjects(ctx, k.client, &k.names, subjects)
		if err != nil {
			return err
		}
		for i, value := range values {
			switch {
			case value == "": // taken out by hand
			case strings.HasPrefix(subjects[i], tenantSubject):
				t, err := decodeTenant([]byte(value))
				if err != nil {
					return fmt.Errorf("redis: %s: %w", k.names.records+subjects[i], err)
				}
				tenants = append(tenants, t)
			default:
				r, err := decodeRecord([]byte(value))
				if err != nil {
					return fmt.Errorf("redis: record %q: %w", r.name(), err)
				}
				records = append(records, r)
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(records, func(a, b *Record) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	slices.SortFunc(tenants, func(a, b *Tenant) int { return strings.Compare(a.Name, b.Name) })
	return records, tenants, nil
}

// name is what an error may call a record that could not be read whole.
func (r *Record) name() string {
	if r == nil || !wellFormed(r.ID) || resemblesKey(r.ID) {
		return "?"
	}
	return r.ID
}

// eachSubject visits every subject, in batches; some may come twice.
func eachSubject(ctx context.Context, c rueidis.CommandClient, names *redisNames, visit func([]string) error) error {
	cursor := uint64(0)
	for {
		b := c.B()
		page, err := c.Do(ctx, b.Hscan().Key(names.ids).Cursor(cursor).Count(readBatch).Build()).AsScanEntry()
		if err != nil {
			return fmt.Errorf("list keys in redis: %w", err)
		}
		subjects := make([]string, 0, len(page.Elements)/2)
		for i := 1; i < len(page.Elements); i += 2 {
			subjects = append(subjects, page.Elements[i])
		}
		// A small hash comes whole, whatever the count.
		for batch := range slices.Chunk(subjects, readBatch) {
			if err := visit(batch); err != nil {
				return err
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
}

// readSubjects returns the values, "" where there is none, and the marker of the
// store that they come from, in one step.
func readSubjects(ctx context.Context, c rueidis.CommandClient, names *redisNames, subjects []string) (marker string, values []string, err error) {
	keys := make([]string, 1, len(subjects)+1)
	keys[0] = names.marker
	for _, s := range subjects {
		keys = append(keys, names.records+s)
	}
	b := c.B()
	answer, err := c.Do(ctx, b.Mget().Key(keys...).Build()).ToArray()
	if err != nil {
		return "", nil, fmt.Errorf("read keys from redis: %w", err)
	}
	values = make([]string, len(answer))
	for i := range answer {
		if values[i], err = answer[i].ToString(); err != nil && !rueidis.IsRedisNil(err) {
			return "", nil, fmt.Errorf("read keys from redis: %w", err)
		}
	}
	return values[0], values[1:], nil
}

func (k *redisKeeper) add(ctx context.Context, records []*Record, replace bool) error {
	k, err := k.connected()
	if err != nil {
		return err
	}
	if err := distinct(records); err != nil {
		return err
	}
	for from := 0; from < len(records); from += writeBatch {
		batch := records[from:min(from+writeBatch, len(records))]
		err := k.addBatch(ctx, batch, replace)
		var taken *takenError
		if errors.As(err, &taken) {
			taken.index += from
		}
		if err != nil && from > 0 {
			return fmt.Errorf("record %d: %v; those before %d are stored", from+1, err, from+1) // no takenError: something was stored
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// distinct finds what a batch alone has twice, which the server does not look for.
func distinct(records []*Record) error {
	names, digests := make(map[string]*Record, 2*len(records)), make(map[Digest]*Record, len(records))
	for i, r := range records {
		if other := digests[r.Digest]; other != nil {
			return keyTaken(i, other)
		}
		digests[r.Digest] = r
		for _, text := range []string{r.ID, r.Name} {
			if other := names[text]; other != nil && other != r {
				return nameTaken(i, text)
			}
			names[text] = r
		}
	}
	return nil
}

func (k *redisKeeper) addBatch(ctx context.Context, records []*Record, replace bool) error {
	changes := make([]recordChange, len(records))
	for i, r := range records {
		r.Version = max(r.Version+1, time.Now().UnixMicro())
		changes[i] = recordChange{new: string(encodeRecord(r)), subject: hex.EncodeToString(r.Digest[:]), id: r.ID, name: r.Name}
	}
	for range len(records) + maxConflict {
		err := k.write(ctx, k.client, changes)
		var other *conflict
		if !errors.As(err, &other) {
			return err
		}
		was, err := decodeRecord([]byte(other.now))
		if err != nil {
			return fmt.Errorf("redis: record %q: %w", was.name(), err)
		}
		r := records[other.index]
		if !replace || was.ID != r.ID {
			return keyTaken(other.index, was)
		}
		r.staysRevoked(was)
		r.Version = max(r.Version, was.Version+1)
		changes[other.index].old, changes[other.index].nameBefore = other.now, was.Name
		changes[other.index].new = string(encodeRecord(r))
	}
	return errors.New("the keys are being changed by others all the time: try again")
}

// subjectOf finds a record by id or name.
func (k *redisKeeper) subjectOf(ctx context.Context, idOrName string) (string, error) {
	for _, hash := range []string{k.names.ids, k.names.names} {
		subject, err := k.client.Do(ctx, k.client.B().Hget().Key(hash).Field(idOrName).Build()).ToString()
		switch {
		case rueidis.IsRedisNil(err):
		case err != nil:
			return "", fmt.Errorf("look the key up in redis: %w", err)
		case !strings.HasPrefix(subject, tenantSubject):
			return subject, nil
		}
	}
	return "", errNoSuchKey
}

func (k *redisKeeper) get(ctx context.Context, idOrName string) (*Record, error) {
	k, err := k.connected()
	if err != nil {
		return nil, err
	}
	subject, err := k.subjectOf(ctx, idOrName)
	if err != nil {
		return nil, err
	}
	_, values, err := readSubjects(ctx, k.client, &k.names, []string{subject})
	if err != nil {
		return nil, err
	}
	if values[0] == "" {
		return nil, errNoSuchKey
	}
	r, err := decodeRecord([]byte(values[0]))
	if err != nil {
		return nil, fmt.Errorf("redis: record %q: %w", r.name(), err)
	}
	return r, nil
}

func (k *redisKeeper) change(ctx context.Context, idOrName string, edit func(*Record) error) (*Record, string, error) {
	k, err := k.connected()
	if err != nil {
		return nil, "", err
	}
	subject, err := k.subjectOf(ctx, idOrName)
	if err != nil {
		return nil, "", err
	}
	_, values, err := readSubjects(ctx, k.client, &k.names, []string{subject})
	if err != nil {
		return nil, "", err
	}
	value := values[0]
	for range maxConflict {
		if value == "" {
			return nil, "", errNoSuchKey
		}
		old, err := decodeRecord([]byte(value))
		if err != nil {
			return nil, "", fmt.Errorf("redis: record %q: %w", old.name(), err)
		}
		r := old.clone()
		if err := edit(r); err != nil {
			return r, "", err
		}
		r.Version = max(old.Version+1, time.Now().UnixMicro())
		said, err := k.confirmed(ctx, recordChange{value, string(encodeRecord(r)), subject, r.ID, old.Name, r.Name})
		var other *conflict
		if errors.As(err, &other) {
			value = other.now
			continue
		}
		return r, said, err
	}
	return nil, "", errors.New("the key is being changed by others all the time: try again")
}

func (k *redisKeeper) setTenant(ctx context.Context, name string, t *Tenant) error {
	k, err := k.connected()
	if err != nil {
		return err
	}
	change := recordChange{subject: tenantSubject + name, id: tenantSubject + name}
	if t != nil {
		t.Version = time.Now().UnixMicro()
		change.new = string(encodeTenant(t))
	}
	for range maxConflict {
		if t == nil && change.old == "" {
			_, values, err := readSubjects(ctx, k.client, &k.names, []string{change.subject})
			if err != nil {
				return err
			}
			if change.old = values[0]; change.old == "" {
				return errNoSuchTenant
			}
		}
		err := k.write(ctx, k.client, []recordChange{change})
		var other *conflict
		if !errors.As(err, &other) {
			return err
		}
		change.old = other.now
	}
	return errors.New("the tenant is being changed by others all the time: try again")
}

func (k *redisKeeper) usage(ctx context.Context, scopes []string, of []limits.Limits) ([]limits.Usage, error) {
	k, err := k.connected()
	if err != nil {
		return nil, err
	}
	return limits.ReadUsage(ctx, k.client, k.names.prefix, scopes, of, time.Now())
}

// adopt says that what Redis holds now is meant, though relays remember more.
func (k *redisKeeper) adopt(ctx context.Context) error {
	b := k.client.B
	for _, answer := range k.client.DoMulti(ctx,
		b().Hset().Key(k.names.meta).FieldValue().FieldValue("adopted", "1").Build(),
		b().Set().Key(k.names.marker).Value(newID()).Build(),
	) {
		if err := answer.Error(); err != nil {
			return fmt.Errorf("write to redis: %w", err)
		}
	}
	return nil
}
