package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// peers start what stands between load generator and provider.
var peers = map[string]func(context.Context, *env) (peer, error){
	"direct":       startDirect,
	"nginx":        startNginx,
	"haproxy":      startHAProxy,
	"relay":        func(ctx context.Context, e *env) (peer, error) { return startRelay(ctx, e, "reader") },
	"relay-writer": func(ctx context.Context, e *env) (peer, error) { return startRelay(ctx, e, "writer") },
	"goproxy":      startGoproxy,
}

// startDirect is no peer at all: what the others' delays are compared with.
func startDirect(_ context.Context, e *env) (peer, error) {
	return peer{addr: e.upstream, ca: e.ca}, nil
}

// What nginx and HAProxy are given, the same task for both.
var (
	//go:embed nginx.conf
	nginxConf string
	//go:embed haproxy.cfg
	haproxyConf string
)

func startNginx(ctx context.Context, e *env) (p peer, err error) {
	if p.addr, err = freeAddr(); err != nil {
		return p, err
	}
	scheme, user := "http", ""
	if e.tls {
		scheme = "https"
	}
	if os.Geteuid() == 0 {
		user = "user root;" // the folder is ours alone
	}
	conf := strings.NewReplacer("USER", user, "DIR", e.dir, "CLIENTKEY", clientKey, "PROVIDERKEY", providerKey,
		"UPSTREAM", e.upstream, "ADDR", p.addr, "SCHEME", scheme).Replace(nginxConf)
	file := filepath.Join(e.dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return p, fmt.Errorf("write nginx's configuration: %w", err)
	}
	c, err := e.start(e.settings.nginx, "-c", file, "-e", filepath.Join(e.dir, "nginx.error.log"))
	if err != nil {
		return p, err
	}
	p.pid = c.pid()
	return p, c.ready(ctx, p.addr)
}

func startHAProxy(ctx context.Context, e *env) (p peer, err error) {
	if p.addr, err = freeAddr(); err != nil {
		return p, err
	}
	ssl := ""
	if e.tls {
		ssl = "ssl verify none"
	}
	conf := strings.NewReplacer("CORES", strconv.Itoa(runtime.NumCPU()), "CLIENTKEY", clientKey, "PROVIDERKEY", providerKey,
		"UPSTREAM", e.upstream, "ADDR", p.addr, "SSL", ssl).Replace(haproxyConf)
	file := filepath.Join(e.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return p, fmt.Errorf("write HAProxy's configuration: %w", err)
	}
	c, err := e.start(e.settings.haproxy, "-db", "-f", file)
	if err != nil {
		return p, err
	}
	p.pid = c.pid()
	return p, c.ready(ctx, p.addr)
}

// relayConf is a relay with everything on that is on by default.
const relayConf = `listen: ADDR
admin: {listen: "unix:DIR/admin.sock"}
keys: {store: file, file: DIR/keys.yaml}
upstreams:
  - name: simulated
    base_url: SCHEME://UPSTREAM/v1
    dialect: openai
    credentials: [{value: PROVIDERKEY}]
CA
stream: {carrier: CARRIER}
log: {access: ACCESS}
`

func startRelay(ctx context.Context, e *env, carrier string) (p peer, err error) {
	p.asksUsage = true
	if p.addr, err = freeAddr(); err != nil {
		return p, err
	}
	binary, err := filepath.Abs(e.settings.relay)
	if err != nil {
		return p, fmt.Errorf("find the relay: %w", err)
	}
	scheme, ca := "http", ""
	if e.tls {
		scheme, ca = "https", "    ca_file: "+e.ca
	}
	conf := strings.NewReplacer("ADDR", p.addr, "DIR", e.dir, "SCHEME", scheme, "UPSTREAM", e.upstream,
		"PROVIDERKEY", providerKey, "CARRIER", carrier, "ACCESS", strconv.FormatBool(e.settings.accessLog), "CA\n", ca+"\n").Replace(relayConf)
	file := filepath.Join(e.dir, "relay.yaml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return p, fmt.Errorf("write the relay's configuration: %w", err)
	}
	if err := importKey(e, binary, file); err != nil {
		return p, err
	}
	c, err := e.start(binary, "serve", "--config", file)
	if err != nil {
		return p, err
	}
	p.pid, p.admin = c.pid(), filepath.Join(e.dir, "admin.sock")
	return p, c.ready(ctx, p.addr)
}
