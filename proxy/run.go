package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"streamrelay/auth"
	"streamrelay/configs"
	"streamrelay/telemetry"
	"streamrelay/telemetry/live"
	"streamrelay/telemetry/requestlog"
)

// process is a relay with its listeners: what `serve` and `demo` run.
type process struct {
	srv    *Server
	admin  *admin // nil: none
	public net.Listener
	super  *supervisor
	log    *telemetry.Log
	tel    *telemetry.Telemetry
	rows   *requestlog.Recorder // nil: no request log
	live   *live.Live           // the admin listener's page; nil: there is none
	keys   *auth.Store          // nil: they are fixed

	inserted atomic.Pointer[telemetry.Histogram]

	path   string // the configuration's file; "": there is none to read again
	reload sync.Mutex
}

// keyring is where keys are looked up.
type keyring struct {
	table *auth.Table
	store *auth.Store // with limits and states of its own; nil: the table alone
	times *redisTimes // of store
}

// closeRows is how long rows under way to ClickHouse are waited for at the end.
// What is not there by then is in files, and goes with the next start.
const closeRows = 5 * time.Second

// newProcess builds a relay for cfg and opens its listeners, so that whoever
// gets it knows its addresses.
func newProcess(cfg *configs.Config, keys keyring, log *telemetry.Log, b Build) (_ *process, err error) {
	names := make([]string, len(cfg.Upstreams))
	for i, u := range cfg.Upstreams {
		names[i] = u.Name
	}
	p := &process{log: log, keys: keys.store}
	if requestlog.Enabled(cfg) {
		o := requestlog.FromConfig(cfg)
		o.Endpoints, o.Log, o.Inserted = EndpointNames(), log.Zerolog(), func(d time.Duration) { p.inserted.Load().Observe(d) }
		p.rows = requestlog.New(o)
	}
	if cfg.Admin.Listen != "" {
		p.live = live.New(live.Options{Version: b.Version, Revision: b.Revision, Endpoints: EndpointNames()})
	}
	tel := telemetry.New(telemetry.Options{
		Version: b.Version, Revision: b.Revision,
		Endpoints: EndpointNames(), Upstreams: names, Models: modelNames(cfg),
		Access: cfg.Log.Access, Log: log, Sink: sinks(p.rows, p.live),
	})
	p.tel = tel
	p.inserted.Store(tel.Histogram("relay_log_flush_duration_seconds", "", "How long ClickHouse took to acknowledge a block.", slow...))
	if p.rows != nil {
		p.rows.Publish(tel)
	}
	p.showHash(cfg)
	if p.super, err = newSupervisor(log); err != nil {
		p.closeLog()
		return nil, err
	}
	o := Options{Config: cfg, Keys: keys.table, Telemetry: tel, Log: log, Registered: registered(p.rows, p.live)}
	if keys.store != nil {
		o.Admit, o.Ready = keys.store.Admit, keysReady(keys.store)
	}
	if p.srv, err = New(o); err != nil {
		p.closeLog()
		return nil, err
	}
	var api http.Handler
	if keys.store != nil {
		publishKeys(tel, keys)
		api = keys.store.API()
		keys.store.OnEnd(p.srv.EndRevoked)
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.public = p.super.listener("public"); p.public == nil {
		if p.public, err = listen(cfg.Listen); err != nil {
			return nil, &listenError{"listen", err}
		}
	}
	if p.live != nil {
		p.live.Start(p.liveSources(keys.store))
		if p.admin, err = newAdmin(cfg.Admin, p, api); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// modelNames lists the models that the configuration names; globs are left out
// by telemetry.
func modelNames(cfg *configs.Config) (names []string) {
	for _, r := range cfg.Routes {
		names = append(names, r.Models...)
		for alias := range r.RewriteModel {
			names = append(names, alias)
		}
	}
	for name := range cfg.Prices {
		names = append(names, name)
	}
	return names
}

// close frees what newProcess opened and nobody serves.
func (p *process) close() {
	if p.public != nil {
		_ = p.public.Close()
	}
	p.closeAdmin()
	p.srv.settings.Load().routing.set.Close()
	p.srv.watcher.close()
	p.closeLog()
}

// closeAdmin ends the admin listener and whoever looks at its page.
func (p *process) closeAdmin() {
	if p.admin != nil {
		p.admin.close()
	}
	if p.live != nil {
		p.live.Close()
	}
}

// closeLog ends the request log, once no exchange is under way.
func (p *process) closeLog() {
	if p.rows == nil {
		return
	}
	if err := p.rows.Close(closeRows); err != nil {
		p.log.Error().Err(err).Msg("request log")
	}
}

// run serves until ctx is done, then drains; force, when it closes, ends the
// draining at once. Each value of hup is a reload.
func (p *process) run(ctx context.Context, force <-chan struct{}, hup <-chan os.Signal) error {
	failed := make(chan error, 2)
	go func() { failed <- p.srv.Serve(p.public) }()
	if p.admin != nil {
		go func() { failed <- p.admin.serve() }()
	}
	beats, stop := context.WithCancel(context.Background())
	defer stop()
	go p.super.watchdog(beats, p.srv.probe)
	p.super.ready("serving")
	var err error
	for serving := true; serving; {
		select {
		case <-hup:
			// It may wait for stores, and SIGTERM must not wait for it.
			go func() { _ = p.reloadFile() }() // said in the log
		case <-ctx.Done():
			serving = false
		case err = <-failed:
			serving = false
		}
	}
	return errors.Join(err, p.drain(force))
}

// drain ends what is under way: lame duck, then the streams.
func (p *process) drain(force <-chan struct{}) error {
	cfg := p.srv.Config().Shutdown
	ctx, cancel := context.WithTimeout(context.Background(), cfg.LameDuck+cfg.DrainTimeout)
	defer cancel()
	go func() {
		select {
		case <-force:
			cancel()
		case <-ctx.Done():
		}
	}()
	go p.super.drainingUntil(ctx, p.tel.InFlight.Load)
	if n := p.tel.InFlight.Load(); n > 0 {
		p.log.Info().Int64("exchanges", n).Float64("at_most_s", (cfg.LameDuck + cfg.DrainTimeout).Seconds()).Msg("draining; a second signal ends it")
	}
	p.srv.LameDuck(ctx, cfg.LameDuck)
	err := p.srv.Shutdown(ctx)
	p.closeAdmin()
	p.closeLog()
	return err
}

// reloadFile reads the configuration again and puts it in force, all of it or
// nothing.
func (p *process) reloadFile() (err error) {
	p.reload.Lock()
	defer p.reload.Unlock()
	p.super.reloading()
	defer func() {
		p.tel.Reloaded(err == nil)
		if p.live != nil {
			p.live.Reloaded(err)
		}
		if err != nil {
			p.log.Error().Err(err).Msg("reload refused; the configuration of before stays")
			p.super.ready("serving; the last reload was refused")
			return
		}
		p.log.Info().Msg("reloaded")
		p.super.ready("serving")
	}()
	if p.path == "" {
		return errors.New("there is no configuration file to read again")
	}
	cfg, warnings, err := configs.Load(p.path, nil)
	if err != nil {
		return err
	}
	logWarnings(p.log, warnings)
	return p.apply(cfg)
}

// apply puts cfg in force in all that a reload changes, or in nothing: what can
// fail comes first.
func (p *process) apply(cfg *configs.Config) error {
	var keys *auth.Change
	if p.keys != nil {
		var err error
		if keys, err = p.keys.Prepare(auth.Options{Keys: cfg.Keys, Redis: cfg.Redis, Prices: cfg.Prices}); err != nil {
			return fmt.Errorf("open the keys: %w", err)
		}
	}
	if err := p.srv.Reload(cfg); err != nil {
		if keys != nil {
			keys.Discard()
		}
		return err
	}
	if keys != nil {
		keys.Apply()
	}
	if p.admin != nil {
		p.admin.setToken(cfg.Admin)
	}
	p.showHash(cfg)
	if p.rows == nil {
		return nil
	}
	return p.rows.Reconfigure(cfg) // what it could refuse, srv.Reload has refused
}

// showHash lets relays be compared by their configurations, without secrets.
func (p *process) showHash(cfg *configs.Config) {
	var text bytes.Buffer
	if cfg.Print(&text) == nil {
		p.tel.ConfigHash(text.Bytes())
	}
}

// listenError says that an address of the configuration cannot be listened on.
type listenError struct {
	key string
	err error
}

func (e *listenError) Error() string {
	text := fmt.Sprintf("open %s: %v", e.key, e.err)
	if errors.Is(e.err, syscall.EADDRINUSE) {
		text += ": end the process that listens there (`ss -ltnp` names it), or change " + e.key
	}
	return text
}
func (e *listenError) Unwrap() error { return e.err }

// listen opens host:port or unix:/path. A socket file that nobody serves any
// more is replaced.
func listen(at string) (net.Listener, error) {
	path, unix := strings.CutPrefix(at, "unix:")
	if !unix {
		return net.Listen("tcp", at)
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("listen on %s: another process serves it", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace socket: %w", err)
		}
	}
	return net.Listen("unix", path)
}
