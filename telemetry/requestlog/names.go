package requestlog

import (
	"strings"
	"unicode/utf8"

	"streamrelay/configs"
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
// They do not change: a reload makes others, and what was appended before it
// keeps those that it was appended under.
type names struct {
	instance  string
	endpoints []string
	upstreams []Upstream
	models    map[string]*model
}

// model is one known model.
type model struct {
	name  string
	price *price // nil: unknown
}

func newNames(o *Options) *names {
	n := &names{instance: o.Instance, endpoints: o.Endpoints, upstreams: o.Upstreams}
	n.setModels(o.Models, o.Prices)
	return n
}

func (n *names) setModels(known []string, prices map[string]configs.Price) {
	n.models = make(map[string]*model, len(known)+len(prices))
	for _, name := range known {
		n.models[name] = &model{name: name}
	}
	for name, p := range prices {
		n.models[name] = &model{name, newPrice(p)}
	}
}

// model returns the model that a request named, nil where it named none that is
// known. A name that an upstream has just answered with 2xx becomes known: a
// client cannot invent one.
func (f *filler) model(q *record, name string) *model {
	if name == "" {
		return nil
	}
	at := &f.recent[short(name)&(len(f.recent)-1)]
	if m := *at; m != nil && m.name == name {
		return m
	}
	m := f.names.models[name]
	if m == nil {
		m = f.learned[name]
	}
	if m == nil {
		if q.upstreamStatus < 200 || q.upstreamStatus > 299 || len(name) > maxText || len(f.learned) == maxModels || !utf8.ValidString(name) {
			return nil
		}
		m = &model{name: strings.Clone(name)}
		f.learned[m.name] = m
	}
	*at = m
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
	if upstream >= 0 && upstream < len(n.upstreams) {
		u = n.upstreams[upstream]
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
