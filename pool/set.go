package pool

import (
	"net/url"

	"streamrelay/configs"
)

// Set is the upstreams of one configuration. Make it with NewSet, end it with
// Close.
type Set struct {
	Upstreams []*Upstream // in the configuration's order
}

// NewSet builds the upstreams; those with a health check begin to be checked,
// the others connect to nothing yet. onChange is told of each change of state,
// from whatever goroutine saw it, and must not block; nil: nobody is told.
func NewSet(cfg []configs.Upstream, buffers *Buffers, onChange func(Change)) (*Set, error) {
	s := &Set{}
	accounts := make(map[[2]string]*account)
	for i := range cfg {
		u, err := newUpstream(i, &cfg[i], buffers, onChange)
		if err != nil {
			s.Close()
			return nil, err
		}
		s.Upstreams = append(s.Upstreams, u)
		for _, c := range u.Credentials {
			at := [2]string{u.Host, c.value}
			if c.value == "" { // nobody knows what tells its accounts apart
				at[0] = (&url.URL{Host: u.Host, Path: u.Path}).String()
			}
			if known := accounts[at]; known != nil {
				c.account = known
			}
			accounts[at] = c.account
		}
	}
	return s, nil
}

// Close ends the health checks and closes the connections that nobody uses.
func (s *Set) Close() {
	for _, u := range s.Upstreams {
		u.close()
	}
}
