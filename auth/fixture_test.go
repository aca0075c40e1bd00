package auth

import (
	"time"

	"streamrelay/configs"
)

// addKey adds the record of a raw key, as create and import do.
func (f *keysFile) addKey(key string, g grant, now time.Time) (*Record, error) {
	r := g.record(key, nil, now)
	return r, f.addRecord(0, r, false)
}

// revoke marks record i, as a command does.
func (f *keysFile) revoke(i int, now time.Time) {
	r := f.records[i].clone()
	r.Disabled, r.Revoked = true, now.UTC().Truncate(time.Second)
	f.set(i, r)
}

func secretOf(s string) configs.Secret { return configs.NewSecret(s) }

// patience is how long a test waits for what takes a second at most.
const patience = 30 * time.Second

// lookup is LookupFrom without the store, and is not counted.
func (t *Table) lookup(key []byte, now int64) (*Record, Status) {
	if len(key) == 0 || len(key) > maxKeyLength {
		return nil, Unknown
	}
	digest := DigestOf(t.pepper, key)
	return t.LookupDigest(&digest, now)
}
