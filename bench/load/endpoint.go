package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Endpoint is where requests go.
type Endpoint struct {
	URL      string `json:"url"` // http or https; without a path, /v1 is meant
	Key      string `json:"key"` // sent as a bearer token
	CAFile   string `json:"ca_file,omitempty"`
	Insecure bool   `json:"insecure,omitempty"` // any certificate will do
}

// endpoint is an Endpoint that was looked at.
type endpoint struct {
	Endpoint
	host     string // as sent
	addr     string // host:port
	path     string // before the API's own
	tls      *tls.Config
	loopback bool
}

func (e Endpoint) resolve() (*endpoint, error) {
	u, err := url.Parse(e.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("URL %q: want http://HOST:PORT or https://HOST, with or without /v1", e.URL)
	}
	if strings.ContainsAny(e.Key, "\r\n") {
		return nil, errors.New("the key has a line break in it")
	}
	r := &endpoint{Endpoint: e, host: u.Host, addr: u.Host, path: strings.TrimRight(u.EscapedPath(), "/")}
	if r.path == "" {
		r.path = "/v1"
	}
	if u.Port() == "" {
		r.addr = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	r.loopback = isLoopback(u.Hostname())
	if u.Scheme == "https" {
		r.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12, InsecureSkipVerify: e.Insecure, ClientSessionCache: tls.NewLRUClientSessionCache(64)}
		if e.CAFile != "" {
			pem, err := os.ReadFile(e.CAFile)
			if err != nil {
				return nil, fmt.Errorf("read the certificate authority: %w", err)
			}
			r.tls.RootCAs = x509.NewCertPool()
			if !r.tls.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("no certificate in %s", e.CAFile)
			}
		}
	}
	return r, nil
}

// Loopback reports whether the endpoint is on this machine, by its address
// alone.
func (e Endpoint) Loopback() bool {
	u, err := url.Parse(e.URL)
	return err == nil && isLoopback(u.Hostname())
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

const dialTimeout = 10 * time.Second

// sources is how many loopback addresses connections come from in turns. One
// address has 28,000 ports to a given server, and those of closed connections
// stay taken for a minute.
const sources = 64

// dial opens the n-th connection.
func (e *endpoint) dial(ctx context.Context, n int) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
	if ip := net.ParseIP(hostOf(e.addr)); ip != nil && ip.To4() != nil && ip.IsLoopback() {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n%sources))}
		// The port is chosen by connect, which knows the other end, instead of
		// by bind, which would need one that nobody uses.
		d.Control = func(_, _ string, raw syscall.RawConn) error {
			var err error
			if cerr := raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			}); cerr != nil {
				return cerr
			}
			return err
		}
	}
	nc, err := d.DialContext(ctx, "tcp", e.addr)
	if err != nil || e.tls == nil {
		return nc, err
	}
	tc := tls.Client(nc, e.tls)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("%w: %w", errHandshake, err)
	}
	return tc, nil
}

var errHandshake = errors.New("TLS handshake")

func hostOf(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	return host
}
