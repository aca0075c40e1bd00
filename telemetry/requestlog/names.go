package requestlog

import (
	"maps"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"streamrelay/telemetry"
)

// other stands for what a client called a model and nobody else knows.
const other = "other"

// maxModels bounds the models that are known by being answered; what clients
// choose must not grow a column that is sorted and grouped by.
const maxModels = 1000

// Upstream is what a row says of an upstream.
type Upstream struct {
	Name        string
	Credentials []string // names, by Request.Credential
	// InputExcludesCache: the provider counts cached tokens beside the input
	// and not within it (Anthropic).
	InputExcludesCache bool
}

// names are the values that rows are made of and that the configuration knows.
type names struct {
	instance  string
	endpoints []string
	upstreams atomic.Pointer[[]Upstream] // immutable

	known atomic.Pointer[map[string]*model] // immutable maps
	mu    sync.Mutex                        // guards the storing into known
	room  int                               // of maxModels, guarded by mu
}

// model is one known model.
type model struct {
	name  string
	price *price // nil: unknown
}

func newNames(o *Options) *names {
	n := &names{instance: o.Instance, endpoints: o.Endpoints, room: maxModels}
	n.upstreams.Store(&o.Upstreams)
	known := make(map[string]*model, len(o.Models)+len(o.Prices))
	for _, name := range o.Models {
		known[name] = &model{name: name}
	}
	for name, p := range o.Prices {
		known[name] = &model{name, newPrice(p)}
	}
	n.known.Store(&known)
	return n
}

// model returns the model that r names, nil where it names none that is known.
// A name that an upstream has just answered with 2xx becomes known: a client
// cannot invent one.
func (n *names) model(r *telemetry.Request) *model {
	if len(r.Model) == 0 {
		return nil
	}
	if m := (*n.known.Load())[string(r.Model)]; m != nil {
		return m
	}
	if r.UpstreamStatus < 200 || r.UpstreamStatus > 299 || len(r.Model) > maxText || !utf8.Valid(r.Model) {
		return nil
	}
	return n.learn(string(r.Model))
}

func (n *names) learn(name string) *model {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := *n.known.Load()
	if m := old[name]; m != nil || n.room == 0 {
		return m
	}
	n.room--
	grown := make(map[string]*model, len(old)+1)
	maps.Copy(grown, old)
	m := &model{name: name}
	grown[name] = m
	n.known.Store(&grown)
	return m
}

func (n *names) endpoint(i int) string {
	if i < 0 || i >= len(n.endpoints) {
		return other
	}
	return n.endpoints[i]
}

// at returns what is known of an upstream, nothing where there is none.
func (n *names) at(upstream int) (u Upstream) {
	if list := *n.upstreams.Load(); upstream >= 0 && upstream < len(list) {
		u = list[upstream]
	}
	return u
}

func (n *names) upstream(i int) string { return n.at(i).Name }

func (n *names) credential(upstream, i int) string {
	if u := n.at(upstream); i >= 0 && i < len(u.Credentials) {
		return u.Credentials[i]
	}
	return ""
}

func (n *names) excludesCache(upstream int) bool {
	return n.at(upstream).InputExcludesCache
}
