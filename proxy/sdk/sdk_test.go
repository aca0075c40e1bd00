package sdk

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http/httptest"
	"os"
	"regexp"
	"testing"
	"time"

	"streamrelay/auth"
	"streamrelay/configs"
	"streamrelay/configs/porttest"
	"streamrelay/proxy"
	"streamrelay/telemetry"
)

// The keys that clients present, and those that the relay presents.
const (
	clientKey       = "sk-relay-client-with-every-right"
	narrowKey       = "sk-relay-client-with-one-model"
	openAIUpKey     = "sk-upstream-openai"
	anthropicUpKey  = "sk-ant-upstream"
	narrowKeyModels = "gpt-4o-mini"
)

// relayConfig is the relay under test: carrier, provider's address four times,
// and an address where nobody listens.
const relayConfig = `
admin: {listen: ""}
limits: {max_body: 4MiB}
stream: {carrier: %[1]s}
log: {level: warn, access: false}
upstreams:
  - {name: openai, base_url: "http://%[2]s/v1", dialect: openai, credentials: [{value: ` + openAIUpKey + `}]}
  - {name: anthropic, base_url: "http://%[2]s/v1", dialect: anthropic, credentials: [{value: ` + anthropicUpKey + `}]}
  - {name: late, base_url: "http://%[2]s/v1", dialect: openai, credentials: [{value: ` + openAIUpKey + `}], timeouts: {head: 300ms}}
  - {name: silent, base_url: "http://%[2]s/v1", dialect: openai, credentials: [{value: ` + openAIUpKey + `}], timeouts: {idle: 500ms}}
  - {name: dead, base_url: "http://%[3]s/v1", dialect: openai, credentials: [{value: ` + openAIUpKey + `}]}
routes:
  - {models: ["gpt-*", "text-embedding-*", "tts-*", "whisper-*"], upstreams: [openai]}
  - {models: ["claude-*"], upstreams: [anthropic]}
  - {models: ["late-*"], upstreams: [late]}
  - {models: ["silent-*"], upstreams: [silent]}
  - {models: ["dead-*"], upstreams: [dead]}
`

// TestClients runs every file of tests, with both carriers.
func TestClients(t *testing.T) {
	node := findNode(t)
	files, err := fs.Glob(scripts, "*.test.mjs")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files of tests: %v", err)
	}
	for _, carrier := range []string{"reader", "writer"} {
		t.Run(carrier, func(t *testing.T) {
			env := startRelay(t, carrier)
			for _, file := range files {
				t.Run(file, func(t *testing.T) {
					out, err := node.test(file, env...)
					if err != nil {
						t.Fatalf("%s: %v\n%s", file, err, out)
					}
					n := passed.FindSubmatch(out)
					if n == nil {
						t.Fatalf("%s has run no test:\n%s", file, out)
					}
					t.Logf("%s tests passed", n[1])
				})
			}
		})
	}
}

var passed = regexp.MustCompile(`(?m)^\S* ?pass ([1-9][0-9]*)`)

// startRelay starts a relay in front of a scripted provider and returns what
// the tests in Node must know of both.
func startRelay(t *testing.T, carrier string) (env []string) {
	t.Helper()
	p := newProvider()
	upstream := httptest.NewServer(p)
	t.Cleanup(upstream.Close)
	control := httptest.NewServer(p.control())
	t.Cleanup(control.Close)

	cfg, err := configs.Parse("relay.yaml", fmt.Appendf(nil, relayConfig, carrier, upstream.Listener.Addr(), porttest.DeadAddress(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	log := telemetry.NewLog(os.Stderr, "error")
	t.Cleanup(func() { _ = log.Close() })
	names := make([]string, len(cfg.Upstreams))
	for i, u := range cfg.Upstreams {
		names[i] = u.Name
	}
	srv, err := proxy.New(proxy.Options{
		Config: cfg,
		Keys: auth.NewStatic(
			&auth.Record{ID: "every", Name: "every", Digest: auth.DigestOf(nil, []byte(clientKey)), Tenants: []string{"red", "blue"}},
			&auth.Record{ID: "narrow", Name: "narrow", Digest: auth.DigestOf(nil, []byte(narrowKey)), Models: []string{narrowKeyModels}},
		),
		Telemetry: telemetry.New(telemetry.Options{
			Endpoints: proxy.EndpointNames(), Upstreams: names, Log: log, Sink: p.record,
		}),
		Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return []string{
		"RELAY_URL=http://" + ln.Addr().String(), "RELAY_KEY=" + clientKey, "RELAY_NARROW_KEY=" + narrowKey,
		"RELAY_CONTROL=" + control.URL, "RELAY_OPENAI_KEY=" + openAIUpKey, "RELAY_ANTHROPIC_KEY=" + anthropicUpKey,
	}
}

// record is what the tests look at in the relay's record of an exchange.
type record struct {
	End            string `json:"end"`
	Status         int    `json:"status"`
	UpstreamStatus int    `json:"upstreamStatus"`
	Error          string `json:"error"`
	Endpoint       string `json:"endpoint"`
	Model          string `json:"model"`
	Tenant         string `json:"tenant"`
	Attempts       int    `json:"attempts"`
	Stream         bool   `json:"stream"`
	ContentEvents  int64  `json:"contentEvents"`
	Input          int64  `json:"input"` // tokens; -1: unknown
	Output         int64  `json:"output"`
	Cached         int64  `json:"cached"`
}

// record is the relay's sink: it files the record under the script that the
// request id names.
func (p *provider) record(r *telemetry.Request) {
	p.update(func() {
		s := p.scripts[string(r.RequestID)]
		if s == nil {
			return
		}
		s.records = append(s.records, record{
			End: r.End.String(), Status: r.Status, UpstreamStatus: r.UpstreamStatus, Error: r.Error,
			Endpoint: proxy.EndpointNames()[r.Endpoint], Model: string(r.Model), Tenant: string(r.Tenant),
			Attempts: r.Attempts, Stream: r.Stream, ContentEvents: r.ContentEvents,
			Input: r.Usage.Input, Output: r.Usage.Output, Cached: r.Usage.Cached,
		})
	})
}
