package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fasthttp/router"
	"github.com/valyala/fasthttp"

	"streamrelay/auth"
	"streamrelay/auth/limits"
	"streamrelay/configs"
	"streamrelay/pool"
	"streamrelay/telemetry"
)

// Options are what a Server is made of. All but Admit and Ready are needed.
type Options struct {
	Config *configs.Config
	Keys   *auth.Table
	// Admit decides by the limits of key and tenant, as auth.Store.Admit does.
	// Nil: nothing is limited.
	Admit     func(*limits.Grant, *auth.Record, []byte, *limits.Ask) (limits.Refusal, bool)
	Telemetry *telemetry.Telemetry
	Log       *telemetry.Log
	Ready     func() error // nil: ready as soon as it serves
}

// writeBuffer is fasthttp's, which each open stream keeps: enough for a head or
// an error. Bodies leave by the client connection's own, pooled one.
const writeBuffer = 1 << 10

// Server relays. Make it with New, serve listeners with Serve, end it with
// Shutdown.
type Server struct {
	limits       configs.Limits
	stream       configs.Stream
	includeUsage bool
	keys         *auth.Table
	admission    func(*limits.Grant, *auth.Record, []byte, *limits.Ask) (limits.Refusal, bool) // nil: no limits
	endRevoked   bool
	tel          *telemetry.Telemetry
	log          *telemetry.Log
	ready        func() error
	tls          *tls.Config

	http    *fasthttp.Server
	buffers *pool.Buffers
	watcher *watcher
	routing atomic.Pointer[routing]

	budget        budget
	retriesDenied atomic.Int64 // for want of budget
	affinity      affinity

	maxConns int64
	open     atomic.Int64 // client connections
	// lingering and shedding bound what is done for clients on their way out.
	lingering, shedding atomic.Int64
	draining            atomic.Bool
	stopping            chan struct{}
}

// New builds a server; it listens to nothing and connects to nothing yet.
func New(o Options) (*Server, error) {
	cfg := o.Config
	s := &Server{
		limits: cfg.Limits, stream: cfg.Stream, includeUsage: cfg.Stream.IncludeUsage == "auto",
		keys: o.Keys, admission: o.Admit, endRevoked: cfg.Keys.EndStreamsOnRevoke, tel: o.Telemetry, log: o.Log, ready: o.Ready,
		buffers: &pool.Buffers{}, stopping: make(chan struct{}),
	}
	if cfg.TLS.Enabled() {
		cert, err := tls.LoadX509KeyPair(cfg.TLS.CertFile, cfg.TLS.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load tls.cert_file and tls.key_file: %w", err)
		}
		s.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	}
	s.budget.fifths.Store(budgetFull)
	r, err := newRouting(cfg, s.buffers, s.upstreamChanged)
	if err != nil {
		return nil, err
	}
	s.routing.Store(r)
	s.publishUpstreams(r)
	s.tel.Describe("relay_retries_denied_total", "Retries that were not made, since a fifth of the requests had been retried already.")
	s.tel.Gauge("relay_retries_denied_total", "", func() float64 { return float64(s.retriesDenied.Load()) })
	if s.maxConns = int64(cfg.Limits.MaxConnections); s.maxConns == 0 {
		s.maxConns = defaultMaxConns()
	}
	if s.watcher, err = newWatcher(); err != nil {
		r.set.Close()
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
	if err := s.http.Serve(&listener{Listener: ln, srv: s, tls: s.tls}); err != nil {
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	}
	return nil
}

// Shutdown stops accepting, closes idle connections, lets exchanges under way
// end until ctx is done, and then breaks the rest. Nothing of the server is
// left when it returns but what a broken connection's goroutine takes to
// notice.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.draining.Swap(true) {
		return nil
	}
	close(s.stopping)
	err := s.http.ShutdownWithContext(ctx)
	if err == nil { // which knows nothing of hijacked connections
		err = s.settle(ctx)
	}
	if ctx.Err() != nil {
		s.watcher.drain()
		last, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		err = s.settle(last)
	}
	s.routing.Load().set.Close()
	s.watcher.close()
	if err != nil {
		return fmt.Errorf("shut the server down: %w", err)
	}
	return nil
}

// settle waits for exchanges that were told to end; fasthttp's second Shutdown
// would not.
func (s *Server) settle(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.tel.InFlight.Load() > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d exchanges did not end", s.tel.InFlight.Load())
		case <-tick.C:
		}
	}
	return nil
}

// now is the time in Unix nanoseconds, by the monotonic clock.
func (s *Server) now() int64 { return pool.Now() }
