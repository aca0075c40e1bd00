package proxy

import (
	"context"
	"io"
	"testing"
	"time"

	"streamrelay/auth"
	"streamrelay/configs"
	"streamrelay/telemetry"
)

const (
	// clientKey is what clients present, accountKey what the relay presents.
	clientKey  = "sk-relay-test-key-123"
	accountKey = "sk-account-of-the-relay"
	// patience ends a test that would otherwise hang. No test asserts a time.
	patience = 20 * time.Second
)

// parseConfig returns the configuration that yaml is.
func parseConfig(t testing.TB, yaml string) *configs.Config {
	t.Helper()
	cfg, err := configs.Parse("test", []byte(yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatalf("parse configuration:\n%s\n%v", yaml, err)
	}
	return cfg
}

// newServer returns a server of the configuration yaml, which knows clientKey
// and ends with the test. It serves nothing by itself.
func newServer(t testing.TB, yaml string) *Server {
	t.Helper()
	cfg := parseConfig(t, yaml)
	log := telemetry.NewLog(io.Discard, "info")
	names := make([]string, len(cfg.Upstreams))
	for i, u := range cfg.Upstreams {
		names[i] = u.Name
	}
	s, err := New(Options{
		Config: cfg,
		Keys:   auth.NewStatic(&auth.Record{ID: "k1", Name: "k1", Digest: auth.DigestOf(nil, []byte(clientKey)), Tenants: []string{"acme"}}),
		Telemetry: telemetry.New(telemetry.Options{
			Version: "test", Endpoints: EndpointNames(), Upstreams: names, Access: cfg.Log.Access, Log: log,
		}),
		Log: log,
	})
	if err != nil {
		t.Fatalf("new server: %v", err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Errorf("close log: %v", err)
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return s
}

// oneUpstream is a configuration with an OpenAI upstream at base that nobody
// need listen on.
func oneUpstream(base string) string {
	return "upstreams: [{name: one, dialect: openai, base_url: \"" + base + "\", credentials: [{value: " + accountKey + "}]}]\n"
}

// eventually polls ok until it holds; what names it in the failure.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
