package proxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"streamrelay/auth"
	"streamrelay/configs"
	"streamrelay/telemetry"
)

// DemoKey is the key that the demo takes.
const DemoKey = "sk-relay-test-key-123"

// demoProviders are the real providers that the demo relays to when the
// variable with their key is set; the first one counts.
var demoProviders = []struct {
	variable, name, baseURL, model string
}{
	{"SILICONFLOW_API_KEY", "siliconflow", "https://api.siliconflow.cn/v1", "Qwen/Qwen2.5-7B-Instruct"},
	{"OPENAI_API_KEY", "openai", "https://api.openai.com/v1", "gpt-4o-mini"},
	{"DEEPSEEK_API_KEY", "deepseek", "https://api.deepseek.com/v1", "deepseek-chat"},
	{"OPENROUTER_API_KEY", "openrouter", "https://openrouter.ai/api/v1", "openai/gpt-4o-mini"},
}

// Simulated starts a simulated provider on loopback and returns its address
// and what stops it.
type Simulated func() (addr string, stop func() error, err error)

// DemoCommand is `relay demo`: a relay with one key before a simulated
// provider, or before a real one, and one chat completion through it.
func DemoCommand(b Build, simulated Simulated) *cobra.Command {
	listen, admin, once := "127.0.0.1:8080", "127.0.0.1:9090", false
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Stream one chat completion through a relay on loopback, then keep serving",
		Long: `Demo starts a relay and a simulated provider on loopback, streams one chat
completion through it and keeps serving until Ctrl-C. It needs no account, no
Redis and no ClickHouse. With SILICONFLOW_API_KEY, OPENAI_API_KEY,
DEEPSEEK_API_KEY or OPENROUTER_API_KEY set it relays to the real provider.`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if once {
				admin = "" // nobody will look
			}
			return demo(cmd.OutOrStdout(), b, simulated, listen, freeOr(admin), once)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", listen, "where the relay listens")
	cmd.Flags().StringVar(&admin, "admin", admin, "where it shows its live page; another port where this one is taken")
	cmd.Flags().BoolVar(&once, "once", once, "end after the first completion")
	return cmd
}

// freeOr returns addr, or any port of its host where something listens there.
func freeOr(addr string) string {
	if addr == "" {
		return ""
	}
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		host, _, _ := net.SplitHostPort(addr)
		return net.JoinHostPort(host, "0")
	}
	if err == nil {
		_ = ln.Close()
	}
	return addr
}

// demoConfig is the demo's relay.yaml: where it listens, where its operator
// does, the upstream's name and base URL.
const demoConfig = `
listen: %q
admin: {listen: %q}
log: {level: warn, access: false}
shutdown: {lame_duck: 0s}
request_log: {dir: ""}
upstreams:
  - name: %s
    base_url: %s
    dialect: openai
    credentials: [{value: "${KEY}"}]
`

func demo(out io.Writer, b Build, simulated Simulated, listen, admin string, once bool) error {
	name, baseURL, model, key := "simulated", "", "simulated-model", "sk-simulated"
	for _, p := range demoProviders {
		if k := os.Getenv(p.variable); k != "" {
			name, baseURL, model, key = p.name, p.baseURL, p.model, k
			break
		}
	}
	if baseURL == "" {
		addr, stop, err := simulated()
		if err != nil {
			return fmt.Errorf("start the simulated provider: %w", err)
		}
		defer stop()
		baseURL = "http://" + addr + "/v1"
	}
	cfg, err := configs.Parse("demo", fmt.Appendf(nil, demoConfig, listen, admin, name, baseURL), func(string) (string, bool) { return key, true })
	if err != nil {
		return err
	}
	ignoreBrokenPipes()
	log := telemetry.NewLog(os.Stderr, cfg.Log.Level)
	defer log.Close()
	p, err := newProcess(cfg, keyring{table: auth.NewStatic(&auth.Record{ID: "demo", Name: "demo", Digest: auth.DigestOf(nil, []byte(DemoKey)), Tenants: []string{"*"}})}, log, b)
	if err != nil {
		return err
	}
	addr := p.public.Addr().String()
	fmt.Fprintf(out, "relay %s on http://%s, upstream %s (%s)\n", b.Version, addr, name, baseURL)
	finished := make(chan error, 1)
	stop := make(chan struct{})
	go func() { finished <- untilSignal(p, stop) }()
	err = demoStream(out, "http://"+addr, model)
	if once {
		close(stop)
		return errors.Join(err, <-finished)
	}
	if err != nil {
		fmt.Fprintf(out, "\n%v\n", err)
	}
	metrics, page := addr, ""
	if p.admin != nil {
		metrics = p.admin.ln.Addr().String()
		page = "What it does, live: http://" + metrics + "/\n\n"
	}
	fmt.Fprintf(out, `
Try it from another terminal:

  curl -N http://%[1]s/v1/chat/completions -H 'Authorization: Bearer %[2]s' \
    -H 'Content-Type: application/json' \
    -d '{"model":"%[3]s","stream":true,"messages":[{"role":"user","content":"hello"}]}'

  curl http://%[1]s/v1/models -H 'Authorization: Bearer %[2]s'
  curl http://%[1]s/healthz
  curl -s http://%[4]s/metrics | grep '^relay_'

%[5]sServing until Ctrl-C.
`, addr, DemoKey, model, metrics, page)
	return <-finished
}

// demoStream streams one chat completion through the relay at base and prints
// it as it comes.
func demoStream(out io.Writer, base, model string) error {
	body, err := json.Marshal(map[string]any{
		"model": model, "stream": true, "max_tokens": 64,
		"messages": []map[string]string{{"role": "user", "content": "Say hello to whoever is reading this."}},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, base+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+DemoKey)
	req.Header.Set("Content-Type", "application/json")
	start := time.Now()
	res, err := (&http.Client{Timeout: 2 * time.Minute}).Do(req)
	if err != nil {
		return fmt.Errorf("call the relay: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		return fmt.Errorf("the relay answers %d: %s", res.StatusCode, text)
	}
	fmt.Fprintf(out, "\nPOST /v1/chat/completions, request id %s\n\n", res.Header.Get("X-Request-Id"))
	var ttft time.Duration
	events, ended := 0, false
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			ended = true
			continue
		}
		events++
		var chunk struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
		}
		if json.Unmarshal([]byte(data), &chunk) != nil || len(chunk.Choices) == 0 || chunk.Choices[0].Delta.Content == "" {
			continue
		}
		if ttft == 0 {
			ttft = time.Since(start)
		}
		fmt.Fprint(out, chunk.Choices[0].Delta.Content)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the stream: %w", err)
	}
	if !ended {
		return errors.New("the stream ended before its last event")
	}
	fmt.Fprintf(out, "\n\nTTFT %.1f ms, %d events in %.0f ms, complete: true\n", float64(ttft.Microseconds())/1000, events, float64(time.Since(start).Microseconds())/1000)
	return nil
}
