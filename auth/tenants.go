package auth

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"streamrelay/auth/limits"
)

// tenants are the tenants that have limits. Reading takes no lock.
type tenants struct {
	limiter *limits.Limiter
	cur     atomic.Pointer[map[string]*tenantEntry]
	mu      sync.Mutex // held by writers; protects order
	order   int64      // grows with each change
}

type tenantEntry struct {
	tenant  *Tenant
	account *limits.Account
}

func newTenants(l *limits.Limiter) *tenants {
	t := &tenants{limiter: l}
	t.cur.Store(&map[string]*tenantEntry{})
	return t
}

// account returns the account of a tenant; nil: it has no limits.
func (t *tenants) account(name []byte) *limits.Account {
	if e := (*t.cur.Load())[string(name)]; e != nil {
		return e.account
	}
	return nil
}

func (t *tenants) entryLocked(of *Tenant) *tenantEntry {
	t.order++
	return &tenantEntry{of, t.limiter.Account(tenantSubject+of.Name, of.Limits, t.order)}
}

// freeLocked takes the limits away, for requests under way, too.
func (t *tenants) freeLocked(name string) {
	t.order++
	t.limiter.Account(tenantSubject+name, limits.Limits{}, t.order)
}

// set gives a tenant its limits, nil none, and reports whether that is new. An
// older version than the one there is not taken.
func (t *tenants) set(name string, of *Tenant) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := (*t.cur.Load())[name]
	switch {
	case of == nil && old == nil, of != nil && old != nil && (*of == *old.tenant || of.Version < old.tenant.Version):
		return false
	}
	next := maps.Clone(*t.cur.Load())
	if of == nil {
		delete(next, name)
		t.freeLocked(name)
	} else {
		next[name] = t.entryLocked(of)
	}
	t.cur.Store(&next)
	return true
}

// replace makes list all tenants that there are.
func (t *tenants) replace(list []*Tenant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := make(map[string]*tenantEntry, len(list))
	for _, of := range list {
		next[of.Name] = t.entryLocked(of)
	}
	for name := range *t.cur.Load() {
		if next[name] == nil {
			t.freeLocked(name)
		}
	}
	t.cur.Store(&next)
}

// list returns the tenants by name.
func (t *tenants) list() []*Tenant {
	var list []*Tenant
	for _, e := range *t.cur.Load() {
		list = append(list, e.tenant)
	}
	slices.SortFunc(list, func(a, b *Tenant) int { return strings.Compare(a.Name, b.Name) })
	return list
}
