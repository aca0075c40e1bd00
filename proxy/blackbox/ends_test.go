package blackbox

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"streamrelay/telemetry"
)

// way is a way for an exchange to end, from the client's first byte to what
// the counters must say.
type way struct {
	name     string
	request  string               // "": client sends it
	upstream func(*received)      // nil: never reached
	client   func(*client) string // reads what it wants; "" is as it should be

	end     telemetry.EndReason
	status  int
	stream  bool // a streamed answer began
	unknown bool // an answer of a model came without usage
	in, out int64
}

// wayModel makes a request for the model name, by which the upstream knows
// what to do and the route which deadlines count.
func wayModel(model string, stream bool) string {
	return post("/v1/chat/completions", fmt.Sprintf(`{"model":%q,"stream":%t}`, model, stream))
}

// reads expects a whole answer.
func reads(status int, clean bool, has string) func(*client) string {
	return func(c *client) string {
		a, err := c.tryBegin("POST")
		if err != nil {
			return err.Error()
		}
		body, err := a.rest()
		if a.status != status || (err == nil) != clean || !strings.Contains(body, has) {
			return fmt.Sprintf("status %d, %s (%v)", a.status, clip([]byte(body)), err)
		}
		return ""
	}
}

// leaves goes after so many bytes of the body.
func leaves(after int) func(*client) string {
	return func(c *client) string {
		defer c.Close()
		a, err := c.tryBegin("POST")
		if err == nil {
			_, err = io.ReadFull(a, make([]byte, after))
		}
		if err != nil {
			return err.Error()
		}
		return ""
	}
}

// leavesOnceAsked is a way that ends when the upstream has the request: each
// has a number by which its client hears of it.
func leavesOnceAsked(name string) way {
	var last atomic.Int64
	var asked sync.Map // number: chan struct{}
	return way{
		name: name, end: telemetry.ClientGone, status: 499,
		upstream: func(rq *received) {
			_, rest, _ := strings.Cut(rq.body, `"user":"`)
			number, _, _ := strings.Cut(rest, `"`)
			if ch, ok := asked.Load(number); ok {
				close(ch.(chan struct{}))
			}
			rq.gone()
		},
		client: func(c *client) string {
			defer c.Close()
			number, ch := strconv.FormatInt(last.Add(1), 10), make(chan struct{})
			asked.Store(number, ch)
			_, _ = io.WriteString(c.Conn, post("/v1/chat/completions", fmt.Sprintf(`{"model":%q,"stream":true,"user":%q}`, name, number)))
			select {
			case <-ch:
				return ""
			case <-time.After(patience):
				return "the upstream was never asked"
			}
		},
	}
}

// waits keeps the connection open until the relay closes it.
func waits(sent string) func(*received) {
	return func(rq *received) {
		rq.send(sent)
		rq.gone()
	}
}

func sends(sent string) func(*received) { return func(rq *received) { rq.send(sent) } }

func cutting(sent string) func(*received) {
	return func(rq *received) {
		rq.send(sent)
		rq.close()
	}
}

// ways are all that can be provoked from outside: limits of keys are not in
// this test's configuration, and no panic is known.
func ways() []way {
	whole := chunk(content("a")) + chunk(finalEvent) + chunk(usageEvent) + chunk(doneEvent)
	shown := len(content("a") + finalEvent + doneEvent)
	part := streamHead + chunk(content("a"))
	usage := `{"usage":{"prompt_tokens":12,"completion_tokens":34}}`
	return []way{
		{name: "completed", request: wayModel("completed", true), upstream: sends(streamHead + whole + lastChunk), client: reads(200, true, doneEvent), status: 200, stream: true, in: 12, out: 34},
		{name: "old", request: http10(wayModel("old", true)), upstream: sends(streamHead + whole + lastChunk), client: reads(200, true, doneEvent), status: 200, stream: true, in: 12, out: 34},
		{name: "json", request: wayModel("json", false), upstream: sends(reply(200, usage)), client: reads(200, true, usage), status: 200, in: 12, out: 34},
		{name: "nousage", request: wayModel("nousage", false), upstream: sends(reply(200, "{}")), client: reads(200, true, "{}"), status: 200, unknown: true},
		{name: "left-after-done", request: wayModel("left-after-done", true), upstream: waits(streamHead + whole), client: leaves(shown), status: 200, stream: true, in: 12, out: 34},
		leavesOnceAsked("left-before-head"),
		{name: "left-mid-stream", request: wayModel("left-mid-stream", true), upstream: waits(part), client: leaves(10), end: telemetry.ClientGone, status: 200, stream: true, unknown: true},
		{name: "left-json", request: wayModel("left-json", false), upstream: waits("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n\n"), client: leaves(1), end: telemetry.ClientGone, status: 200, unknown: true},
		{name: "cut-head", request: wayModel("cut-head", true), upstream: cutting(""), client: reads(502, true, "upstream_error"), end: telemetry.UpstreamCut, status: 502},
		{name: "cut-stream", request: wayModel("cut-stream", true), upstream: cutting(part), client: reads(200, false, "upstream_error"), end: telemetry.UpstreamCut, status: 200, stream: true, unknown: true},
		{name: "cut-usage", request: wayModel("cut-usage", true), upstream: cutting(part + chunk(usageEvent)), client: reads(200, false, "upstream_error"), end: telemetry.UpstreamCut, status: 200, stream: true, in: 12, out: 34},
		{name: "error-event", request: wayModel("error-event", true), upstream: sends(part + chunk("data: {\"error\":{\"message\":\"x\"}}\n\n") + lastChunk), client: reads(200, true, "error"), end: telemetry.UpstreamError, status: 200, stream: true, unknown: true},
		{name: "garbage", request: wayModel("garbage", true), upstream: cutting("SMTP\r\n\r\n"), client: reads(502, true, "upstream_error"), end: telemetry.UpstreamError, status: 502},
		{name: "bad-chunk", request: wayModel("bad-chunk", true), upstream: waits(part + "zz"), client: reads(200, false, "upstream_error"), end: telemetry.UpstreamError, status: 200, stream: true, unknown: true},
		{name: "endless", request: wayModel("endless", true), upstream: waits(streamHead + chunk(strings.Repeat("x", 1<<20+1))), client: reads(200, false, "answer_too_large"), end: telemetry.UpstreamError, status: 200, stream: true, unknown: true},
		{name: "status-400", request: wayModel("status-400", true), upstream: sends(reply(400, "{}")), client: reads(400, true, "{}"), end: telemetry.UpstreamStatus, status: 400},
		{name: "status-429", request: wayModel("status-429", true), upstream: sends(reply(429, "{}")), client: reads(429, true, "{}"), end: telemetry.UpstreamStatus, status: 429},
		{name: "status-503", request: wayModel("status-503", true), upstream: sends(reply(503, "{}")), client: reads(503, true, "{}"), end: telemetry.UpstreamStatus, status: 503},
		{name: "status-401", request: wayModel("status-401", true), upstream: sends(reply(401, "{}")), client: reads(502, true, "upstream_auth"), end: telemetry.UpstreamStatus, status: 502},
		{name: "late-connect", request: wayModel("late-connect", true), client: reads(504, true, "upstream_timeout"), end: telemetry.TimeoutConnect, status: 504},
		{name: "late-head", request: wayModel("late-head", true), upstream: waits(""), client: reads(504, true, "upstream_timeout"), end: telemetry.TimeoutHead, status: 504},
		{name: "late-first", request: wayModel("late-first", true), upstream: waits(streamHead), client: reads(200, false, "upstream_timeout"), end: telemetry.TimeoutFirstEvent, status: 200, stream: true, unknown: true},
		{name: "late-idle", request: wayModel("late-idle", true), upstream: waits(part), client: reads(200, false, "upstream_timeout"), end: telemetry.TimeoutIdle, status: 200, stream: true, unknown: true},
		{name: "late-total", request: wayModel("late-total", true), upstream: waits(part), client: reads(200, false, "upstream_timeout"), end: telemetry.TimeoutTotal, status: 200, stream: true, unknown: true},
		{name: "denied-key", request: strings.Replace(wayModel("m", true), testKey, "sk-wrong", 1), client: reads(401, true, "invalid_api_key"), end: telemetry.Denied, status: 401},
		{name: "denied-body", request: post("/v1/chat/completions", `{"model":`), client: reads(400, true, "invalid_request_error"), end: telemetry.Denied, status: 400},
		{name: "denied-path", request: request("GET", "/v2/x", ""), client: reads(404, true, "unknown_url"), end: telemetry.Denied, status: 404},
		{name: "shed", request: post("/v1/chat/completions", strings.Repeat(" ", 700<<10)), client: reads(503, true, "overloaded"), end: telemetry.Shed, status: 503},
	}
}

const waysYAML = `
limits: {max_stream: 1MiB, max_body: 1MiB, max_held: 1MiB}
stream: {carrier: %s}
upstreams:
  - {name: up, dialect: openai, base_url: "%s/v1"}
  - {name: unshaken, dialect: openai, base_url: "https://%s/v1", timeouts: {connect: 100ms}}
  - {name: head, dialect: openai, base_url: "%[2]s/v1", timeouts: {head: 100ms}}
  - {name: first, dialect: openai, base_url: "%[2]s/v1", timeouts: {first_event: 100ms}}
  - {name: idle, dialect: openai, base_url: "%[2]s/v1", timeouts: {idle: 100ms}}
  - {name: total, dialect: openai, base_url: "%[2]s/v1", timeouts: {total: 2s}}
routes:
  - {models: [late-connect], upstreams: [unshaken]}
  - {models: [late-head], upstreams: [head]}
  - {models: [late-first], upstreams: [first]}
  - {models: [late-idle], upstreams: [idle]}
  - {models: [late-total], upstreams: [total]}
  - {models: ["*"], upstreams: [up]}
`

// A thousand exchanges, most of them streams, end in every way; afterwards
// nothing is left of them, and the counters say exactly what was sent.
func TestAThousandExchangesEndInEveryWayAndLeaveNothing(t *testing.T) {
	for _, carrier := range carriers {
		t.Run(carrier, func(t *testing.T) {
			_, goroutines := running()
			files := openFiles(t)
			t.Run("ends", func(t *testing.T) { endInEveryWay(t, carrier) })
			eventually(t, "all goroutines to end", func() bool {
				_, n := running()
				return n <= goroutines
			})
			eventually(t, "all files to be closed", func() bool { return openFiles(t) <= files })
		})
	}
}

// running returns the stacks of the goroutines that run, and their number,
// without those of fasthttp that TestMain knows: they end by and by.
func running() (stacks string, n int) {
	buf := make([]byte, 1<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "connsCleaner") || strings.Contains(g, "updateServerDate") || strings.Contains(g, "workerPool).Start") {
			continue
		}
		stacks += g + "\n\n"
		n++
	}
	return stacks, n
}

// openFiles counts this process's descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(list)
}

func endInEveryWay(t *testing.T, carrier string) {
	list := ways()
	scripts := make(map[string]func(*received), len(list))
	for _, w := range list {
		scripts[w.name] = w.upstream
	}
	up := newUpstream(t, func(rq *received) {
		_, rest, _ := strings.Cut(rq.body, `"model":"`)
		model, _, _ := strings.Cut(rest, `"`)
		if script := scripts[model]; script != nil {
			script(rq)
			return
		}
		rq.reply(500, `"an unexpected request"`)
	})
	unshaken := newRawUpstream(t, nil, func(c *upstreamConn) { _, _ = io.Copy(io.Discard, c.r) })
	rl := startRelay(t, fmt.Sprintf(waysYAML, carrier, up.url, unshaken.addr))

	// As long as this one's body is held, no second large one can be.
	holder := rl.dial()
	holder.send(request("POST", "/v1/chat/completions", "", "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", 700<<10)))
	holder.send(strings.Repeat(" ", 64<<10))
	eventually(t, "a body to be held", func() bool { return rl.tel.HeldBytes.Load() > 512<<10 })

	const each = 36
	jobs := make(chan way)
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			var c *client
			for w := range jobs {
				if c == nil {
					c = rl.dial()
				}
				_, _ = io.WriteString(c.Conn, w.request)
				if wrong := w.client(c); wrong != "" {
					t.Errorf("%s: %s", w.name, wrong)
				}
				if w.end != telemetry.Completed || w.name == "old" || w.name == "left-after-done" || rand.IntN(4) == 0 {
					_ = c.Close()
					c = nil
				}
			}
			if c != nil {
				_ = c.Close()
			}
		})
	}
	for range each {
		for _, i := range rand.Perm(len(list)) {
			jobs <- list[i]
		}
	}
	close(jobs)
	wg.Wait()
	_ = holder.Close()
	records := rl.wait(each*len(list) + 1)
	rl.checkIdle()
	checkEnds(t, list, records, each)
	checkCounters(t, rl.metrics(), list, each)
	rl.checkIdle()
}

// checkEnds compares the records with what was sent, way by way.
func checkEnds(t *testing.T, list []way, records []record, each int) {
	t.Helper()
	got, want := make(map[string]int), make(map[string]int)
	for _, r := range records {
		if r.Duration <= 0 {
			t.Errorf("a record without a duration: %+v", r)
		}
		got[fmt.Sprintf("%s %s %d, %d/%d tokens", modelOr(r.Model), r.End, r.Status, r.Usage.Input, r.Usage.Output)]++
	}
	for _, w := range list {
		model := w.name
		if w.end == telemetry.Denied || w.end == telemetry.Shed {
			model = ""
		}
		in, out := w.in, w.out
		if in == 0 {
			in, out = -1, -1
		}
		want[fmt.Sprintf("%s %s %d, %d/%d tokens", modelOr(model), w.end, w.status, in, out)] += each
	}
	want["no model client_gone 499, -1/-1 tokens"]++ // the holder
	for k, n := range want {
		if got[k] != n {
			t.Errorf("%d records %q, want %d", got[k], k, n)
		}
	}
	for k, n := range got {
		if want[k] == 0 {
			t.Errorf("%d records %q, want none", n, k)
		}
	}
}

func modelOr(model string) string {
	if model == "" {
		return "no model"
	}
	return model
}

// checkCounters compares the metrics with what was sent.
func checkCounters(t *testing.T, m map[string]float64, list []way, each int) {
	t.Helper()
	want := map[string]float64{
		`relay_end_reasons_total reason="client_gone"`: 1, `relay_requests_total code="499"`: 1, // the holder
		`relay_tenant_requests_total tenant="acme"`: 1, "relay_request_duration_seconds_count": 1,
	}
	n := float64(each)
	for r := telemetry.Completed; r <= telemetry.Internal; r++ {
		want[fmt.Sprintf("relay_end_reasons_total reason=%q", r)] += 0
	}
	for _, w := range list {
		want[fmt.Sprintf("relay_end_reasons_total reason=%q", w.end)] += n
		want[fmt.Sprintf(`relay_requests_total code="%d"`, w.status)] += n
		want["relay_request_duration_seconds_count"] += n
		if w.status != 401 && w.status != 404 {
			want[`relay_tenant_requests_total tenant="acme"`] += n
		}
		if w.stream {
			want["relay_streams_total"] += n
			if w.end != telemetry.Completed {
				want["relay_stream_aborts_total"] += n
			}
		}
		if w.unknown {
			want["relay_usage_unknown_total"] += n
		}
		want[`relay_tokens_total type="input"`] += n * float64(w.in)
		want[`relay_tokens_total type="output"`] += n * float64(w.out)
		want[`relay_tenant_tokens_total type="input"`] += n * float64(w.in)
		want[`relay_tenant_tokens_total type="output"`] += n * float64(w.out)
	}
	for _, name := range []string{"relay_inflight_requests", "relay_active_streams", "relay_held_bytes", "relay_panics_total", "relay_accept_errors_total"} {
		want[name] = 0
	}
	want["relay_open_connections"] = 1 // the scraper
	want[`relay_rejected_total reason="held_bytes"`] = n
	want[`relay_rejected_total reason="bad_body"`] = n
	want[`relay_rejected_total reason="not_found"`] = n
	want["relay_auth_failures_total"] = n
	for k, v := range want {
		family, labels, _ := strings.Cut(k, " ")
		if got := sumOf(m, family, labels); got != v {
			t.Errorf("%s is %v, want %v", k, got, v)
		}
	}
}
