package blackbox

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"streamrelay/configs"
)

// A reload is all or nothing, streams under way keep what they began with, and
// no request fails by it.
func TestReloadIsAllOrNothingAndCutsNothing(t *testing.T) {
	release := make(chan struct{})
	up := newUpstream(t, func(rq *received) {
		if strings.Contains(rq.body, `"hold"`) {
			rq.send(streamHead + chunk(goodEvent))
			rq.await(release)
			rq.send(chunk(doneEvent) + lastChunk)
			return
		}
		rq.reply(200, rq.body)
	})
	route := func(alias string) string {
		return fmt.Sprintf("routes: [{models: [\"*\"], upstreams: [openai], rewrite_model: {m1: %s}}]\n", alias)
	}
	path := childFile(t, up, "admin: {listen: 127.0.0.1:0}\n"+route("first"))
	base, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(from, to string) {
		t.Helper()
		if !strings.Contains(string(base), from) {
			t.Fatalf("no %q in the configuration", from)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(base), from, to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := startChild(t, "serve", path, 0)
	model := func() string {
		_, a := c.speak(t, post("/v1/chat/completions", chatPlain))
		_, m, _ := strings.Cut(string(a.body), `"model":"`)
		m, _, _ = strings.Cut(m, `"`)
		return m
	}
	held := c.dial()
	held.send(post("/v1/chat/completions", strings.Replace(chatStream, "m1", "hold", 1)))
	stream := held.begin()
	stream.expect(goodEvent)
	reload := func(wantStatus int, wantText string) {
		t.Helper()
		status, _, body := ask(t, c.admin, "POST", "/reload", "")
		if status != wantStatus || !strings.Contains(body, wantText) {
			t.Errorf("reload: %d %s", status, body)
		}
	}
	if m := model(); m != "first" {
		t.Fatalf("model %q", m)
	}
	write("m1: first", "m1: second")
	reload(200, "reloaded")
	if m := model(); m != "second" {
		t.Errorf("model %q after a reload", m)
	}
	write("m1: first", "m1: third}, unknwon: {a: b")
	reload(422, "unknwon")
	write("listen: 127.0.0.1:0\n", "listen: 127.0.0.1:1\n")
	reload(422, "only a restart applies a change of listen")
	if m := model(); m != "second" {
		t.Errorf("model %q after two that were refused", m)
	}
	status, _, body := ask(t, c.admin, "GET", "/config", "")
	if status != 200 || !strings.Contains(body, "m1: second") || strings.Contains(body, upstreamKey) {
		t.Errorf("/config: %d %s", status, body)
	}
	_, _, metrics := ask(t, c.admin, "GET", "/metrics", "")
	if !strings.Contains(metrics, "relay_config_last_reload_successful 0") {
		t.Error("the refused reload is not shown")
	}
	write("m1: first", "m1: fourth")
	if err := c.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "SIGHUP reloads", func() bool { return model() == "fourth" })
	close(release)
	stream.finish(doneEvent)
}

func TestLogLevelIsChangedByTheAdminListener(t *testing.T) {
	c := startChild(t, "serve", childFile(t, untouched(t), "admin: {listen: 127.0.0.1:0}\n"), 0)
	put := func(level string) int {
		req, err := http.NewRequest("PUT", "http://"+c.admin+"/loglevel", strings.NewReader(level))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	if s := put("warn"); s != 200 {
		t.Errorf("status %d", s)
	}
	if s := put("loud"); s != 400 {
		t.Errorf("status %d", s)
	}
	if _, _, body := ask(t, c.admin, "GET", "/loglevel", ""); body != "warn\n" {
		t.Errorf("level %q", body)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestReloadsOfRandomEditsUnderTraffic edits the configuration at random, valid
// or not, and reloads it, while requests run: none fails, and what is in force
// is always one of the valid ones. 1,000 edits with RELAY_TEST_LONG.
func TestReloadsOfRandomEditsUnderTraffic(t *testing.T) {
	edits := 60
	if os.Getenv("RELAY_TEST_LONG") != "" {
		edits = 1000
	}
	up := newUpstream(t, func(rq *received) { rq.reply(200, "{}") })
	path := childFile(t, up, "admin: {listen: 127.0.0.1:0}\nroutes: [{models: [\"*\"], upstreams: [openai], rewrite_model: {m1: m2}}]\ntimeouts: {idle: 10s}\nretry: {attempts: 2}\n")
	base, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := startChild(t, "serve", path, 0)
	stop := make(chan struct{})
	var asked atomic.Int64
	var traffic sync.WaitGroup
	for range 4 {
		traffic.Go(func() {
			conn := c.dial()
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn.send(post("/v1/chat/completions", chatPlain))
				if a := conn.answer(); a.status != 200 || a.err != nil {
					t.Errorf("request during a reload: %s%s (%v)", a.head, a.body, a.err)
					return
				}
				asked.Add(1)
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	good := 0
	for i := range edits {
		text := append([]byte(nil), base...)
		if i%4 != 0 { // else a valid one
			for range 1 + rng.IntN(3) {
				switch at := rng.IntN(len(text)); rng.IntN(3) {
				case 0:
					text[at] = byte(' ' + rng.IntN(95))
				case 1:
					text = append(text[:at], text[min(at+1+rng.IntN(8), len(text)):]...)
				case 2:
					text = append(text[:at], append([]byte(fmt.Sprintf("%d", rng.IntN(1000))), text[at:]...)...)
				}
			}
			if bytes.Count(text, []byte(up.addr)) != bytes.Count(base, []byte(up.addr)) || !bytes.Contains(text, []byte(`[{models: ["*"], upstreams: [openai], rewrite_model: {m1: m2}}]`)) {
				text = append([]byte(nil), base...) // an edit that would rightly send requests elsewhere
				text = append(text, fmt.Sprintf("unknown%d: 1\n", i)...)
			}
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		status, _, body := ask(t, c.admin, "POST", "/reload", "")
		switch {
		case status == 200:
			good++
		case status != 422 || body == "":
			t.Fatalf("edit %d: status %d: %s", i, status, body)
		}
		if status != 200 && i%4 == 0 {
			t.Errorf("a valid one was refused: %s", body)
		}
	}
	close(stop)
	traffic.Wait()
	c.alive()
	t.Logf("%d edits, %d put in force, %d requests", edits, good, asked.Load())
}

// An account stays the same where its upstream is made anew, with another weight
// say: what it made is still asked for there.
func TestTiesToAccountsOutliveAReload(t *testing.T) {
	make := func(name string) func(*received) {
		return func(rq *received) { rq.reply(200, `{"id":"resp_`+name+`1","object":"response"}`) }
	}
	fl := newFleet(t, "", "", make("a"), make("b"))
	yaml := func(weight int) string {
		up := "admin: {listen: \"\"}\nupstreams:\n"
		for i, u := range fl.ups {
			up += fmt.Sprintf("  - {name: %c, dialect: openai, base_url: \"%s/v1\", weight: %d, credentials: [{value: key-of-%c}]}\n", 'a'+i, u.url, weight, 'a'+i)
		}
		return up
	}
	rl := startRelay(t, strings.TrimPrefix(yaml(1), "admin: {listen: \"\"}\n"))
	c := rl.dial()
	c.send(post("/v1/responses", `{"model":"m1","input":"x"}`))
	a := c.answer()
	_, id, _ := strings.Cut(string(a.body), `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	next := post("/v1/responses", `{"model":"m1","input":"y","previous_response_id":"`+id+`"}`)
	c.send(next)
	if a := c.answer(); a.status != 200 {
		t.Fatalf("before: %d %s", a.status, a.body)
	}
	cfg, err := configs.Parse("test", []byte(yaml(2)), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	if err := rl.srv.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	c.send(next)
	if a := c.answer(); a.status != 200 {
		t.Errorf("after a reload that changed weights: %d %s", a.status, a.body)
	}
	c.send(request("GET", "/v1/responses/"+id, ""))
	if a := c.answer(); a.status != 200 {
		t.Errorf("after a reload that changed weights: %d %s", a.status, a.body)
	}
}
