package auth

import (
	"math"
	"time"

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

	ID       string            // [A-Za-z0-9._-]{1,64}, unique within a store
	Name     string            // for people; unique within a store
	Tenants  []string          // the first is the default; AnyTenant: may name any
	Models   []string          // globs, * matches any run of characters; empty: every model
	Created  time.Time         // zero: not known
	Expires  time.Time         // zero: never
	Disabled bool              // refused; set by a revocation, too
	Revoked  time.Time         // when it was revoked; zero: it was not
	Metadata map[string]string // the operator's own; not read by the relay
}

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
	if len(r.Models) == 0 {
		return true
	}
	for _, pattern := range r.Models {
		if configs.MatchGlobBytes(pattern, model) {
			return true
		}
	}
	return false
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
