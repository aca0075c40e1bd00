package live

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// patience ends a test that would otherwise hang.
const patience = 30 * time.Second

// readTimeout is enough for a request on the busiest machine.
const readTimeout = time.Second

func anybody(next http.Handler) http.Handler { return next }

// serve serves l as the admin listener does, with its short read timeout.
func serve(t *testing.T, c *clock, guard func(http.Handler) http.Handler) *httptest.Server {
	t.Helper()
	if guard == nil {
		guard = anybody
	}
	s := httptest.NewUnstartedServer(c.Handler(guard))
	s.Config.ReadTimeout = readTimeout
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		c.Close()
	})
	return s
}

// viewer reads /live/events.
type viewer struct {
	t     *testing.T
	body  *http.Response
	lines *bufio.Reader
}

func look(t *testing.T, s *httptest.Server) *viewer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/live/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); res.Body.Close() })
	return &viewer{t, res, bufio.NewReader(res.Body)}
}

// next returns the next event.
func (v *viewer) next() (name string, s Snapshot) {
	v.t.Helper()
	for {
		line, err := v.lines.ReadString('\n')
		if err != nil {
			v.t.Fatalf("the events end: %v", err)
		}
		if after, ok := strings.CutPrefix(line, "event: "); ok {
			name = strings.TrimSpace(after)
		}
		if after, ok := strings.CutPrefix(line, "data: "); ok {
			if err := json.Unmarshal([]byte(after), &s); err != nil {
				v.t.Fatal(err)
			}
			return name, s
		}
	}
}

func TestAViewerGetsEverythingAndThenEachSecond(t *testing.T) {
	c := newClock(Sources{})
	c.Observe(exchange(1, nil))
	c.tick()
	s := serve(t, c, nil)
	v := look(t, s)
	name, got := v.next()
	if name != "state" || got.Seq != 1 || got.History == nil || len(got.Requests) != 1 || v.body.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("the first event: %s %+v", name, got)
	}
	for i := uint64(2); i < 5; i++ {
		c.Observe(exchange(int(i), nil))
		c.tick()
		if name, got = v.next(); name != "tick" || got.Seq != i || got.History != nil || len(got.Requests) != 1 || got.Totals.Requests != i {
			t.Fatalf("event %d: %s %+v", i, name, got)
		}
		time.Sleep(readTimeout * 2 / 5) // past it at the end
	}
}

func TestAViewerThatMissedSecondsGetsEverythingAgain(t *testing.T) {
	c := newClock(Sources{})
	c.tick()
	if !c.enter() {
		t.Fatal("there is room")
	}
	defer c.leave()
	c.tick()
	for _, one := range []struct {
		seen  uint64
		begun bool
		want  string
	}{{1, true, "event: tick\nid: 2\n"}, {0, true, "event: state\nid: 2\n"}, {0, false, "event: state\nid: 2\n"}} {
		if event, seq, _ := c.after(one.seen, one.begun); !strings.HasPrefix(string(event), one.want) || seq != 2 {
			t.Errorf("after %d: %.40q", one.seen, event)
		}
	}
}

func TestWhereNobodyLooksNothingIsMade(t *testing.T) {
	asked := 0
	c := newClock(Sources{Upstreams: func() []Upstream { asked++; return nil }})
	c.second(c.now.Add(time.Second))
	if c.Live.tick != nil || c.state != nil || asked != 0 {
		t.Error("an event was made, or the upstreams were asked")
	}
}

func TestTenViewersShareOneEncoding(t *testing.T) {
	asked := 0
	c := newClock(Sources{Upstreams: func() []Upstream { asked++; return nil }})
	c.second(c.now.Add(time.Second))
	for range 10 {
		c.enter()
		defer c.leave()
		c.after(0, false)
	}
	c.second(c.now.Add(2 * time.Second))
	for range 10 {
		c.after(1, true)
	}
	if asked != 2 {
		t.Errorf("%d snapshots were made for 20 events of two kinds, want 2", asked)
	}
}

func TestCloseEndsViewers(t *testing.T) {
	c := newClock(Sources{})
	v := look(t, serve(t, c, nil))
	v.next()
	c.Close() // waits for the viewer
	if rest, err := io.ReadAll(v.lines); err != nil || string(rest) != "\n" {
		t.Errorf("after the end: %q, %v", rest, err)
	}
	if c.enter() {
		t.Error("a viewer may enter after the end")
	}
}

func TestThereIsAMostOfViewers(t *testing.T) {
	c := newClock(Sources{})
	for range maxViewers {
		c.enter()
	}
	s := serve(t, c, nil)
	res, err := http.Get(s.URL + "/live/events")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("viewer %d: status %d", maxViewers+1, res.StatusCode)
	}
	for range maxViewers {
		c.leave()
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestAViewerThatReadsNothingHoldsUpNobody(t *testing.T) {
	c := newClock(Sources{})
	s := serve(t, c, nil)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /live/events HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	v := look(t, s)
	v.next()
	for n := range 50 { // megabytes, more than the connection holds
		for i := range tickRequests {
			c.Observe(exchange(n*tickRequests+i, nil))
		}
		c.tick()
		v.next()
	}
	s.CloseClientConnections()
	c.Close()
}

func TestTheGuardStandsBeforeFiguresAndNotBeforeThePage(t *testing.T) {
	s := serve(t, newClock(Sources{}), func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
	})
	for path, want := range map[string]int{
		"/": 200, "/live/live.js": 200, "/live/charts.js": 200, "/live/tables.js": 200, "/live/stream.js": 200, "/live/format.js": 200, "/live/live.css": 200, "/live/uplot.min.js": 200, "/live/uplot.min.css": 200, "/live/icon.svg": 200,
		"/live/state": 401, "/live/events": 401, "/live/": 404, "/elsewhere": 404,
	} {
		res, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, res.StatusCode, want)
		}
		csp := res.Header.Get("Content-Security-Policy")
		if want == 200 && (!strings.HasPrefix(csp, "default-src 'none'; script-src 'self';") || strings.Contains(csp, "unsafe") || res.Header.Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("%s: %v", path, res.Header)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
