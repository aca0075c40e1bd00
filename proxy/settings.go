package proxy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"streamrelay/auth"
	"streamrelay/configs"
	"streamrelay/telemetry/requestlog"
)

// settings are what a reload replaces. Immutable; an exchange keeps those that
// it began with.
type settings struct {
	cfg        *configs.Config
	limits     configs.Limits
	stream     configs.Stream
	endRevoked bool
	routing    *routing
}

// register tells who makes records which number each upstream has in them. Then
// the settings are put in force: nothing may fail between the two.
func (s *Server) register(set *settings) {
	if s.registered != nil {
		s.registered(set.routing.set)
	}
}

// newSettings builds what cfg says. Upstreams that previous has alike are
// taken over, with their connections and states.
func (s *Server) newSettings(cfg *configs.Config, previous *settings) (*settings, error) {
	names := make([]string, len(cfg.Upstreams))
	for i, u := range cfg.Upstreams {
		names[i] = u.Name
	}
	index := s.tel.Register(names, modelNames(cfg))
	set := &settings{
		cfg: cfg, limits: cfg.Limits, stream: cfg.Stream,
		endRevoked: cfg.Keys.EndStreamsOnRevoke,
	}
	var before *routing
	if previous != nil {
		before = previous.routing
	}
	var err error
	set.routing, err = newRouting(s.connecting, cfg, index, before, s.buffers, s.upstreamChanged)
	return set, err
}

// Reload puts cfg in force for the exchanges that begin from now on, all of it
// or nothing. The error says what is wrong with it, or which settings have
// changed that only a restart applies.
func (s *Server) Reload(cfg *configs.Config) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	before := s.settings.Load()
	if changed := needRestart(before.cfg, cfg); len(changed) > 0 {
		return fmt.Errorf("only a restart applies a change of %s: restart the relay, or take the change back", strings.Join(changed, ", "))
	}
	set, err := s.newSettings(cfg, before)
	if err != nil {
		return err
	}
	if s.cert != nil {
		if err := s.cert.load(cfg.TLS); err != nil {
			set.routing.set.CloseBut(before.routing.set)
			return err
		}
	}
	s.register(set)
	s.settings.Store(set)
	s.maxConns.Store(maxConns(&cfg.Limits))
	s.tel.SetAccess(cfg.Log.Access)
	s.publishUpstreams(set.routing)
	before.routing.set.CloseBut(set.routing.set)
	s.log.SetLevel(cfg.Log.Level)
	return nil
}

// Config is the configuration in force. It must not be changed.
func (s *Server) Config() *configs.Config { return s.settings.Load().cfg }

// needRestart lists the settings that differ between two configurations and
// that a reload does not apply: listeners, folders, what stands in the fasthttp
// server, and the kinds of stores.
func needRestart(a, b *configs.Config) (changed []string) {
	diff := func(path string, x, y any) {
		if !reflect.DeepEqual(x, y) {
			changed = append(changed, path)
		}
	}
	diff("listen", a.Listen, b.Listen)
	diff("tls", a.TLS.Enabled(), b.TLS.Enabled())
	diff("admin", a.Admin.Listen, b.Admin.Listen)
	diff("limits.max_header", a.Limits.MaxHeader, b.Limits.MaxHeader)
	diff("limits.header_timeout", a.Limits.HeaderTimeout, b.Limits.HeaderTimeout)
	diff("limits.keepalive_timeout", a.Limits.KeepaliveTimeout, b.Limits.KeepaliveTimeout)
	changed = append(changed, requestlog.NeedRestart(a, b)...)
	changed = append(changed, auth.NeedRestart(auth.Options{Keys: a.Keys, Redis: a.Redis}, auth.Options{Keys: b.Keys, Redis: b.Redis})...)
	slices.Sort(changed)
	return changed
}
