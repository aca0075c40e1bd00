package proxy

import (
	"strings"

	"streamrelay/auth"
	"streamrelay/configs"
	"streamrelay/pool"
	"streamrelay/telemetry"
	"streamrelay/telemetry/live"
	"streamrelay/telemetry/requestlog"
)

// sinks hands each finished exchange to the request log and to the admin
// listener's page, where there are such. Nil: there is neither.
func sinks(rows *requestlog.Recorder, page *live.Live) func(*telemetry.Request) {
	switch {
	case rows == nil && page == nil:
		return nil
	case page == nil:
		return rows.Append
	case rows == nil:
		return page.Observe
	}
	return func(r *telemetry.Request) {
		rows.Append(r)
		page.Observe(r)
	}
}

// registered tells both which numbers upstreams and credentials have in records.
func registered(rows *requestlog.Recorder, page *live.Live) func(*pool.Set) {
	return func(set *pool.Set) {
		var index []int
		var names []string
		var upstreams []requestlog.Upstream
		for _, u := range set.Upstreams {
			index, names = append(index, u.Index), append(names, u.Name)
			upstreams = append(upstreams, requestlog.Upstream{Name: u.Name, Credentials: u.Named, InputExcludesCache: u.Dialect == configs.Anthropic})
		}
		if rows != nil {
			rows.SetUpstreams(index, upstreams)
		}
		if page != nil {
			page.SetUpstreams(index, names)
		}
	}
}

// liveSources say what only the process knows. store nil: the keys are fixed.
func (p *process) liveSources(store *auth.Store) live.Sources {
	from := live.Sources{
		Levels: func() live.Levels {
			return live.Levels{Streams: p.tel.ActiveStreams.Load(), InFlight: p.tel.InFlight.Load(), Connections: p.tel.OpenConnections.Load()}
		},
		Ready: func() (bool, string) {
			status, text := p.srv.readyState()
			return status == 200, strings.TrimSpace(text)
		},
		Upstreams: p.srv.liveUpstreams,
		Log: func() live.RequestLog {
			out := live.RequestLog{Kind: "off", LinesLost: p.log.Dropped()}
			if p.rows == nil {
				return out
			}
			out.Kind = "files"
			if p.srv.Config().ClickHouse.Enabled() {
				out.Kind = "clickhouse"
			}
			s := p.rows.Stats()
			out.Appended, out.Sealed, out.Stored, out.Waiting = s.Appended, s.Sealed, s.Stored, s.Waiting
			out.Dropped, out.Quarantined, out.LastStored = s.Dropped, s.Quarantined, s.LastStored
			for _, shard := range s.Shards {
				out.Shards = append(out.Shards, live.Shard(shard))
			}
			return out
		},
	}
	if store != nil {
		from.Keys = func() live.Keys {
			h := store.Health()
			return live.Keys{
				Store: h.Store, Ready: h.Ready, Phase: h.Phase, Error: h.Error, Keys: h.Keys, Relays: h.Relays,
				StaleSeconds: h.Stale.Seconds(), LeftSeconds: h.Left.Seconds(), Calls: h.Calls, CallErrors: h.CallErrors,
			}
		}
	}
	return from
}

func (s *Server) liveUpstreams() (list []live.Upstream) {
	now := s.now()
	for _, u := range s.settings.Load().routing.set.Upstreams {
		st := u.Status(now)
		one := live.Upstream{
			Name: st.Name, Dialect: st.Dialect, Host: st.Host, State: string(st.State), ForSeconds: st.ForSeconds, Why: st.HealthCheck,
			Priority: st.Priority, Connections: st.Connections, Idle: st.Idle, InFlight: st.InFlight,
		}
		for _, c := range st.Credentials {
			one.Credentials = append(one.Credentials, live.Credential{Name: c.Name, State: string(c.State), ForSeconds: c.ForSeconds, InFlight: c.InFlight})
		}
		list = append(list, one)
	}
	return list
}
