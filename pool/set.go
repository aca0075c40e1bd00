package pool

import (
	"context"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"streamrelay/configs"
)

// Set is the upstreams of one configuration. Make it with NewSet, end it with
// Close.
type Set struct {
	Upstreams []*Upstream // in the configuration's order

	named map[int][]string // Upstream.Named by Index, also of those that are gone
}

// NewSet builds the upstreams; those with a health check begin to be checked,
// the others connect to nothing yet. index is each upstream's Index, nil: its
// place. An upstream that before has alike is taken over as it is, with its
// connections and its state; of accounts that stay, so do their rests.
// onChange is told of each change of state, from whatever goroutine saw it,
// and must not block; nil: nobody is told. ctx outlasts the set: once it is
// done nothing connects any more, not even what was about to.
func NewSet(ctx context.Context, cfg []configs.Upstream, index []int, before *Set, buffers *Buffers, onChange func(Change)) (*Set, error) {
	s := &Set{named: make(map[int][]string)}
	accounts := make(map[[2]string]*Account)
	if before != nil {
		maps.Copy(s.named, before.named)
		for _, u := range before.Upstreams {
			for _, c := range u.Credentials {
				accounts[c.at()] = c.account
			}
		}
	}
	for i := range cfg {
		place := i
		if index != nil {
			place = index[i]
		}
		if u := before.alike(&cfg[i], place); u != nil {
			s.Upstreams = append(s.Upstreams, u)
			continue
		}
		u, err := newUpstream(ctx, place, &cfg[i], s.named[place], buffers, onChange)
		if err != nil {
			s.CloseBut(before)
			return nil, err
		}
		s.Upstreams = append(s.Upstreams, u)
		s.named[place] = u.Named
		for _, c := range u.Credentials {
			if known := accounts[c.at()]; known != nil {
				c.account = known
			}
			accounts[c.at()] = c.account
		}
	}
	return s, nil
}

// alike returns the upstream of s that is what cfg describes, its files included;
// nil: none is.
func (s *Set) alike(cfg *configs.Upstream, index int) *Upstream {
	if s == nil {
		return nil
	}
	for _, u := range s.Upstreams {
		if u.Index == index && reflect.DeepEqual(u.cfg, *cfg) && u.files == stampOf(cfg) {
			return u
		}
	}
	return nil
}

// stampOf tells one version of an upstream's certificates and keys from another.
func stampOf(cfg *configs.Upstream) string {
	var s strings.Builder
	for _, name := range []string{cfg.CAFile, cfg.CertFile, cfg.KeyFile} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			fmt.Fprintln(&s, name, info.ModTime().UnixNano(), info.Size())
		}
	}
	return s.String()
}

// at is what tells one account from another: the host, with its port, however
// they are written, and the credential.
func (c *Credential) at() [2]string {
	host := strings.ToLower(c.Upstream.dialer.addr)
	if c.value == "" { // nobody knows what tells its accounts apart
		return [2]string{host + c.Upstream.Path, ""}
	}
	return [2]string{host, c.value}
}

// Close ends the health checks and closes the connections that nobody uses.
func (s *Set) Close() { s.CloseBut(nil) }

// CloseBut is Close, except for the upstreams that live on in other.
func (s *Set) CloseBut(other *Set) {
	for _, u := range s.Upstreams {
		if other == nil || !slices.Contains(other.Upstreams, u) {
			u.close()
		}
	}
}
