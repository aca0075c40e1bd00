package proxy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"streamrelay/configs"
	"streamrelay/pool"
)

// routing is where requests may go: the upstreams and routes of one
// configuration. Immutable; an exchange keeps the one that it began with.
type routing struct {
	upstreams []*pool.Upstream
	byDialect [len(dialectNames)]candidates
	routes    []route
}

// candidates are upstreams of equal rank, each as often as its weight says.
type candidates []*pool.Upstream

type route struct {
	models    []string
	byDialect [len(dialectNames)]candidates
	rewrite   map[string][]byte
}

func newRouting(cfg *configs.Config, buffers *pool.Buffers) (*routing, error) {
	r := &routing{}
	for i := range cfg.Upstreams {
		u, err := pool.NewUpstream(i, &cfg.Upstreams[i], buffers)
		if err != nil {
			return nil, err
		}
		r.upstreams = append(r.upstreams, u)
	}
	r.byDialect = ranked(r.upstreams)
	for i := range cfg.Routes {
		c := &cfg.Routes[i]
		var ups []*pool.Upstream
		for _, name := range c.Upstreams {
			j := slices.IndexFunc(r.upstreams, func(u *pool.Upstream) bool { return u.Name == name })
			if j < 0 {
				return nil, fmt.Errorf("route %d names the unknown upstream %q", i+1, name)
			}
			ups = append(ups, r.upstreams[j])
		}
		rewrite := make(map[string][]byte, len(c.RewriteModel))
		for alias, name := range c.RewriteModel {
			rewrite[alias] = []byte(name)
		}
		r.routes = append(r.routes, route{models: c.Models, byDialect: ranked(ups), rewrite: rewrite})
	}
	return r, nil
}

// ranked sorts upstreams by the dialect that they serve and keeps those of the
// lowest priority number.
func ranked(ups []*pool.Upstream) (by [len(dialectNames)]candidates) {
	for d := range by {
		best := 0
		for _, u := range ups {
			if !serves(u, dialect(d)) || len(by[d]) > 0 && u.Priority > best {
				continue
			}
			if len(by[d]) > 0 && u.Priority < best {
				by[d] = nil
			}
			best = u.Priority
			for range max(u.Weight, 1) {
				by[d] = append(by[d], u)
			}
		}
	}
	return by
}

// serves reports whether u answers paths of dialect d: its own, and OpenAI's
// where its base URL names an OpenAI-compatible surface (Azure's
// /openai/v1, Gemini's /v1beta/openai).
func serves(u *pool.Upstream, d dialect) bool {
	openAISurface := u.Dialect == configs.Azure && strings.HasSuffix(u.Path, "/v1") ||
		u.Dialect == configs.Gemini && strings.HasSuffix(u.Path, "/openai")
	if d == dialectOpenAI && openAISurface {
		return true
	}
	return u.Dialect == dialectNames[d] && !openAISurface
}

// presents is the dialect in which u's credential is presented.
func presents(u *pool.Upstream) configs.Dialect {
	if u.Dialect == configs.Gemini && strings.HasSuffix(u.Path, "/openai") {
		return configs.OpenAI
	}
	return u.Dialect
}

// choose finds the upstream for a model; alias is the name that replaces the
// model's, nil for none. model is empty where the request names none: then only
// a route for every model matches.
func (r *routing) choose(d dialect, model []byte) (u *pool.Upstream, alias []byte, e *apiError) {
	list := r.byDialect[d]
	if len(list) == 0 {
		return nil, nil, errNoUpstream
	}
	if len(r.routes) > 0 {
		i := slices.IndexFunc(r.routes, func(rt route) bool { return len(rt.byDialect[d]) > 0 && rt.matches(model) })
		if i < 0 {
			return nil, nil, errModelNotFound
		}
		list = r.routes[i].byDialect[d]
		alias = r.routes[i].rewrite[string(model)]
	}
	return list[rand.IntN(len(list))], alias, nil
}

func (rt *route) matches(model []byte) bool {
	for _, glob := range rt.models {
		if configs.MatchGlobBytes(glob, model) {
			return true
		}
	}
	return false
}

// close closes the connections that nobody uses.
func (r *routing) close() {
	for _, u := range r.upstreams {
		u.CloseIdle()
	}
}

// any returns an upstream for what belongs to no model.
func (r *routing) any(d dialect) (*pool.Upstream, *apiError) {
	if len(r.byDialect[d]) == 0 {
		return nil, errNoUpstream
	}
	return r.byDialect[d][0], nil
}
