package auth

import (
	"math"
	"sync/atomic"
	"time"

	"streamrelay/auth/limits"
	"streamrelay/configs"
)

// AnyTenant is the tenant of a trusted key: one that may name any tenant.
const AnyTenant = "*"

// defaultTenant is whom a request counts for whose key names no tenant.
const defaultTenant = "default"

const maxNameLength = 64

// Record is one key: whose it is and what it may do. It is immutable once it
// was given to a Table, from where any number of goroutines may read it for
// as long as they like.
type Record struct {
	Digest Digest // of the key; the key itself is nowhere

	// Set by publish, for the hot path; beside Digest for the cache.
	expires   int64    // Unix seconds, MaxInt64: never
	usable    bool     // neither disabled nor revoked
	anyTenant bool     // Tenants has AnyTenant
	tenants   [][]byte // Tenants without AnyTenant; the first is the default
	standing  *standing
	order     int64                          // grows with each record that the table takes
	account   atomic.Pointer[limits.Account] // made when it is needed first

	ID       string            // [A-Za-z0-9._-]{1,64}, unique within a store
	Name     string            // for people; unique within a store
	Tenants  []string          // the first is the default; AnyTenant: may name any
	Models   []string          // globs, * matches any run of characters; empty: every model
	Paths    []string          // globs of request paths without their query; empty: every path
	Limits   limits.Limits     // of this key alone; its tenant has its own
	Created  time.Time         // zero: not known
	Expires  time.Time         // zero: never
	Disabled bool              // refused; set by a revocation, too
	Revoked  time.Time         // when it was revoked; zero: it was not
	Metadata map[string]string // the operator's own; not read by the relay
	Version  int64             // of the record, in stores that several write; grows with each change
}

// Tenant is what all keys of one tenant may use together. It is immutable.
type Tenant struct {
	Name    string
	Limits  limits.Limits
	Version int64 // as of a Record
}

// standing is shared by the versions of one key's record from when it is
// usable to when it no longer is. Old versions are kept by the exchanges that
// began under them.
type standing struct{ ended atomic.Bool }

// Ended reports whether the key was revoked, disabled or taken out since the
// record was looked up. It is one atomic load; expiry does not count, since its
// time was known. The owner of an open stream may ask whenever it likes, and
// must when a function given to Store.OnEnd is called.
func (r *Record) Ended() bool { return r.standing != nil && r.standing.ended.Load() }

// AllowsPath reports whether the key may be used for a request's path, given
// without its query. It allocates nothing.
func (r *Record) AllowsPath(path []byte) bool { return matchesAny(r.Paths, path) }

// publish derives what the hot path reads. Tables call it, once, before the
// record can be seen by another goroutine.
func (r *Record) publish() {
	if r.tenants != nil {
		return
	}
	r.expires = math.MaxInt64
	if !r.Expires.IsZero() {
		r.expires = r.Expires.Unix()
	}
	r.usable = !r.Disabled && r.Revoked.IsZero()
	for _, t := range r.Tenants {
		if t == AnyTenant {
			r.anyTenant = true
		} else {
			r.tenants = append(r.tenants, []byte(t))
		}
	}
	if len(r.tenants) == 0 {
		r.tenants = [][]byte{[]byte(defaultTenant)}
	}
}

// Tenant returns the tenant that a request counts for which named header, the
// value of X-Tenant-ID, or nothing. ok is false where the key may not act for
// the tenant named. The bytes returned are the record's own, never to be
// written to, except where a key for any tenant named one: then they are
// header. It allocates nothing. The record must have come from a Table.
func (r *Record) Tenant(header []byte) (tenant []byte, ok bool) {
	if len(header) == 0 {
		if len(r.tenants) == 0 { // never published
			return nil, false
		}
		return r.tenants[0], true
	}
	for _, t := range r.tenants {
		if string(t) == string(header) {
			return t, true
		}
	}
	if r.anyTenant && wellFormed(header) {
		return header, true
	}
	return nil, false
}

// AllowsModel reports whether the key may use the model. The empty model, of
// a request that names none, is matched like any other name. It allocates
// nothing.
func (r *Record) AllowsModel(model []byte) bool {
	return matchesAny(r.Models, model)
}

// matchesAny reports whether a glob matches; no globs match everything.
func matchesAny(globs []string, s []byte) bool {
	for _, pattern := range globs {
		if configs.MatchGlobBytes(pattern, s) {
			return true
		}
	}
	return len(globs) == 0
}

// state says in one word what a lookup at now would say.
func (r *Record) state(now time.Time) string {
	switch {
	case !r.Revoked.IsZero():
		return "revoked"
	case r.Disabled:
		return "disabled"
	case !r.Expires.IsZero() && now.Unix() >= r.Expires.Unix():
		return "expired"
	}
	return "active"
}

// wellFormed reports whether s is [A-Za-z0-9._-]{1,64}: the form of tenants
// and ids.
func wellFormed[T string | []byte](s T) bool {
	if len(s) == 0 || len(s) > maxNameLength {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
