package pool

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"streamrelay/configs"
)

// unhealthyAfter is how many checks in a row must fail.
const unhealthyAfter = 2

// checkHealth asks the upstream for the path of its health check, with its
// first credential, until ctx is done. Statuses from 200 to 399 are good.
func (u *Upstream) checkHealth(ctx context.Context, base *url.URL, cfg *configs.Upstream) {
	target := *base
	target.Path, target.RawPath = "", ""
	at := target.String() + u.Path + cfg.HealthCheck.Path
	var over *tls.Config
	if u.dialer.tls != nil {
		over = u.dialer.tls.Clone()
	}
	client := &http.Client{
		Timeout: cfg.HealthCheck.Timeout,
		Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				return u.dialForCheck(ctx, cfg.HealthCheck.Timeout)
			},
			TLSClientConfig:   over,
			DisableKeepAlives: true, // each check finds out anew
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	tick := time.NewTicker(cfg.HealthCheck.Interval)
	defer tick.Stop()
	for failures := 0; ; {
		err := u.ask(ctx, client, at, cfg.Headers.Set)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failures = 0
			u.unhealthy.Store(nil)
			if u.down.Swap(false) {
				u.tell(Change{To: StateUp, Why: "the health check is good"})
			}
		} else {
			failures++
			why := err.Error()
			u.unhealthy.Store(&why)
			if failures >= unhealthyAfter && !u.down.Swap(true) {
				u.tell(Change{To: StateDown, Why: why})
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// dialForCheck connects for one check. net/http lets a dial and a handshake go on
// behind the request's end: all of the connection has the check's time.
func (u *Upstream) dialForCheck(ctx context.Context, timeout time.Duration) (net.Conn, error) {
	at := time.Now().Add(timeout)
	ctx, cancel := context.WithDeadline(ctx, at)
	defer cancel()
	conn, err := u.dialer.tunnel(ctx)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(at); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("set the health check's deadline: %w", err)
	}
	return conn, nil
}

// ask makes one check.
func (u *Upstream) ask(ctx context.Context, client *http.Client, at string, set map[string]configs.Secret) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return fmt.Errorf("make the health check's request: %w", err)
	}
	u.Credentials[0].present(req.Header)
	for name, value := range set {
		req.Header.Set(name, value.Reveal())
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
	if res.StatusCode >= 400 {
		return fmt.Errorf("health check: status %d", res.StatusCode)
	}
	return nil
}
