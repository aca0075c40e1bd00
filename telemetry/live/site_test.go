package live

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"streamrelay/telemetry"
)

// site is a relay as far as the page knows: metrics, figures, an address.
type site struct {
	t      *testing.T
	tel    *telemetry.Telemetry
	live   *Live
	server *httptest.Server
	stop   chan struct{}
	once   sync.Once
	n      int
}

const testToken = "admin-token-4711"

// startSite serves at addr, "" for any, with the token where there is one. Its
// seconds take a quarter of one.
func startSite(t *testing.T, addr, token string) *site {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	l := newLive(Options{Version: "1.2.3", Revision: "abc", Endpoints: []string{"chat_completions"}}, now)
	s := &site{t: t, live: l, stop: make(chan struct{}), tel: telemetry.New(telemetry.Options{Endpoints: []string{"chat_completions"}, Upstreams: []string{"alpha"}, Sink: l.Observe})}
	l.SetUpstreams([]int{0}, []string{"alpha"})
	l.from = Sources{
		Levels: func() Levels { return Levels{Streams: 3, InFlight: 4, Connections: 5} },
		Upstreams: func() []Upstream {
			return []Upstream{{Name: "alpha", Host: "alpha.example", Dialect: "openai", State: "up", Connections: 2, Credentials: []Credential{{Name: "0", State: "up"}, {Name: "1", State: "refused", ForSeconds: 30}}}}
		},
		Log:  func() RequestLog { return RequestLog{Kind: "clickhouse", Shards: []Shard{{"ch1:9000", false}}} },
		Keys: func() Keys { return Keys{Store: "redis", Ready: true, Phase: "ready", Keys: 12, LeftSeconds: 86400} },
	}
	l.running.Go(func() {
		ticker := time.NewTicker(250 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				now = now.Add(time.Second)
				l.second(now)
			case <-s.stop:
				return
			}
		}
	})
	guard := anybody
	if token != "" {
		guard = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer "+token {
					w.WriteHeader(401)
					return
				}
				next.ServeHTTP(w, r)
			})
		}
	}
	s.server = httptest.NewUnstartedServer(l.Handler(guard))
	s.server.Listener.Close()
	s.server.Listener = ln
	s.server.Start()
	t.Cleanup(s.end)
	return s
}

func (s *site) end() {
	s.server.CloseClientConnections()
	s.server.Close()
	s.once.Do(func() { close(s.stop) })
	s.live.Close()
}

// observe ends one exchange, as the proxy does.
func (s *site) observe(change func(*telemetry.Request)) {
	s.n++
	r := exchange(s.n, change)
	r.Start = time.Now().UnixNano() - r.Duration
	s.tel.Observe(r)
}

// metrics sums the series of a name whose labels hold all of with.
func (s *site) metrics(name string, with ...string) (sum float64) {
	var b bytes.Buffer
	s.tel.WriteMetrics(&b)
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		if slices.ContainsFunc(with, func(w string) bool { return !strings.Contains(line, w) }) {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
		if err != nil {
			s.t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// hostile are names that a page which is not careful would run or break upon.
var hostile = []string{
	`<img src=x onerror="document.title='broken'">`, `"><script>document.title='broken'</script>`, `{{constructor.constructor('document.title=1')()}}`,
	"javascript:alert(1)", "\u202egnp.exe", "a\x00b\x1b[31mred", strings.Repeat("W", 300), `__proto__`, "</table></section>",
}
