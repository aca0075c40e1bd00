package configs

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"sync"
	"time"
)

const (
	reachTimeout  = 5 * time.Second
	reachParallel = 8
)

// reach is the result of one connection to an upstream.
type reach struct {
	Upstream string  `json:"upstream"`
	Address  string  `json:"address"`
	OK       bool    `json:"ok"`
	Seconds  float64 `json:"seconds"`
	Error    string  `json:"error,omitempty"`
}

// reachAll connects to every upstream, a few at a time, and returns when each
// has answered or its time is over. No byte of HTTP is sent, so no credential.
func reachAll(ctx context.Context, c *Config) []reach {
	results := make([]reach, len(c.Upstreams))
	var wg sync.WaitGroup
	slots := make(chan struct{}, reachParallel)
	for i := range c.Upstreams {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			results[i] = reachOne(ctx, &c.Upstreams[i])
		})
	}
	wg.Wait()
	return results
}

func reachOne(ctx context.Context, u *Upstream) reach {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	result := reach{Upstream: u.Name}
	base, err := url.Parse(u.BaseURL)
	if err != nil {
		result.Error = "BUG: base_url passed validation"
		return result
	}
	port := base.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[base.Scheme]
	}
	result.Address = net.JoinHostPort(base.Hostname(), port)
	start := time.Now()
	if err := connect(ctx, base, result.Address, u.CAFile); err != nil {
		result.Error = err.Error()
		return result
	}
	result.OK = true
	result.Seconds = time.Since(start).Seconds()
	return result
}

// connect opens and closes a connection; for https it shakes hands.
func connect(ctx context.Context, base *url.URL, address, caFile string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if base.Scheme != "https" {
		return nil
	}
	config := &tls.Config{ServerName: base.Hostname(), MinVersion: tls.VersionTLS12}
	if caFile != "" {
		if config.RootCAs, err = CertPool(caFile); err != nil {
			return err
		}
	}
	return tls.Client(conn, config).HandshakeContext(ctx)
}

func outOfReach(results []reach) int {
	n := 0
	for _, r := range results {
		if !r.OK {
			n++
		}
	}
	return n
}
