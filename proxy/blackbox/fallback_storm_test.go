package blackbox

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"streamrelay/configs/porttest"
)

// stormUpstream is an upstream that can be killed, with every connection, and
// started again at the same address, and that counts what it saw of each
// request.
type stormUpstream struct {
	addr string
	mu   sync.Mutex
	seen map[string]int // number of the request: how often it came whole
	bad  map[string]int // … and was answered 500
}

// storm says how many requests a storm sends: 100,000 with RELAY_TEST_LONG.
func storm() int {
	if os.Getenv("RELAY_TEST_LONG") != "" {
		return 100_000
	}
	return 4_000
}

// TestAStormOverFailingUpstreamsLosesAndDoublesNothing sends requests over three
// upstreams, of which one fails 30 % and one is killed and started again all
// the time. Each request ends in a right answer or a right error, no account
// sees one twice, and the counts add up.
func TestAStormOverFailingUpstreamsLosesAndDoublesNothing(t *testing.T) {
	n := storm()
	var yaml strings.Builder
	yaml.WriteString("upstreams:\n")
	ups := make([]*stormUpstream, 3)
	var stop []func()
	for i := range ups {
		u := &stormUpstream{addr: porttest.FreeAddress(t), seen: map[string]int{}, bad: map[string]int{}}
		ups[i] = u
		fmt.Fprintf(&yaml, "  - {name: u%d, dialect: openai, base_url: \"http://%s/v1\", circuit: {failures: 5, open_for: 20ms, max_open: 200ms}, credentials: [{value: k%d}]}\n", i, u.addr, i)
	}
	for i, u := range ups[:2] {
		stop = append(stop, u.serve(t, i == 1))
	}
	done := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() { // the third one comes and goes
		u, period := ups[2], time.Second
		if n < 100_000 {
			period = 100 * time.Millisecond
		}
		for {
			end := u.serve(t, false)
			select {
			case <-time.After(period / 2):
			case <-done:
				end()
				return
			}
			end()
			select {
			case <-time.After(period / 2):
			case <-done:
				return
			}
		}
	})
	rl := startRelay(t, yaml.String()+"retry: {attempts: 3}\ntimeouts: {head: 20s}\nlog: {access: false}\n", option{silent: true})

	const clients = 16
	var next, good, failed, cut atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			c := rl.dial()
			_ = c.SetDeadline(time.Now().Add(10 * time.Minute))
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				id := fmt.Sprint("r", i)
				stream := i%2 == 0
				c.send(post("/v1/chat/completions", fmt.Sprintf(`{"model":"m","stream":%v,"user":"%s"}`, stream, id)))
				a := c.answer()
				switch {
				case a.err != nil: // a stream that was cut, and says so
					if !strings.Contains(string(a.body), `"error"`) || !stream {
						t.Errorf("%s: %v after %s", id, a.err, a.body)
					}
					cut.Add(1)
					_ = c.Close()
					c = rl.dial()
					_ = c.SetDeadline(time.Now().Add(10 * time.Minute))
				case a.status == 200:
					if !strings.Contains(string(a.body), `"`+id+`"`) || stream && !strings.HasSuffix(string(a.body), doneEvent) {
						t.Errorf("%s: 200 with %s", id, a.body)
					}
					good.Add(1)
				case a.status == 500 || a.status == 502 || a.status == 503:
					if !strings.Contains(string(a.body), `"error"`) {
						t.Errorf("%s: %d with %s", id, a.status, a.body)
					}
					failed.Add(1)
					c = rl.after(c, a)
					_ = c.SetDeadline(time.Now().Add(10 * time.Minute))
				default:
					t.Errorf("%s: status %d, %s", id, a.status, a.body)
				}
			}
		})
	}
	wg.Wait()
	close(done)
	killer.Wait()
	for _, f := range stop {
		f()
	}
	if sum := good.Load() + failed.Load() + cut.Load(); sum != int64(n) {
		t.Errorf("%d ends of %d requests", sum, n)
	}
	var whole, bad int
	for i, u := range ups {
		for id, times := range u.seen {
			if times > 1 {
				t.Errorf("upstream %d saw %s %d times", i, id, times)
			}
			whole += times
		}
		for _, times := range u.bad {
			bad += times
		}
	}
	// A client has its answer before the exchange is counted.
	eventually(t, "every exchange has ended", func() bool { return rl.tel.InFlight.Load() == 0 })
	m := rl.metrics()
	retries, requests := sumOf(m, "relay_upstream_retries_total"), sumOf(m, "relay_requests_total")
	if requests != float64(n) {
		t.Errorf("relay_requests_total is %v, want %d", requests, n)
	}
	if got := sumOf(m, "relay_requests_total", `code="200"`); got != float64(good.Load()+cut.Load()) {
		t.Errorf("relay_requests_total of 200 is %v, want %d", got, good.Load()+cut.Load())
	}
	if got := sumOf(m, "relay_upstream_errors_total", `reason="http_5xx"`); got != float64(bad) {
		t.Errorf("%v answers of 500 counted, %d given", got, bad)
	}
	if retries > float64(n)/5+100 {
		t.Errorf("%v retries of %d requests", retries, n)
	}
	// On a slow machine more kills fall on each request, and the budget of
	// retries, which follows the number of requests, runs out.
	denied := m["relay_retries_denied_total"]
	if min := float64(n) * .9; float64(good.Load())+denied < min {
		t.Errorf("only %d of %d went well, %v were denied a retry", good.Load(), n, denied)
	}
	t.Logf("%d requests: %d good, %d errors, %d cut streams; upstreams saw %d, answered 500 to %d; %v retries, %v denied",
		n, good.Load(), failed.Load(), cut.Load(), whole, bad, retries, denied)
}

// serve answers until the returned function is called, which breaks every
// connection. failing: 30 % are answered 500.
func (u *stormUpstream) serve(t *testing.T, failing bool) (stop func()) {
	t.Helper()
	ln := listenAgain(t, u.addr)
	up := serveRaw(t, ln, func(c *upstreamConn) {
		c.serve(func(rq *received) {
			_, id, _ := strings.Cut(rq.body, `"user":"`)
			id, _, _ = strings.Cut(id, `"`)
			u.mu.Lock()
			u.seen[id]++
			fails := failing && rand.IntN(10) < 3
			if fails {
				u.bad[id]++
			}
			u.mu.Unlock()
			switch {
			case fails:
				rq.reply(500, `{"error":{"message":"no"}}`)
			case strings.Contains(rq.body, `"stream":true`):
				rq.send(streamHead + chunk(`data: {"choices":[{"index":0,"delta":{"content":"`+id+`"}}]}`+"\n\n"))
				rq.send(chunk(doneEvent) + lastChunk)
			default:
				rq.reply(200, `{"for":"`+id+`"}`)
			}
		})
	})
	return up
}
