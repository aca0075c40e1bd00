package simulate

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Options say how a Provider answers. The zero value answers at once with 64
// events.
type Options struct {
	Profile Profile     // for requests without X-Simulate; zero Events, Size and Prompt mean 64, 220 and 7
	Key     string      // the only credential taken; "": any, but there must be one
	TLS     *tls.Config // nil: plain HTTP
	Trace   Trace       // what Traced answers take their times from, in turns
}

// Provider is a simulated provider. Start may be called once; all other methods
// may be called at any time from any goroutine.
type Provider struct {
	options Options
	stats   counters
	pacer   *pacer
	closing atomic.Bool
	frozen  atomic.Int64 // until when nothing is sent: Now
	traced  atomic.Int64 // answers that took a line of the trace

	mu       sync.Mutex // protects listener and conns
	listener *net.TCPListener
	conns    map[*conn]struct{}
	wg       sync.WaitGroup
}

// New returns a provider that does not listen yet.
func New(options Options) (*Provider, error) {
	options.Profile = options.Profile.withDefaults()
	p := &options.Profile
	if err := p.check(); err != nil {
		return nil, usageError{err}
	}
	return &Provider{
		options: options,
		stats:   counters{routes: newRouteCounters(), cancels: map[string]int64{}, credentials: map[string]*credential{}},
		conns:   map[*conn]struct{}{},
		pacer:   newPacer(),
	}, nil
}

// Start listens on a TCP address (port 0 picks a free one), serves in the
// background and returns the address it got.
func (p *Provider) Start(listen string) (addr string, err error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return "", fmt.Errorf("listen on %q: %w", listen, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil || p.closing.Load() {
		l.Close()
		return "", errors.New("simulated provider was started before")
	}
	p.listener = l.(*net.TCPListener)
	p.wg.Add(2)
	go p.accept(p.listener)
	go func() {
		defer p.wg.Done()
		p.pacer.run()
	}()
	return l.Addr().String(), nil
}

// Freeze sends nothing for d from now on, as a provider that is stopped for
// garbage collection or starved of CPU would; connections are still accepted.
func (p *Provider) Freeze(d time.Duration) { p.frozen.Store(Now() + int64(d)) }

// Close stops listening, breaks every connection and returns when all
// goroutines have ended.
func (p *Provider) Close() error {
	if !p.closing.Swap(true) {
		close(p.pacer.closed)
	}
	p.mu.Lock()
	if p.listener != nil {
		p.listener.Close()
	}
	for c := range p.conns {
		c.raw.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return nil
}

func (p *Provider) accept(l *net.TCPListener) {
	defer p.wg.Done()
	for {
		raw, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, most likely: some will come back.
			time.Sleep(5 * time.Millisecond)
			continue
		}
		c := newConn(p, raw)
		p.mu.Lock()
		if p.closing.Load() {
			p.mu.Unlock()
			raw.Close()
			return
		}
		p.conns[c] = struct{}{}
		p.wg.Add(1)
		p.mu.Unlock()
		p.stats.connections.Add(1)
		p.stats.connected.Add(1)
		go p.serve(c)
	}
}

func (p *Provider) serve(c *conn) {
	defer p.wg.Done()
	c.serve()
	c.nc.Close()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	p.stats.connected.Add(-1)
}
