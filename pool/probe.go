package pool

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"

	"streamrelay/configs"
)

const (
	probeTimeout  = 5 * time.Second
	probeParallel = 8
)

// Probe connects to every upstream, a few at a time, in the way in which the
// relay will: by its forward proxy, with its certificates. No byte of HTTP is
// sent to an upstream, so no credential. It is a configs.Probe.
func Probe(ctx context.Context, c *configs.Config) []configs.Finding {
	found := make([]configs.Finding, len(c.Upstreams))
	var wg sync.WaitGroup
	slots := make(chan struct{}, probeParallel)
	for i := range c.Upstreams {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			found[i] = probe(ctx, c.Upstreams[i])
		})
	}
	wg.Wait()
	return found
}

func probe(ctx context.Context, cfg configs.Upstream) configs.Finding {
	f := configs.Finding{Name: "upstream " + cfg.Name}
	base, err := url.Parse(cfg.BaseURL)
	if err != nil {
		f.Detail = "BUG: base_url passed validation"
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	d, err := newDialer(ctx, base, &cfg, &running)
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	start := time.Now()
	tcp, err := d.tunnel(ctx)
	if err == nil {
		defer tcp.Close()
		if d.tls != nil {
			if err = tls.Client(tcp, d.tls).HandshakeContext(ctx); err != nil {
				err = fmt.Errorf("tls %w: %w", ErrHandshake, err)
			}
		}
	}
	if err != nil {
		f.Detail, f.Hint = fmt.Sprintf("%s is out of reach: %v", d.addr, err), Hint(err)
		return f
	}
	f.OK, f.Detail = true, fmt.Sprintf("%s answers after %.0f ms", d.addr, 1000*time.Since(start).Seconds())
	return f
}

// Hint says what to do about the error of Acquire; "": nothing that is known.
func Hint(err error) string {
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "correct the host in base_url, or the name server's records"
	case errors.As(err, &dns):
		return "the name server does not answer: see /etc/resolv.conf"
	case errors.Is(err, ErrHandshake):
		return handshakeHint(err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: start it, or correct base_url (proxy_url, where that is named)"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "there is no way to this address: see the network, or correct base_url"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "it does not answer: a firewall most often; where a proxy leads out, set proxy_url"
	}
	return ""
}

// handshakeHint is Hint where TCP stood.
func handshakeHint(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	const certificateRequired = 116 // RFC 8446 §6.2
	switch {
	case errors.As(err, &authority):
		return "name the certificate of its authority in ca_file"
	case errors.As(err, &name):
		return "use a name of the certificate in base_url"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "have the certificate renewed, or set this machine's clock"
	case errors.As(err, &record):
		return "it does not speak TLS there: write http:// in base_url, or use its TLS port"
	case errors.As(err, &alert) && alert == certificateRequired:
		return "it wants a client's certificate: set cert_file and key_file"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "it takes the connection and does not shake hands: a port without TLS, or a proxy with nobody behind it"
	}
	return ""
}
