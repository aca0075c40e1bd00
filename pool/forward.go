package pool

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"streamrelay/configs"
)

// forward is the HTTP proxy that an upstream is reached by, with CONNECT (RFC
// 9110 §9.3.6), whatever the upstream's own scheme.
type forward struct {
	addr string
	auth string // value of Proxy-Authorization; "": none
}

// newForward returns the proxy of the upstream at base: the configured one, or
// the environment's; nil: none.
func newForward(base *url.URL, cfg *configs.Upstream) (*forward, error) {
	at, err := http.ProxyFromEnvironment(&http.Request{URL: base})
	switch cfg.ProxyURL {
	case configs.NoProxy:
		return nil, nil
	case "":
	default:
		at, err = url.Parse(cfg.ProxyURL)
	}
	if err != nil {
		// Not err itself: it quotes the URL, which may hold a password.
		return nil, fmt.Errorf("the proxy of upstream %q, by proxy_url or HTTPS_PROXY and its like, is not a URL: correct it, or write proxy_url: none", cfg.Name)
	}
	if at == nil {
		return nil, nil
	}
	if at.Scheme != "http" {
		return nil, fmt.Errorf("the proxy of upstream %q is reached by %s: only http:// is built (proxy_url: none uses none)", cfg.Name, at.Scheme)
	}
	f := &forward{addr: at.Host}
	if at.Port() == "" {
		f.addr = net.JoinHostPort(at.Hostname(), "80")
	}
	auth := cfg.ProxyAuth.Reveal()
	if auth == "" && at.User != nil {
		password, _ := at.User.Password()
		auth = at.User.Username() + ":" + password
	}
	if auth != "" {
		f.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(auth))
	}
	return f, nil
}

// open makes tcp, which leads to the proxy, a tunnel to target.
func (f *forward) open(ctx context.Context, tcp *net.TCPConn, target string) error {
	if at, ok := ctx.Deadline(); ok {
		if err := tcp.SetDeadline(at); err != nil {
			return err
		}
	}
	head := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	if f.auth != "" {
		head += "Proxy-Authorization: " + f.auth + "\r\n"
	}
	if _, err := tcp.Write([]byte(head + "\r\n")); err != nil {
		return fmt.Errorf("ask the proxy %s for %s: %w", f.addr, target, err)
	}
	r := bufio.NewReaderSize(tcp, 4<<10)
	res, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return fmt.Errorf("%w with the proxy %s: read its answer: %w", ErrHandshake, f.addr, err)
	}
	_ = res.Body.Close()
	switch {
	case res.StatusCode == http.StatusProxyAuthRequired:
		return fmt.Errorf("%w with the proxy %s: it wants a name and a password (407): set proxy_auth", ErrHandshake, f.addr)
	case res.StatusCode/100 != 2:
		return fmt.Errorf("%w with the proxy %s: it answered %d to CONNECT %s", ErrHandshake, f.addr, res.StatusCode, target)
	case r.Buffered() > 0: // in both protocols behind it we speak first
		return fmt.Errorf("%w with the proxy %s: bytes behind its answer", ErrHandshake, f.addr)
	}
	return tcp.SetDeadline(time.Time{})
}
