package auth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"streamrelay/auth/limits"
)

// fileKeeper keeps keys in a keys file.
type fileKeeper struct {
	path   string
	secret []byte // the pepper; nil: none
	state  string // the state file of a relay, for usage; "": none
}

func (k *fileKeeper) pepper() []byte { return k.secret }
func (k *fileKeeper) close()         {}

var (
	errPepperMissing = &exitError{exitConfig, errors.New("the keys of this file were made with a pepper, and none is configured: set keys.pepper_file, or name the configuration with --config")}
	errPepperNew     = &exitError{exitConfig, errors.New("the keys of this file were made without a pepper, and keys.pepper_file is set: take it out, or begin a new keys file")}
)

// errNoFile says that there are no keys yet.
var errNoFile = errors.New("does not exist")

// checkPepper refuses a file whose digests were made in another way: every key
// would seem unknown.
func (f *keysFile) checkPepper(pepper []byte) error {
	switch {
	case len(f.records) == 0 || f.peppered == (len(pepper) > 0):
		return nil
	case f.peppered:
		return errPepperMissing
	}
	return errPepperNew
}

func (k *fileKeeper) read(context.Context) ([]*Record, []*Tenant, error) {
	data, _, err := readWhole(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf(`keys file %q %w; "relay keys create" makes it`, k.path, errNoFile)
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := parseKeys(k.path, data)
	if err != nil {
		return nil, nil, err
	}
	return f.records, f.tenants, nil
}

func (k *fileKeeper) get(ctx context.Context, idOrName string) (*Record, error) {
	records, _, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	i, err := find(records, idOrName)
	if err != nil {
		return nil, err
	}
	return records[i], nil
}

func (k *fileKeeper) edit(edit func(*keysFile) error) error {
	return editFile(k.path, func(f *keysFile) error {
		if err := f.checkPepper(k.secret); err != nil {
			return err
		}
		f.peppered = len(k.secret) > 0
		return edit(f)
	})
}

func (k *fileKeeper) add(_ context.Context, records []*Record, replace bool) error {
	return k.edit(func(f *keysFile) error {
		for i, r := range records {
			r.Version = 0 // the file as a whole is replaced
			if err := f.addRecord(i, r, replace); err != nil {
				return err
			}
		}
		return nil
	})
}

// addRecord puts r, the i-th of those to be added, into f.
func (f *keysFile) addRecord(i int, r *Record, replace bool) error {
	at, there := f.digests[r.Digest]
	if there && !(replace && f.records[at].ID == r.ID) {
		return keyTaken(i, f.records[at])
	}
	for _, text := range []string{r.ID, r.Name} {
		if j, taken := f.ids[text]; taken && !(there && j == at) {
			return nameTaken(i, text)
		}
		if j, taken := f.names[text]; taken && !(there && j == at) {
			return nameTaken(i, text)
		}
	}
	if there {
		r.staysRevoked(f.records[at])
		f.set(at, r)
	} else {
		f.add(r)
	}
	return nil
}

func (k *fileKeeper) change(_ context.Context, idOrName string, edit func(*Record) error) (r *Record, said string, err error) {
	err = k.edit(func(f *keysFile) error {
		i, err := find(f.records, idOrName)
		if err != nil {
			return err
		}
		r = f.records[i].clone()
		if err := edit(r); err != nil {
			return err
		}
		for _, taken := range []map[string]int{f.names, f.ids} {
			if j, there := taken[r.Name]; there && j != i {
				return nameTaken(0, r.Name)
			}
		}
		f.set(i, r)
		return nil
	})
	return r, "a running relay follows within a second", err
}

func (k *fileKeeper) setTenant(_ context.Context, name string, t *Tenant) error {
	return k.edit(func(f *keysFile) error {
		if !f.setTenant(name, t) && t == nil {
			return errNoSuchTenant
		}
		return nil
	})
}

// usage reads what relays wrote down last, which is some seconds old.
func (k *fileKeeper) usage(_ context.Context, scopes []string, of []limits.Limits) ([]limits.Usage, error) {
	used := make([]limits.Usage, len(scopes))
	for i := range used {
		used[i] = limits.UnknownUsage
	}
	state, err := readState(k.state)
	if err != nil {
		return used, nil //nolint:nilerr // no relay ran here, or it keeps no state
	}
	for i, scope := range scopes {
		used[i] = limits.UsageOf(state.Spent, scope, of[i], time.Now())
	}
	return used, nil
}
