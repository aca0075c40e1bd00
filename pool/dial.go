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

// connect dials and wraps; it blocks for no longer than the connect deadline.
func (d *dialer) connect(u *Upstream, buffers *Buffers) dialled {
	nc, sock, err := d.dial()
	if err != nil {
		return dialled{err: err}
	}
	c, err := newConn(nc, sock, u, buffers)
	if err != nil {
		_ = nc.Close()
		return dialled{err: fmt.Errorf("use the connection to %s: %w", d.addr, err)}
	}
	return dialled{conn: c}
}

// dial returns the connection and the TCP socket under it.
func (d *dialer) dial() (net.Conn, *net.TCPConn, error) {
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
		return nil, nil, err
	}
	sock, ok := nc.(*net.TCPConn)
	if !ok {
		_ = nc.Close()
		return nil, nil, fmt.Errorf("dial %s: not a tcp connection but %T", d.addr, nc)
	}
	if d.tls == nil {
		return nc, sock, nil
	}
	tc := tls.Client(nc, d.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, nil, fmt.Errorf("tls handshake with %s: %w", d.addr, err)
	}
	return tc, sock, nil
}
