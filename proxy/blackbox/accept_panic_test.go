package blackbox

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"streamrelay/auth"
	"streamrelay/configs"
	"streamrelay/proxy"
	"streamrelay/telemetry"
)

// The sink is the one part of an exchange that a test may supply and that runs
// on the goroutine of each carrier.
func TestAPanicAtTheEndOfAnExchangeIsCaughtOnEveryWay(t *testing.T) {
	up := newUpstream(t, func(rq *received) {
		if strings.Contains(rq.body, `"stream":true`) {
			rq.stream("data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n", "data: [DONE]\n\n")
			return
		}
		rq.reply(200, "{}")
	})
	for name, c := range map[string]struct{ raw, yaml string }{
		"refusal":            {bare("GET", "/v1/models", ""), ""},
		"JSON":               {post("/v1/chat/completions", chatPlain), ""},
		"HEAD":               {request("HEAD", "/v1/models", ""), ""},
		"stream, reader":     {post("/v1/chat/completions", chatStream), "stream: {carrier: reader}\n"},
		"stream, writer":     {post("/v1/chat/completions", chatStream), "stream: {carrier: writer}\n"},
		"stream of HTTP/1.0": {strings.Replace(post("/v1/chat/completions", chatStream), "HTTP/1.1", "HTTP/1.0", 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Getenv(childMode) != "panic here" {
				// In a process of its own, which it may well end.
				cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
				cmd.Env = append(os.Environ(), childMode+"=panic here")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
				return
			}
			cfg, err := configs.Parse("test", []byte("admin: {listen: \"\"}\n"+upstreamsYAML(up, "")+c.yaml), nil)
			if err != nil {
				t.Fatal(err)
			}
			out := new(logBuffer)
			log := telemetry.NewLog(out, "info")
			var calls atomic.Int64
			tel := telemetry.New(telemetry.Options{
				Endpoints: proxy.EndpointNames(), Upstreams: []string{"openai", "anthropic", "gemini", "azure"}, Access: true, Log: log,
				Sink: func(*telemetry.Request) { calls.Add(1); panic("the sink") },
			})
			srv, err := proxy.New(proxy.Options{Config: cfg, Keys: auth.NewStatic(key("k1", testKey, "acme")), Telemetry: tel, Log: log})
			if err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- srv.Serve(ln) }()
			rl := &relay{t: t, srv: srv, tel: tel, addr: ln.Addr().String(), log: out}
			for range 2 {
				conn := rl.dialFor(t)
				conn.send(c.raw)
				if a, err := conn.tryBegin("GET"); err == nil && name != "HEAD" {
					_, _ = a.rest()
				}
				_ = conn.Close()
			}
			eventually(t, "both panics are counted", func() bool { return tel.Panics.Get() == 2 && calls.Load() == 2 })
			rl.checkIdle()
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if err := srv.Shutdown(ctx); err != nil {
				t.Error(err)
			}
			<-served
			_ = log.Close()
			if text := out.String(); !strings.Contains(text, "the sink") || !strings.Contains(text, "accept_panic_test.go") {
				t.Errorf("no stack in the log:\n%s", text)
			}
		})
	}
}
