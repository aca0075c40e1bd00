package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"streamrelay/auth/limits"
)

// keeper is where keys are kept and changed by commands and the API: the keys
// file or Redis. Its methods may be called from any number of goroutines.
type keeper interface {
	// read returns everything, in the order of the store.
	read(ctx context.Context) ([]*Record, []*Tenant, error)
	// get returns the record with this id or name.
	get(ctx context.Context, idOrName string) (*Record, error)
	// add stores new records, all or none; replace lets them take the place of
	// those with the same digest.
	add(ctx context.Context, records []*Record, replace bool) error
	// change stores what edit makes of the record with this id or name; id and
	// digest stay. edit may be called again where somebody else was faster. An
	// error of edit ends it and is returned. said tells a person what follows.
	change(ctx context.Context, idOrName string, edit func(*Record) error) (r *Record, said string, err error)
	// setTenant stores a tenant's limits; nil takes them out.
	setTenant(ctx context.Context, name string, t *Tenant) error
	// usage adds to views what was used of the limits, as far as it is known.
	usage(ctx context.Context, scopes []string, of []limits.Limits) ([]limits.Usage, error)
	pepper() []byte
	close()
}

// grant is what a new key may do.
type grant struct {
	name     string // "": its id
	tenants  []string
	models   []string
	paths    []string
	limits   limits.Limits
	expires  time.Time // zero: never
	metadata map[string]string
}

// record is the record of a raw key.
func (g grant) record(key string, pepper []byte, now time.Time) *Record {
	r := &Record{
		ID: newID(), Name: g.name, Digest: DigestOf(pepper, []byte(key)),
		Tenants: g.tenants, Models: g.models, Paths: g.paths, Limits: g.limits,
		Created: now.UTC().Truncate(time.Second), Expires: g.expires, Metadata: g.metadata,
	}
	if r.Name == "" {
		r.Name = r.ID
	}
	if len(r.Tenants) == 0 {
		r.Tenants = []string{defaultTenant}
	}
	return r
}

var (
	// errNoSuchKey never repeats what was asked for: it may be a key.
	errNoSuchKey    = &exitError{1, errors.New(`no key has this id or name; "relay keys list" shows them`)}
	errNoSuchTenant = &exitError{1, errors.New(`no limits are set for this tenant; "relay keys tenant list" shows whose are`)}
)

// takenError says that a key or its name is there already.
type takenError struct {
	index int // of the record
	text  string
}

func (e *takenError) Error() string { return e.text }

func keyTaken(i int, other *Record) error {
	if !other.Revoked.IsZero() {
		return &takenError{i, fmt.Sprintf("the key was revoked, as %s (%s), and stays so", other.ID, other.Name)}
	}
	return &takenError{i, fmt.Sprintf("the key is there already, as %s (%s)", other.ID, other.Name)}
}

func nameTaken(i int, name string) error {
	return &takenError{i, fmt.Sprintf("the name %q is taken", name)}
}

// find returns the index of the record with this id or name. No name is the
// id of another record.
func find(records []*Record, idOrName string) (int, error) {
	i := slices.IndexFunc(records, func(r *Record) bool { return r.ID == idOrName || r.Name == idOrName })
	if i < 0 {
		return 0, errNoSuchKey
	}
	return i, nil
}

// createKey makes a key and stores its record.
func createKey(ctx context.Context, k keeper, g grant, now time.Time) (key string, r *Record, err error) {
	key = Generate()
	r = g.record(key, k.pepper(), now)
	if err := k.add(ctx, []*Record{r}, false); err != nil {
		return "", nil, err
	}
	return key, r, nil
}

// importKeys stores the records of keys that exist already: all or none. With
// several keys and a name, the keys after the first are called name-2, name-3 ….
func importKeys(ctx context.Context, k keeper, keys []string, g grant, now time.Time) ([]*Record, error) {
	records := make([]*Record, len(keys))
	for i, key := range keys {
		one := g
		if i > 0 && g.name != "" {
			one.name = fmt.Sprintf("%s-%d", g.name, i+1)
		}
		records[i] = one.record(key, k.pepper(), now)
	}
	err := k.add(ctx, records, false)
	var taken *takenError
	if errors.As(err, &taken) {
		return nil, fmt.Errorf("key %d of the input: %w; nothing was imported", taken.index+1, err)
	}
	if err != nil {
		return nil, err
	}
	return records, nil
}

// errUnchanged ends an edit that has nothing to do.
var errUnchanged = errors.New("unchanged")

// revokeKey ends a key for good. already is true where that was done before;
// the first time stays on record.
func revokeKey(ctx context.Context, k keeper, idOrName string, now time.Time) (r *Record, said string, already bool, err error) {
	r, said, err = k.change(ctx, idOrName, func(r *Record) error {
		if !r.Revoked.IsZero() {
			return errUnchanged
		}
		r.Disabled, r.Revoked = true, now.UTC().Truncate(time.Second)
		return nil
	})
	if errors.Is(err, errUnchanged) {
		return r, "", true, nil
	}
	return r, said, false, err
}

// staysRevoked keeps the revocation of the record that r takes the place of: a
// backup from before it must not undo it.
func (r *Record) staysRevoked(was *Record) {
	if !was.Revoked.IsZero() {
		r.Revoked, r.Disabled = was.Revoked, true
	}
}

var errRevoked = &exitError{1, errors.New("the key was revoked, for good; create another")}

// switchKey disables or enables a key.
func switchKey(ctx context.Context, k keeper, idOrName string, disabled bool) (r *Record, said string, err error) {
	r, said, err = k.change(ctx, idOrName, func(r *Record) error {
		switch {
		case !r.Revoked.IsZero():
			return errRevoked
		case r.Disabled == disabled:
			return errUnchanged
		}
		r.Disabled = disabled
		return nil
	})
	if errors.Is(err, errUnchanged) {
		return r, "it was before", nil
	}
	return r, said, err
}

// clone returns a copy of r that may be edited: what slices and maps hold is
// replaced, never written to.
func (r *Record) clone() *Record {
	return &Record{
		Digest: r.Digest, ID: r.ID, Name: r.Name, Tenants: r.Tenants, Models: r.Models, Paths: r.Paths, Limits: r.Limits,
		Created: r.Created, Expires: r.Expires, Disabled: r.Disabled, Revoked: r.Revoked, Metadata: r.Metadata, Version: r.Version,
	}
}
