package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"streamrelay/configs"
)

// ErrHandshake is wrapped by what went wrong once TCP stood: TLS with the
// upstream, or with the forward proxy in between.
var ErrHandshake = errors.New("handshake")

// dialer makes connections to one upstream: name resolution, TCP over both
// address families, the forward proxy and the TLS handshake share one deadline.
type dialer struct {
	addr    string // host:port
	timeout time.Duration
	tls     *tls.Config // nil: plain
	proxy   *forward    // nil: none
	names   *names      // nil: the host is an address, or the proxy's business

	resolver *net.Resolver // nil: the system's
}

func newDialer(ctx context.Context, base *url.URL, cfg *configs.Upstream, running *sync.WaitGroup) (*dialer, error) {
	port := base.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[base.Scheme]
	}
	d := &dialer{addr: net.JoinHostPort(base.Hostname(), port), timeout: cfg.Timeouts.Connect}
	var err error
	if base.Scheme == "https" {
		if d.tls, err = clientTLS(base.Hostname(), cfg); err != nil {
			return nil, err
		}
	}
	if d.proxy, err = newForward(base, cfg); err != nil {
		return nil, err
	}
	if d.proxy == nil {
		d.names = newNames(ctx, base.Hostname(), cfg.DNSTTL, running)
	}
	return d, nil
}

// clientTLS is how the upstream cfg is spoken to over TLS.
func clientTLS(host string, cfg *configs.Upstream) (*tls.Config, error) {
	c := &tls.Config{
		ServerName:         host,
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(64),
		NextProtos:         []string{"http/1.1"},
		InsecureSkipVerify: cfg.SkipVerify, // warned about when the configuration is read
	}
	if cfg.CAFile != "" {
		roots, err := configs.CertPool(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file of upstream %q: %w", cfg.Name, err)
		}
		c.RootCAs = roots
	}
	if cfg.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load cert_file and key_file of upstream %q: %w", cfg.Name, err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// dialled is what became of an attempt to connect.
type dialled struct {
	conn *Conn
	err  error
}

// connect makes a connection; it blocks for no longer than the connect
// deadline, nor than ctx lets it.
func (d *dialer) connect(ctx context.Context, u *Upstream, buffers *Buffers) dialled {
	if d.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.timeout)
		defer cancel()
	}
	tcp, err := d.tunnel(ctx)
	if err != nil {
		return dialled{err: err}
	}
	c := &Conn{Conn: tcp, owner: u, buffers: buffers, dialled: Now()}
	c.pollFn = c.pollNow
	if err := c.socket.init(tcp, buffers); err != nil {
		_ = tcp.Close()
		return dialled{err: fmt.Errorf("use the connection to %s: %w", d.addr, err)}
	}
	if d.tls != nil {
		over := tls.Client(&c.socket, d.tls)
		if err := over.HandshakeContext(ctx); err != nil {
			_ = tcp.Close()
			c.socket.drop()
			return dialled{err: fmt.Errorf("tls %w with %s: %w", ErrHandshake, d.addr, err)}
		}
		c.Conn, c.tls, c.more = over, true, true
	}
	return dialled{conn: c}
}

// tunnel opens TCP to the upstream, by the forward proxy where there is one.
func (d *dialer) tunnel(ctx context.Context) (*net.TCPConn, error) {
	if d.proxy == nil {
		return d.dialTCP(ctx, d.addr)
	}
	tcp, err := d.dialTCP(ctx, d.proxy.addr)
	if err != nil {
		return nil, fmt.Errorf("reach the forward proxy: %w", err)
	}
	if err := d.proxy.open(ctx, tcp, d.addr); err != nil {
		_ = tcp.Close()
		return nil, err
	}
	return tcp, nil
}

// dialTCP races both address families (RFC 8305), as the zero Dialer does.
// Where the name cannot be resolved, addresses that it had lately serve on.
func (d *dialer) dialTCP(ctx context.Context, addr string) (*net.TCPConn, error) {
	nd := net.Dialer{Resolver: d.resolver}
	known := d.names.known()
	byName := ctx
	if at, ok := ctx.Deadline(); ok && len(known) > 0 {
		// A resolver that does not answer gets half of the time.
		var cancel context.CancelFunc
		byName, cancel = context.WithCancel(ctx)
		defer cancel()
		var resolved atomic.Bool
		byName = httptrace.WithClientTrace(byName, &httptrace.ClientTrace{DNSDone: func(httptrace.DNSDoneInfo) { resolved.Store(true) }})
		defer time.AfterFunc(time.Until(at)/2, func() {
			if !resolved.Load() {
				cancel()
			}
		}).Stop()
	}
	nc, err := nd.DialContext(byName, "tcp", addr)
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) && !dns.IsNotFound {
		_, port, _ := net.SplitHostPort(addr)
		for _, ip := range known {
			var late error
			if nc, late = nd.DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), port)); late == nil {
				err = nil
				break
			}
		}
	}
	if err != nil {
		return nil, err
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		_ = nc.Close()
		return nil, fmt.Errorf("dial %s: not a tcp connection but %T", addr, nc)
	}
	d.names.met(tcp)
	return tcp, nil
}
