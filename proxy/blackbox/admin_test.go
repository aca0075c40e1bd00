package blackbox

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"streamrelay/pool"
)

// ask asks the admin listener, by TCP or a unix socket.
func ask(t *testing.T, at, method, path, token string) (int, http.Header, string) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		if strings.HasPrefix(at, "/") {
			return d.DialContext(ctx, "unix", at)
		}
		return d.DialContext(ctx, "tcp", at)
	}}}
	req, err := http.NewRequest(method, "http://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(body)
}

func TestAdminListenerTakesTheMetricsOffThePublicOne(t *testing.T) {
	up := untouched(t)
	c := startChild(t, "serve", childFile(t, up, "admin: {listen: 127.0.0.1:0}\n"), 0)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/": 200, "/live/state": 200, "/v1/models": 404} {
		status, header, body := ask(t, c.admin, "GET", path, "")
		if status != want {
			t.Errorf("admin %s: status %d: %s", path, status, body)
		}
		if path == "/metrics" && (header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" || !strings.Contains(body, "relay_requests_total")) {
			t.Errorf("admin %s: %s %.200s", path, header.Get("Content-Type"), body)
		}
	}
	status, header, body := ask(t, c.admin, "GET", "/upstreams", "")
	var states struct{ Upstreams []pool.Status }
	if err := json.Unmarshal([]byte(body), &states); err != nil || status != 200 || header.Get("Content-Type") != "application/json" || len(states.Upstreams) != 4 {
		t.Fatalf("/upstreams: %d, %v: %s", status, err, body)
	}
	if u := states.Upstreams[0]; u.Name != "openai" || u.State != pool.StateUp || u.Host != up.addr || len(u.Credentials) != 1 || u.Credentials[0].Name != "0" || strings.Contains(body, upstreamKey) {
		t.Errorf("/upstreams: %s", body)
	}
	if status, _, _ := ask(t, c.admin, "POST", "/metrics", ""); status != 405 {
		t.Errorf("POST: status %d", status)
	}
	for path, want := range map[string]int{"/healthz": 200, "/metrics": 404, "/debug/pprof/": 404, "/config": 404, "/reload": 404, "/upstreams": 404} {
		_, a := c.speak(t, "GET "+path+" HTTP/1.1\r\nHost: relay\r\n\r\n")
		if a == nil || a.status != want {
			t.Errorf("public %s: %+v", path, a)
		}
	}
	_, a := c.speak(t, request("GET", "/metrics", ""))
	if a.status != 404 {
		t.Errorf("public /metrics with a key: status %d", a.status)
	}
}

// Without a token a browser must not be led here by somebody else's page.
func TestAdminListenerWithoutATokenAnswersNoOtherSite(t *testing.T) {
	c := startChild(t, "serve", childFile(t, untouched(t), "admin: {listen: 127.0.0.1:0}\n"), 0)
	for _, one := range []struct {
		host, method, path string
		fields             []string
		want               int
	}{
		{"127.0.0.1:9090", "GET", "/metrics", nil, 200}, {"localhost", "GET", "/config", nil, 200}, {"LOCALHOST:1", "GET", "/live/state", nil, 200},
		{"relay.localhost:9090", "GET", "/live/state", nil, 200}, {"[::1]:9090", "GET", "/readyz", nil, 200}, {"10.0.0.7", "GET", "/loglevel", nil, 200},
		{"evil.example", "GET", "/metrics", nil, 421}, {"evil.example", "POST", "/reload", nil, 421}, {"evil.example", "GET", "/debug/pprof/", nil, 421},
		{"127.0.0.1.evil.example:9090", "GET", "/config", nil, 421}, {"localhost.evil.example", "GET", "/live/events", nil, 421}, {"", "GET", "/upstreams", nil, 421},
		{"evil.example", "GET", "/healthz", nil, 200}, {"evil.example", "GET", "/", nil, 200},
		{"localhost:9090", "POST", "/reload", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"localhost:9090", "POST", "/reload", []string{"Origin: https://evil.example"}, 403},
		{"localhost:9090", "POST", "/reload", []string{"Origin: null"}, 403},
		{"localhost:9090", "GET", "/debug/pprof/profile", []string{"Sec-Fetch-Site: same-site"}, 403},
		{"localhost:9090", "GET", "/live/state", []string{"Sec-Fetch-Site: same-origin"}, 200},
		{"localhost:9090", "GET", "/metrics", []string{"Sec-Fetch-Site: none"}, 200},
		{"localhost:9090", "GET", "/live/state", []string{"Origin: http://localhost:9090"}, 200},
		{"localhost:9090", "POST", "/reload", nil, 200},
	} {
		conn, err := net.Dial("tcp", c.admin)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, one.method+" "+one.path+" HTTP/1.1\r\nHost: "+one.host+"\r\nConnection: close\r\n"+strings.Join(append(one.fields, "\r\n"), "\r\n"))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s %s as %s: %v", one.method, one.path, one.host, err)
		}
		if res.StatusCode != one.want {
			t.Errorf("%s %s as %s, %q: status %d, want %d", one.method, one.path, one.host, one.fields, res.StatusCode, one.want)
		}
		conn.Close()
	}
}

func TestAdminListenerAsksForItsToken(t *testing.T) {
	up := untouched(t)
	path := childFile(t, up, "admin: {listen: 127.0.0.1:0, token_file: %s/token}\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "token"), []byte("admin-token-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startChild(t, "serve", path, 0)
	for _, one := range []struct {
		path, token string
		want        int
	}{
		{"/metrics", "Bearer admin-token-1", 200}, {"/readyz", "bearer admin-token-1", 200}, {"/healthz", "", 200},
		{"/", "", 200}, {"/live/state", "", 401}, {"/live/events", "", 401}, {"/live/state", "Bearer admin-token-1", 200},
		{"/metrics", "", 401}, {"/readyz", "", 401}, {"/metrics", "Bearer ", 401}, {"/metrics", "Bearer admin-token-2", 401}, {"/metrics", "Bearer admin-token-1x", 401},
		{"/metrics", "admin-token-1", 401}, {"/metrics", "Basic admin-token-1", 401}, {"/metrics", "Bearer " + testKey, 401}, {"/nowhere", "", 401}, {"/nowhere", "Bearer admin-token-1", 404},
		{"/healthz/../metrics", "", 401}, {"//metrics", "", 401}, {"/metrics?token=admin-token-1", "", 401},
	} {
		status, header, body := ask(t, c.admin, "GET", one.path, one.token)
		if status != one.want && !(one.want == 401 && (status == 301 || status == 307)) {
			t.Errorf("%s with %q: status %d, want %d", one.path, one.token, status, one.want)
		}
		if status == 401 && (header.Get("WWW-Authenticate") != "Bearer" || strings.Contains(body, "relay_") || strings.Contains(body, "admin-token")) {
			t.Errorf("%s with %q: %v %s", one.path, one.token, header, body)
		}
	}
	if strings.Contains(c.log.String(), "admin-token") {
		t.Error("the token is in the log")
	}
}

func TestAdminListenerOnAUnixSocket(t *testing.T) {
	up := untouched(t)
	path := childFile(t, up, "admin: {listen: \"unix:%s/admin.sock\"}\n")
	c := startChild(t, "serve", path, 0)
	if status, _, body := ask(t, filepath.Join(filepath.Dir(path), "admin.sock"), "GET", "/readyz", ""); status != 200 || body != "ready\n" {
		t.Errorf("status %d: %s", status, body)
	}
	c.alive()
}
