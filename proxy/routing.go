package proxy

import (
	"context"
	"fmt"
	"slices"

	"streamrelay/configs"
	"streamrelay/pool"
)

// routing is where requests may go: the upstreams and routes of one
// configuration. Immutable; an exchange keeps the one that it began with.
type routing struct {
	set       *pool.Set
	byDialect [len(dialectNames)]*pool.Candidates // nil: nobody speaks it
	retry     policy                              // of what no route names
	routes    []route
	byModel   bool // what a model is called matters to a route
}

// route is one of the configuration's routes.
type route struct {
	models    []string
	tenants   []string
	dialects  [len(dialectNames)]bool
	byDialect [len(dialectNames)]*pool.Candidates
	rewrite   map[string][]byte
	retry     policy
}

// destination is where one request may go.
type destination struct {
	candidates *pool.Candidates
	retry      *policy
	alias      []byte // the name that replaces the model's; nil: none
}

// newRouting builds the routing of cfg. index is each upstream's number in the
// telemetry; what before has alike is taken over. ctx is pool.NewSet's.
func newRouting(ctx context.Context, cfg *configs.Config, index []int, before *routing, buffers *pool.Buffers, onChange func(pool.Change)) (*routing, error) {
	var known *pool.Set
	if before != nil {
		known = before.set
	}
	set, err := pool.NewSet(ctx, cfg.Upstreams, index, known, buffers, onChange)
	if err != nil {
		return nil, err
	}
	r := &routing{set: set, byDialect: byDialect(set.Upstreams), retry: newPolicy(&cfg.Retry)}
	for i := range cfg.Routes {
		c := &cfg.Routes[i]
		var ups []*pool.Upstream
		for _, name := range c.Upstreams {
			j := slices.IndexFunc(set.Upstreams, func(u *pool.Upstream) bool { return u.Name == name })
			if j < 0 {
				set.CloseBut(known)
				return nil, fmt.Errorf("route %d names the unknown upstream %q", i+1, name)
			}
			ups = append(ups, set.Upstreams[j])
		}
		rt := route{models: c.Models, tenants: c.Tenants, byDialect: byDialect(ups), rewrite: make(map[string][]byte, len(c.RewriteModel)), retry: newPolicy(&c.Retry)}
		for d, name := range dialectNames {
			rt.dialects[d] = len(c.Dialects) == 0 || slices.Contains(c.Dialects, name)
		}
		r.byModel = r.byModel || len(c.RewriteModel) > 0 || !slices.Equal(c.Models, []string{"*"})
		for alias, name := range c.RewriteModel {
			rt.rewrite[alias] = []byte(name)
		}
		r.routes = append(r.routes, rt)
	}
	return r, nil
}

// byDialect makes candidates of the upstreams that serve each dialect.
func byDialect(ups []*pool.Upstream) (by [len(dialectNames)]*pool.Candidates) {
	for d := range by {
		var some []*pool.Upstream
		for _, u := range ups {
			if serves(u, dialect(d)) {
				some = append(some, u)
			}
		}
		if len(some) > 0 {
			by[d] = pool.NewCandidates(some)
		}
	}
	return by
}

// serves reports whether u answers paths of dialect d: its own, and OpenAI's
// where its base URL names an OpenAI-compatible surface.
func serves(u *pool.Upstream, d dialect) bool {
	if u.OpenAISurface() {
		return d == dialectOpenAI
	}
	return u.Dialect == dialectNames[d]
}

// choose finds where a request of tenant for a model may go. model is empty
// where the request names none: then only a route for every model matches.
func (r *routing) choose(d dialect, tenant, model []byte) (to destination, e *apiError) {
	if r.byDialect[d] == nil {
		return to, errNoUpstream
	}
	if len(r.routes) == 0 {
		return destination{candidates: r.byDialect[d], retry: &r.retry}, nil
	}
	for i := range r.routes {
		if rt := &r.routes[i]; rt.open(d, tenant) && matchesAny(rt.models, model) {
			return destination{rt.byDialect[d], &rt.retry, rt.rewrite[string(model)]}, nil
		}
	}
	return to, errModelNotFound
}

// any is choose for what belongs to no model, where no route is for every
// model: all that the tenant's first route leads to.
func (r *routing) any(d dialect, tenant []byte) (to destination, e *apiError) {
	for i := range r.routes {
		if rt := &r.routes[i]; rt.open(d, tenant) {
			return destination{candidates: rt.byDialect[d], retry: &rt.retry}, nil
		}
	}
	return to, errModelNotFound
}

// leadingTo finds the first route open to the tenant that leads to an account,
// and whom it leads to there: nil where none does. A nil account is nobody's.
func (r *routing) leadingTo(d dialect, tenant []byte, account *pool.Account) (to destination, c *pool.Credential) {
	if account == nil {
		return to, nil
	}
	if len(r.routes) == 0 {
		return destination{candidates: r.byDialect[d], retry: &r.retry}, r.byDialect[d].Of(account)
	}
	for i := range r.routes {
		rt := &r.routes[i]
		if !rt.open(d, tenant) {
			continue
		}
		if c := rt.byDialect[d].Of(account); c != nil {
			return destination{candidates: rt.byDialect[d], retry: &rt.retry}, c
		}
	}
	return to, nil
}

// oneAccount reports whether all that is open to the tenant is one account.
func (r *routing) oneAccount(d dialect, tenant []byte) bool {
	if len(r.routes) == 0 {
		return r.byDialect[d].Accounts() == 1
	}
	var first pool.Tried
	for i := range r.routes {
		rt := &r.routes[i]
		if !rt.open(d, tenant) {
			continue
		}
		c := rt.byDialect[d]
		if first != (pool.Tried{}) && !first.Has(c.First()) || c.Accounts() > 1 {
			return false
		}
		first.Add(c.First())
	}
	return true
}

// open reports whether requests of a dialect and tenant may take the route.
func (rt *route) open(d dialect, tenant []byte) bool {
	return rt.dialects[d] && rt.byDialect[d] != nil && (len(rt.tenants) == 0 || matchesAny(rt.tenants, tenant))
}

func matchesAny(globs []string, s []byte) bool {
	for _, glob := range globs {
		if configs.MatchGlobBytes(glob, s) {
			return true
		}
	}
	return false
}
