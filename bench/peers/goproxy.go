package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"
)

// goproxy is Go's own reverse proxy, doing what nginx is configured to do.
func goproxy(args []string) error {
	f := flag.NewFlagSet("as-goproxy", flag.ContinueOnError)
	listen := f.String("listen", "", "address to listen on")
	upstream := f.String("upstream", "", "URL of the provider")
	if err := f.Parse(args); err != nil {
		return err
	}
	target, err := url.Parse(*upstream)
	if err != nil {
		return fmt.Errorf("provider's URL: %w", err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Set("Authorization", "Bearer "+providerKey)
		},
		FlushInterval: -1,
		ErrorLog:      log.New(os.Stderr, "", 0),
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 2048,
			DisableCompression:  true,
			TLSClientConfig:     &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(64)},
		},
	}
	server := &http.Server{
		Addr:              *listen,
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+clientKey {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			// Without it the server closes the request's body under the
			// transport and some streams are cut (golang/go#40747).
			_ = http.NewResponseController(w).EnableFullDuplex()
			proxy.ServeHTTP(w, r)
		}),
	}
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func startGoproxy(ctx context.Context, e *env) (p peer, err error) {
	if p.addr, err = freeAddr(); err != nil {
		return p, err
	}
	self, err := os.Executable()
	if err != nil {
		return p, fmt.Errorf("find this program: %w", err)
	}
	c, err := e.start(self, "as-goproxy", "-listen", p.addr, "-upstream", e.providerURL())
	if err != nil {
		return p, err
	}
	p.pid = c.pid()
	return p, c.ready(ctx, p.addr)
}
