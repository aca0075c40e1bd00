package pool

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"time"

	"streamrelay/configs"
)

// dialer makes connections to one upstream: name resolution, TCP over both
// address families and the TLS handshake share one deadline.
type dialer struct {
	addr    string // host:port
	timeout time.Duration
	tls     *tls.Config // nil: plain
}

func newDialer(host, port string, useTLS bool, cfg *configs.Upstream) (*dialer, error) {
	d := &dialer{addr: net.JoinHostPort(host, port), timeout: cfg.Timeouts.Connect}
	if !useTLS {
		return d, nil
	}
	d.tls = &tls.Config{
		ServerName:         host,
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(64),
		NextProtos:         []string{"http/1.1"},
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file of upstream %q: %w", cfg.Name, err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %q of upstream %q holds no PEM certificate", cfg.CAFile, cfg.Name)
		}
		d.tls.RootCAs = roots
	}
	return d, nil
}

// dialled is what became of an attempt to connect.
type dialled struct {
	conn *Conn
	err  error
}

// connect makes a connection; it blocks for no longer than the connect
// deadline.
func (d *dialer) connect(u *Upstream, buffers *Buffers) dialled {
	ctx := context.Background()
	if d.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.timeout)
		defer cancel()
	}
	// The zero Dialer races both families (RFC 8305) and sets keep-alive.
	var nd net.Dialer
	nc, err := nd.DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return dialled{err: err}
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		_ = nc.Close()
		return dialled{err: fmt.Errorf("dial %s: not a tcp connection but %T", d.addr, nc)}
	}
	c := &Conn{Conn: tcp, owner: u, buffers: buffers}
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
			return dialled{err: fmt.Errorf("tls handshake with %s: %w", d.addr, err)}
		}
		c.Conn, c.tls, c.more = over, true, true
	}
	return dialled{conn: c}
}
