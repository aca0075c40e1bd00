package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/fasthttp/router"
	"github.com/valyala/fasthttp"

	"streamrelay/auth"
	"streamrelay/auth/limits"
	"streamrelay/configs"
	"streamrelay/pool"
	"streamrelay/proxy/watch"
	"streamrelay/telemetry"
)

// Options are what a Server is made of. All but the functions are needed.
type Options struct {
	Config *configs.Config
	Keys   *auth.Table
	// Admit decides by the limits of key and tenant, as auth.Store.Admit does.
	// Nil: nothing is limited.
	Admit     func(*limits.Grant, *auth.Record, []byte, *limits.Ask) (limits.Refusal, bool)
	Telemetry *telemetry.Telemetry
	Log       *telemetry.Log
	Ready     func() error // nil: ready as soon as it serves
	// Registered is told the upstreams, and so which numbers they and their
	// credentials have in records, before the first one of a configuration. Nil:
	// nobody needs to know.
	Registered func(*pool.Set)
}

// writeBuffer is fasthttp's, which each open stream keeps: enough for a head or
// an error. Bodies leave by the client connection's own, pooled one.
const writeBuffer = 1 << 10

// Server relays. Make it with New, serve listeners with Serve, end it with
// Shutdown.
type Server struct {
	keys       *auth.Table
	admission  func(*limits.Grant, *auth.Record, []byte, *limits.Ask) (limits.Refusal, bool) // nil: no limits
	tel        *telemetry.Telemetry
	log        *telemetry.Log
	ready      func() error
	registered func(*pool.Set) // nil: nobody needs to know
	tls        *tls.Config

	http    *fasthttp.Server
	buffers *pool.Buffers
	holds   watch.Holds
	watcher *watcher
	// settings are what a reload replaces.
	settings  atomic.Pointer[settings]
	reloading sync.Mutex // orders reloads, and protects published
	published map[series]bool
	cert      *certificate // nil: the public listener speaks no TLS

	budget        budget
	retriesDenied atomic.Int64 // for want of budget
	affinity      affinity
	owed          owed

	maxConns atomic.Int64
	open     atomic.Int64 // client connections
	// lingering and shedding bound what is done for clients on their way out.
	lingering, shedding atomic.Int64
	lame, draining      atomic.Bool
	leaving, stopping   chan struct{} // closed as lame and draining become true
	connecting          context.Context
	stopConnecting      context.CancelFunc // once exchanges are being broken
}

// New builds a server; it listens to nothing and connects to nothing yet.
func New(o Options) (*Server, error) {
	cfg := o.Config
	s := &Server{
		keys: o.Keys, admission: o.Admit, tel: o.Telemetry, log: o.Log, ready: o.Ready, registered: o.Registered,
		buffers: &pool.Buffers{}, leaving: make(chan struct{}), stopping: make(chan struct{}),
	}
	s.connecting, s.stopConnecting = context.WithCancel(context.Background())
	var err error
	if s.tls, err = s.publicTLS(cfg.TLS); err != nil {
		return nil, err
	}
	s.budget.fifths.Store(budgetFull)
	set, err := s.newSettings(cfg, nil)
	if err != nil {
		return nil, err
	}
	s.register(set)
	s.settings.Store(set)
	s.publishUpstreams(set.routing)
	s.maxConns.Store(maxConns(&cfg.Limits))
	s.publish()
	if s.watcher, err = newWatcher(); err != nil {
		set.routing.set.Close()
		return nil, err
	}
	s.http = &fasthttp.Server{
		Handler:        s.routes(cfg.Admin.Listen == ""),
		HeaderReceived: headerReceived,
		ErrorHandler:   s.httpError,
		ConnState:      connState,
		Logger:         o.Log.ServerLog(),

		Concurrency:     math.MaxInt32, // the listener bounds connections
		ReadBufferSize:  int(cfg.Limits.MaxHeader),
		WriteBufferSize: writeBuffer,
		ReadTimeout:     cfg.Limits.HeaderTimeout,
		IdleTimeout:     cfg.Limits.KeepaliveTimeout,
		CloseOnShutdown: true,

		NoDefaultServerHeader:         true,
		NoDefaultContentType:          true,
		DisableHeaderNamesNormalizing: false, // Expect is looked up by its canonical name
		SecureErrorLogMessage:         true,
		LazyRequestTime:               true,
	}
	return s, nil
}

// maxConns is how many client connections may be open.
func maxConns(l *configs.Limits) int64 {
	if l.MaxConnections > 0 {
		return int64(l.MaxConnections)
	}
	return defaultMaxConns()
}

// defaultMaxConns leaves two descriptors for each stream and a rest for files.
func defaultMaxConns() int64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	return max(int64(min(r.Cur, math.MaxInt32))*45/100, 16)
}

// routes returns the handler: fixed routes by the router, everything else, by
// its raw path, to relay. The router's own helpfulness is off, since it
// answers POSTs with a redirect and OPTIONS without a key.
func (s *Server) routes(metrics bool) fasthttp.RequestHandler {
	r := router.New()
	r.RedirectTrailingSlash = false
	r.RedirectFixedPath = false
	r.HandleMethodNotAllowed = false
	r.HandleOPTIONS = false
	r.GET(pathHealth, s.health)
	r.HEAD(pathHealth, s.health)
	r.GET(pathReady, s.readiness)
	r.HEAD(pathReady, s.readiness)
	if metrics {
		r.GET(pathMetrics, s.metrics)
	}
	r.NotFound = s.relay
	return s.handle(r.Handler)
}

// Serve accepts connections from ln until Shutdown; then it returns nil.
func (s *Server) Serve(ln net.Listener) error {
	l := &listener{Listener: ln, srv: s, tls: s.tls}
	if s.cert != nil {
		go s.watchCertificate()
	}
	go l.closeWhenLeaving()
	if err := s.http.Serve(l); err != nil {
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	}
	return nil
}

// now is the time in Unix nanoseconds, by the monotonic clock.
func (s *Server) now() int64 { return pool.Now() }
