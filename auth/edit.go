package auth

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// grant is what a new key may do.
type grant struct {
	name    string // "": its id
	tenants []string
	models  []string
	expires time.Time // zero: never
}

// errNoSuchKey never repeats what was asked for: it may be a key.
var errNoSuchKey = &exitError{1, errors.New(`no key has this id or name; "relay keys list" shows them`)}

// addKey puts the record of a raw key into f.
func (f *keysFile) addKey(key string, g grant, now time.Time) (*Record, error) {
	r := &Record{
		ID: newID(), Name: g.name, Digest: DigestOf(nil, []byte(key)),
		Tenants: g.tenants, Models: g.models,
		Created: now.UTC().Truncate(time.Second), Expires: g.expires,
	}
	if r.Name == "" {
		r.Name = r.ID
	}
	if len(r.Tenants) == 0 {
		r.Tenants = []string{defaultTenant}
	}
	if i, there := f.digests[r.Digest]; there {
		other := f.records[i]
		if !other.Revoked.IsZero() {
			return nil, fmt.Errorf("the key was revoked, as %s (%s), and stays so", other.ID, other.Name)
		}
		return nil, fmt.Errorf("the key is there already, as %s (%s)", other.ID, other.Name)
	}
	_, isName := f.names[r.Name]
	if _, isID := f.ids[r.Name]; isName || isID {
		return nil, fmt.Errorf("the name %q is taken", r.Name)
	}
	f.add(r)
	return r, nil
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
func createKey(path string, g grant, now time.Time) (key string, r *Record, err error) {
	key = Generate()
	err = editFile(path, func(f *keysFile) error {
		r, err = f.addKey(key, g, now)
		return err
	})
	if err != nil {
		return "", nil, err
	}
	return key, r, nil
}

// importKeys stores the records of keys that exist already: all or none. With
// several keys and a name, the keys after the first are called name-2, name-3 ….
func importKeys(path string, keys []string, g grant, now time.Time) (records []*Record, err error) {
	err = editFile(path, func(f *keysFile) error {
		for i, key := range keys {
			one := g
			if i > 0 && g.name != "" {
				one.name = fmt.Sprintf("%s-%d", g.name, i+1)
			}
			r, err := f.addKey(key, one, now)
			if err != nil {
				return fmt.Errorf("key %d of the input: %w; nothing was imported", i+1, err)
			}
			records = append(records, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// revokeKey ends a key for good. already is true where that was done before;
// the first time stays on record.
func revokeKey(path, idOrName string, now time.Time) (r *Record, already bool, err error) {
	errAlready := errors.New("revoked before")
	err = editFile(path, func(f *keysFile) error {
		i, err := find(f.records, idOrName)
		if err != nil {
			return err
		}
		if !f.records[i].Revoked.IsZero() {
			r = f.records[i]
			return errAlready
		}
		f.revoke(i, now)
		r = f.records[i]
		return nil
	})
	if errors.Is(err, errAlready) {
		return r, true, nil
	}
	return r, false, err
}
