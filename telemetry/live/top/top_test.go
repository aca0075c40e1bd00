package top

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"

	"streamrelay/telemetry"
	"streamrelay/telemetry/live"
)

var update = flag.Bool("update", false, "write the golden files anew")

const patience = 30 * time.Second

// snapshot is a relay with something of everything.
func snapshot() *live.Snapshot {
	at := time.Date(2026, 11, 24, 23, 58, 1, 0, time.UTC)
	use := func(rate, failed, ttft float64, total uint64) live.Use {
		return live.Use{Requests: live.Number(rate), Failed: live.Number(failed), TokensIn: live.Number(rate * 700), TokensOut: live.Number(rate * 40), TTFT: live.Number(ttft), TotalRequests: total}
	}
	s := &live.Snapshot{
		Seq: 4000, Time: at.Unix(),
		Relay:  live.Relay{Version: "1.2.3", Revision: "abc", PID: 4711, Started: at.Add(-67 * time.Minute), Ready: true, State: "ready", Reload: live.Reload{OK: true, At: at}},
		Totals: live.Totals{Requests: 1234567, Failed: 1234},
		Point: live.Values{"requests": 512.5, "failed": 12, "streams": 803, "in_flight": 910, "connections": 1200, "tokens_out": 20480, "tokens_in": 358000,
			"ttft_p50": .184, "ttft_p99": .392, "gap_p50": .0229, "gap_p99": .0498, "added_p50": 5.4e-6, "added_p99": 71e-6, "duration_p50": 1.08, "duration_p99": 3.5},
		Upstreams: []live.Upstream{
			{Name: "siliconflow", State: "up", Connections: 730, Idle: 20, InFlight: 710, Use: use(400, 8, .199, 1000000), Credentials: []live.Credential{{Name: "main", State: "resting"}, {Name: "second", State: "up"}}},
			{Name: "backup", State: "half_open", Connections: 38, Idle: 29, InFlight: 9, Use: use(110, 44, .196, 234000), Credentials: []live.Credential{{Name: "0", State: "refused"}}},
			{Name: "spare\x1b]0;title\x07", State: "down", Use: use(0, 0, math.NaN(), 567)},
		},
		Tenants: []live.Ranked{{Name: "acme", Use: use(300, 3, .19, 700000)}, {Name: "globex", Use: use(120, 20, .21, 300000)}, {Name: "a\u202eb", Use: use(60, 0, math.NaN(), 1000)}, {Use: use(32, 0, .2, 233567)}},
		Models:  []live.Ranked{{Name: "Qwen/Qwen2.5-7B-Instruct", Use: use(310, 4, .19, 800000)}, {Name: "模型/大语言", Use: use(100, 0, .2, 100000)}},
		Log:     live.RequestLog{Kind: "clickhouse", Appended: 1234567, Stored: 1234000, Waiting: 567, Shards: []live.Shard{{Name: "ch1:9000", Up: false}}},
		Keys:    live.Keys{Store: "redis", Ready: true, Phase: "ready", Keys: 12},
		History: &live.History{From: at.Unix() - 29, Seconds: 30, Columns: map[string]live.Column{"requests": make(live.Column, 30)}},
	}
	column := s.History.Columns["requests"]
	for i := range column {
		column[i] = float32(i * 17 % 23 * 20)
	}
	column[10] = float32(math.NaN())
	for i := range 40 {
		r := live.Request{
			Time: at.Add(time.Duration(i-40) * 25 * time.Millisecond).UnixMilli(), ID: fmt.Sprintf("req-%02d", i), Tenant: "acme", Endpoint: "chat_completions", Model: "Qwen/Qwen2.5-7B-Instruct", Upstream: "siliconflow",
			Status: 200, End: "completed", Stream: true, TTFT: live.Number(.1 + float64(i)/1000), Duration: 1 + float64(i*7%40)/10, TokensIn: 700, TokensOut: live.Number(i * 13 % 97), Attempts: 1,
		}
		switch {
		case i%9 == 0:
			r.Status, r.End, r.Failed, r.TTFT, r.TokensIn, r.TokensOut, r.Upstream, r.Attempts, r.Code = 429, "limited", true, live.Number(math.NaN()), live.Number(math.NaN()), live.Number(math.NaN()), "", 0, "rate_limit"
		case i%11 == 0:
			r.End, r.Model = "client_gone", "模型/大语言-超长的名字-超长的名字-超长的名字"
		case i%13 == 0:
			r.Model = "evil\x1b[2J\x1b]52;c;cm0=\x07\r\nmodel"
		}
		s.Requests = append(s.Requests, r)
	}
	return s
}

func boardOf(t *testing.T, s *live.Snapshot) *board {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	b := new(board)
	if err := b.take(event{name: "state", raw: raw}); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestThePictureFitsTheTerminal(t *testing.T) {
	for _, one := range []struct {
		name          string
		width, height int
		colour        bool
		keys          string
	}{{"80x24", 80, 24, false, ""}, {"140x40", 140, 40, false, ""}, {"140x40.colour", 140, 40, true, ""}, {"200x50.failed", 200, 50, false, "ess/acme\r"}, {"80x24.typing", 80, 24, false, "/glob"}} {
		b := boardOf(t, snapshot())
		for _, k := range one.keys {
			if b.key(k) {
				t.Fatalf("%q ends it", k)
			}
		}
		got := render(b, one.width, one.height, one.colour)
		lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
		if len(lines) > one.height {
			t.Errorf("%s: %d lines", one.name, len(lines))
		}
		for i, l := range lines {
			if n := uniseg.StringWidth(withoutColour(l)); n > one.width {
				t.Errorf("%s: line %d takes %d cells: %s", one.name, i, n, l)
			}
		}
		if strings.ContainsAny(withoutColour(got), "\x1b\x07\r\u202e") {
			t.Errorf("%s: what a client chose reaches the terminal", one.name)
		}
		golden(t, one.name+".txt", got)
	}
}

func withoutColour(s string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, "\x1b[")
		if i < 0 {
			break
		}
		j := i + 2
		for j < len(s) && (s[j] >= '0' && s[j] <= '9' || s[j] == ';') {
			j++
		}
		if j == len(s) || s[j] != 'm' { // not a colour: the test is to see it
			b.WriteString(s[:j])
			s = s[j:]
			continue
		}
		b.WriteString(s[:i])
		s = s[j+1:]
	}
	return b.String() + s
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew); got:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestAnySizeOfTerminalIsDrawn(t *testing.T) {
	b := boardOf(t, snapshot())
	empty := boardOf(t, &live.Snapshot{})
	for width := 1; width <= 220; width += 3 {
		for _, height := range []int{1, 5, 24, 80} {
			for _, board := range []*board{b, empty, {}, {lost: "gone"}} {
				for _, l := range strings.Split(render(board, width, height, false), "\n") {
					if n := uniseg.StringWidth(l); n > width {
						t.Fatalf("%dx%d: a line takes %d cells: %s", width, height, n, l)
					}
				}
			}
		}
	}
}

func TestKeysChangeWhatIsShown(t *testing.T) {
	b := boardOf(t, snapshot())
	press := func(keys string) {
		t.Helper()
		for _, k := range keys {
			if b.key(k) {
				t.Fatalf("%q ends it", k)
			}
		}
	}
	first := func(want string, n int) {
		t.Helper()
		list := b.requests()
		if len(list) != n || n > 0 && list[0].ID != want {
			t.Errorf("%d requests, the first %+v; want %d and %s", len(list), list, n, want)
		}
	}
	first("req-39", 40)
	press("e")
	first("req-36", 5)
	press("e/LIMITED -req-36\r")
	first("req-27", 4)
	press("/\x15client_gonx\x7fe\r")
	first("req-33", 3)
	press("\x1b")
	first("req-39", 40)
	press("s")
	first("req-39", 40)
	press("s")
	first("req-17", 40) // 1 + 39/10 s
	press("ss")
	press("p")
	tick, err := json.Marshal(&live.Snapshot{Seq: 4001, Time: b.s.Time + 3, Seconds: 1, Point: live.Values{"requests": 1}, Requests: []live.Request{{ID: "new", Time: b.s.Time*1000 + 2000}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.take(event{name: "tick", raw: tick}); err != nil {
		t.Fatal(err)
	}
	first("req-39", 40)
	press("p")
	first("new", 41)
	if n := len(b.spark); n != 33 || b.spark[31] == b.spark[31] || b.spark[32] != 1 {
		t.Errorf("the line of requests: %v", b.spark)
	}
	for _, k := range []rune{'q', 'Q', 3} {
		if !b.key(k) {
			t.Errorf("%q does not end it", k)
		}
	}
	if b.key('/'); b.key('q') || !b.key(3) {
		t.Error("while the filter is typed, q is a letter and Ctrl-C ends")
	}
}

func TestArrowsAreNoKeys(t *testing.T) {
	keys := make(chan rune)
	go func() {
		readKeys(strings.NewReader("\x1b[A"), keys)
		readKeys(strings.NewReader("é/"), keys)
		readKeys(strings.NewReader("\x1b"), keys)
		close(keys)
	}()
	var got []rune
	for k := range keys {
		got = append(got, k)
	}
	if string(got) != "é/\x1b" {
		t.Errorf("read %q", string(got))
	}
}

// relay serves the page of a relay that has taken one request.
func relay(t *testing.T, guard func(http.Handler) http.Handler) *httptest.Server {
	t.Helper()
	l := live.New(live.Options{Version: "1.2.3", Endpoints: []string{"chat_completions"}})
	l.SetUpstreams([]int{0}, []string{"alpha"})
	l.Start(live.Sources{})
	l.Observe(&telemetry.Request{RequestID: []byte("req-1"), Start: time.Now().UnixNano(), Model: []byte("m1"), Tenant: []byte("acme"), Status: 200, Attempts: 1, Duration: 1e9})
	if guard == nil {
		guard = func(next http.Handler) http.Handler { return next }
	}
	s := httptest.NewServer(l.Handler(guard))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		l.Close()
	})
	return s
}

// run runs `relay top`, until done holds of what it has printed.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := Command()
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.Execute()
	return out.String(), err
}

func TestOncePrintsTextOrJSON(t *testing.T) {
	s := relay(t, nil)
	for limit := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) { // until the second of the request has ended
		text, err := run(t, "--url", s.URL)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "m1") && strings.Contains(text, "acme") && strings.Contains(text, "Stream Relay 1.2.3") {
			if strings.Contains(text, "\x1b") || strings.Contains(text, "q quit") {
				t.Errorf("not plain: %q", text)
			}
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("it prints %s", text)
		}
	}
	raw, err := run(t, "--url", s.URL+"/", "--once", "--json")
	var got live.Snapshot
	if err != nil || json.Unmarshal([]byte(raw), &got) != nil || got.Totals.Requests != 1 || got.Requests[0].ID != "req-1" || strings.Count(raw, "\n") != 1 {
		t.Errorf("%v: %s", err, raw)
	}
}

func TestAMistakeSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte("wrong-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	closed := httptest.NewServer(http.NotFoundHandler())
	other := closed.URL
	defer closed.Close()
	guarded := relay(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
	})
	for _, one := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"--url", guarded.URL}, "the relay asks for a token: give --token-file the file that admin.token_file names", 1},
		{[]string{"--url", guarded.URL, "--json"}, "the relay asks for a token", 1},
		{[]string{"--url", guarded.URL, "--token-file", file}, "the relay does not take the token of --token-file", 1},
		{[]string{"--url", other}, "has no live page: --url wants the admin listener of a relay", 1},
		{[]string{"--url", "unix:" + dir + "/nobody.sock"}, "no such file", 1},
		{[]string{"--url", "127.0.0.1:9090"}, "--url: want the admin listener as http://host:port, https://… or unix:/path", 2},
		{[]string{"--url", "http://user:pass@host"}, "--url: want", 2},
		{[]string{"--token-file", dir + "/none"}, "--token-file: open", 2},
		{[]string{"--interval", "1ms"}, "--interval: want 100ms to 1h", 2},
	} {
		_, err := run(t, one.args...)
		if err == nil || !strings.Contains(err.Error(), one.want) || strings.Contains(err.Error(), "wrong-token") {
			t.Errorf("%q: %v, want %s", one.args, err, one.want)
			continue
		}
		code := 1
		if coded, ok := err.(interface{ ExitCode() int }); ok {
			code = coded.ExitCode()
		}
		if code != one.code {
			t.Errorf("%q: exit code %d, want %d", one.args, code, one.code)
		}
	}
}

// pictures is a terminal that says when something is drawn.
type pictures struct{ came chan string }

func (p *pictures) Write(b []byte) (int, error) {
	p.came <- string(b)
	return len(b), nil
}

func TestItRedrawsUntilQAndOutlivesTheRelay(t *testing.T) {
	s := relay(t, nil)
	c, err := newClient(s.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.http.CloseIdleConnections()
	screen, keys, ended := &pictures{make(chan string)}, make(chan rune), make(chan error, 1)
	o := options{interval: 100 * time.Millisecond}
	go func() {
		ended <- o.loop(context.Background(), c, screen, func() (int, int) { return 100, 30 }, keys, nil)
	}()
	until := func(text string) {
		t.Helper()
		for limit := time.After(patience); ; {
			select {
			case p := <-screen.came:
				if strings.Contains(withoutColour(p), text) {
					return
				}
			case err := <-ended:
				t.Fatalf("ended: %v", err)
			case <-limit:
				t.Fatalf("never drawn: %s", text)
			}
		}
	}
	until("live")
	until("m1")
	go func() { keys <- 'e' }()
	until("failed only")
	s.CloseClientConnections()
	s.Listener.Close()
	until("reconnecting")
	go func() { keys <- 'q' }()
	for limit := time.After(patience); ; {
		select {
		case <-screen.came:
			continue
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-limit:
			t.Error("q does not end it")
		}
		break
	}
}
