package blackbox

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// ask sends one plain request and returns the status.
func (f *fleet) ask() int {
	f.t.Helper()
	c := f.dial()
	defer c.Close()
	c.send(post("/v1/chat/completions", chatPlain))
	return c.answer().status
}

func TestAModelOfAnAccountRestsForItsRetryAfter(t *testing.T) {
	fl := newFleet(t, "", "", func(rq *received) {
		if strings.Contains(rq.body, `"m1"`) {
			status(429, "Retry-After: 100")(rq)
		} else {
			ok("a")(rq)
		}
	}, ok("b"))
	for range 3 {
		if s := fl.ask(); s != 200 {
			t.Fatalf("status %d", s)
		}
	}
	if got := fl.order(t); got != "abbb" {
		t.Errorf("sent to %s", got)
	}
	m := fl.metrics()
	if m[`relay_upstream_credential_state{upstream="a",credential="0",state="resting"}`] != 1 || m[`relay_upstream_state{upstream="a",state="up"}`] != 1 {
		t.Error("the states are not shown")
	}
	fl.forget()
	if _, a := fl.speak(t, post("/v1/chat/completions", strings.Replace(chatPlain, "m1", "m2", 1))); a.status != 200 || fl.order(t) != "a" {
		t.Errorf("another model: status %d, sent to %s", a.status, fl.order(t))
	}
	eventually(t, "one line about it", func() bool { return strings.Count(fl.log.String(), `"state":"resting"`) == 1 })
}

func TestARefusedCredentialIsUsedOnlyWhereNothingElseIsLeft(t *testing.T) {
	fl := newFleet(t, "", "", status(401), ok("b"))
	for i, want := range []string{"ab", "abb", "abbb"} {
		if s := fl.ask(); s != 200 || fl.order(t) != want {
			t.Errorf("request %d: status %d, sent to %s", i+1, s, fl.order(t))
		}
	}
	// The provider's 401 says nothing about the client's key.
	sole := newFleet(t, "", "", status(401))
	if _, a := sole.speak(t, post("/v1/chat/completions", chatPlain)); a.status != 502 || !strings.Contains(string(a.body), "upstream_auth") {
		t.Errorf("%s%s", a.head, a.body)
	}
	if s := sole.ask(); s != 502 || sole.order(t) != "aa" {
		t.Errorf("a sole account must be asked again: %d, %s", s, sole.order(t))
	}
}

func TestACircuitOpensAfterFailuresInARowAndOneProbeClosesIt(t *testing.T) {
	var bad atomic.Bool
	bad.Store(true)
	fl := newFleet(t, "circuit: {failures: 3, open_for: 300ms, max_open: 300ms}, ", "", func(rq *received) {
		if bad.Load() {
			status(500)(rq)
		} else {
			ok("a")(rq)
		}
	}, ok("b"))
	for range 6 {
		if s := fl.ask(); s != 200 {
			t.Fatalf("status %d", s)
		}
	}
	if got := fl.order(t); got != "ababab"+"bbb" {
		t.Errorf("sent to %s", got)
	}
	if fl.metrics()[`relay_upstream_state{upstream="a",state="open"}`] != 1 {
		t.Error("the state is not shown")
	}
	bad.Store(false)
	eventually(t, "the probe closes it", func() bool {
		fl.ask()
		return fl.metrics()[`relay_upstream_state{upstream="a",state="up"}`] == 1
	})
	fl.forget()
	if fl.ask() != 200 || fl.order(t) != "a" {
		t.Errorf("sent to %s", fl.order(t))
	}
	eventually(t, "the log says it", func() bool { return strings.Contains(fl.log.String(), `"why":"the probe was answered"`) })
	if log := fl.log.String(); strings.Count(log, `"state":"open"`) != 1 || strings.Count(log, `"why":"the probe was answered"`) != 1 {
		t.Error("not one line for each change")
	}
}

// While an upstream is half-open, one exchange finds out, and its stream may
// last: the others go back as soon as it was answered.
func TestAProbeThatStreamsOpensTheWayWithItsHead(t *testing.T) {
	var bad atomic.Bool
	bad.Store(true)
	release := make(chan struct{})
	fl := newFleet(t, "circuit: {failures: 1, open_for: 10ms, max_open: 10ms}, ", "", func(rq *received) {
		switch {
		case bad.Load():
			status(500)(rq)
		case strings.Contains(rq.body, "stream"):
			rq.send(streamHead + chunk(goodEvent))
			rq.await(release)
			rq.send(chunk(doneEvent) + lastChunk)
		default:
			ok("a")(rq)
		}
	}, ok("b"))
	fl.ask()
	bad.Store(false)
	c := fl.dial()
	eventually(t, "the probe is on its way", func() bool {
		time.Sleep(20 * time.Millisecond)
		c.send(post("/v1/chat/completions", chatStream))
		a := c.begin()
		if strings.HasPrefix(a.get("Content-Type"), "text/event-stream") {
			return true
		}
		_, _ = a.rest()
		return false
	})
	fl.forget()
	if fl.ask() != 200 || fl.order(t) != "a" {
		t.Errorf("sent to %s", fl.order(t))
	}
	close(release)
}

func TestAHealthCheckTakesAnUpstreamOutAndIn(t *testing.T) {
	var sick atomic.Bool
	answer := func(name string) func(*received) {
		return func(rq *received) {
			if strings.HasPrefix(rq.line, "GET /v1/models") && name == "a" && sick.Load() {
				status(503)(rq)
				return
			}
			ok(name)(rq)
		}
	}
	fl := newFleet(t, "health_check: {path: /models, interval: 10ms}, ", "", answer("a"), answer("b"))
	state := func(s string) func() bool {
		return func() bool { return fl.metrics()[`relay_upstream_state{upstream="a",state="`+s+`"}`] == 1 }
	}
	sick.Store(true)
	eventually(t, "a is down", state("down"))
	for range 3 {
		if _, a := fl.speak(t, post("/v1/chat/completions", chatPlain)); string(a.body) != `{"from":"b"}` {
			t.Errorf("answered by %s", a.body)
		}
	}
	sick.Store(false)
	eventually(t, "a is up", state("up"))
	if _, a := fl.speak(t, post("/v1/chat/completions", chatPlain)); string(a.body) != `{"from":"a"}` {
		t.Errorf("answered by %s", a.body)
	}
}

func TestASoleAccountIsAskedAgainAfterTheTimeThatItNamed(t *testing.T) {
	for _, code := range []int{429, 503} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			var asked atomic.Int64
			var first, second atomic.Int64
			script := func(rq *received) {
				if asked.Add(1) == 1 {
					first.Store(time.Now().UnixNano())
					status(code, "Retry-After-Ms: 300")(rq)
				} else {
					second.Store(time.Now().UnixNano())
					ok("a")(rq)
				}
			}
			fl := newFleet(t, "", "retry: {max_wait: 1s}\n", script)
			if s := fl.ask(); s != 200 || fl.order(t) != "aa" {
				t.Errorf("status %d, sent to %s", s, fl.order(t))
			}
			if d := time.Duration(second.Load() - first.Load()); d < 300*time.Millisecond {
				t.Errorf("asked again after %v", d)
			}
			// Longer than retry.max_wait: the client is told.
			fl = newFleet(t, "", "retry: {max_wait: 100ms}\n", status(code, "Retry-After: 1"))
			if _, a := fl.speak(t, post("/v1/chat/completions", chatPlain)); a.status != code || a.get("Retry-After") != "1" || fl.order(t) != "a" {
				t.Errorf("%s, sent to %s", a.head, fl.order(t))
			}
		})
	}
}

func TestAClientThatLeavesEndsTheWaitForAnAccount(t *testing.T) {
	fl := newFleet(t, "", "retry: {max_wait: 1h}\n", status(429, "Retry-After: 3000"))
	c := fl.dial()
	c.send(post("/v1/chat/completions", chatPlain))
	eventually(t, "the account has answered", func() bool { return strings.Contains(fl.log.String(), `"state":"resting"`) })
	_ = c.Close()
	if r := fl.one(); r.Status != 499 {
		t.Errorf("status %d", r.Status)
	}
}

// The retries of all requests together stay below a fifth of them, but for
// what was saved.
func TestRetriesAreBounded(t *testing.T) {
	fl := newFleet(t, "circuit: {failures: 0}, ", "log: {access: false}\n", status(500), ok("b"))
	const requests, saved = 1000, 100
	c := fl.dial()
	good := 0
	for range requests {
		c.send(post("/v1/chat/completions", chatPlain))
		if c.answer().status == 200 {
			good++
		}
	}
	if good < saved+requests/5-5 || good > saved+requests/5 {
		t.Errorf("%d of %d were tried again", good, requests)
	}
	m := fl.metrics()
	if m["relay_retries_denied_total"] != float64(requests-good) || sumOf(m, "relay_upstream_retries_total") != float64(good) {
		t.Errorf("denied %v, retried %v, of them good %d", m["relay_retries_denied_total"], sumOf(m, "relay_upstream_retries_total"), good)
	}
}

func TestWaitingForOneOfMaxConnections(t *testing.T) {
	arrived, release := make(chan struct{}, 2), make(chan struct{})
	up := newUpstream(t, func(rq *received) {
		arrived <- struct{}{}
		rq.await(release)
		rq.reply(200, "{}")
	})
	rl := startRelay(t, upstreamsYAML(up, "max_connections: 1, connection_wait: 20s, "))
	first, second := rl.dial(), rl.dial()
	first.send(post("/v1/chat/completions", chatPlain))
	receive(t, arrived)
	second.send(post("/v1/chat/completions", chatPlain))
	eventually(t, "the second waits", func() bool { return rl.tel.InFlight.Load() == 2 })
	close(release)
	if a, b := first.answer(), second.answer(); a.status != 200 || b.status != 200 || up.connections.Load() != 1 {
		t.Errorf("status %d and %d, %d connections", a.status, b.status, up.connections.Load())
	}
}

func TestAnswersThatBreakOffCountAsFailuresOfTheUpstream(t *testing.T) {
	for name, script := range map[string]func(*received){
		"a stream that is cut": func(rq *received) { rq.send(streamHead + chunk(goodEvent)); rq.close() },
		"a document that is cut": func(rq *received) {
			rq.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
			rq.close()
		},
		"a stream that falls silent": func(rq *received) { rq.send(streamHead + chunk(goodEvent)); rq.gone() },
	} {
		t.Run(name, func(t *testing.T) {
			fl := newFleet(t, "timeouts: {idle: 100ms}, circuit: {failures: 2, open_for: 100s, max_open: 100s}, ", "", script, ok("b"))
			for range 2 {
				c := fl.dial()
				c.send(post("/v1/chat/completions", chatStream))
				_, _ = c.begin().rest()
				c.Close()
			}
			eventually(t, "the circuit opens", func() bool { return fl.metrics()[`relay_upstream_state{upstream="a",state="open"}`] == 1 })
		})
	}
}

func TestACompressedAnswerThatIsTriedAgainLeavesNoDecoder(t *testing.T) {
	decoders := func() int {
		buf := make([]byte, 4<<20)
		return strings.Count(string(buf[:runtime.Stack(buf, true)]), "iter.Pull")
	}
	fl := newFleet(t, "circuit: {failures: 0}, ", "", status(500, "Content-Encoding: gzip"), ok("b"))
	before := decoders()
	for range 5 {
		if s := fl.ask(); s != 200 {
			t.Fatalf("status %d", s)
		}
	}
	if n := decoders() - before; n > 0 {
		t.Errorf("%d decoders are left", n)
	}
}

func TestAProbeThatIsToldOfALimitFindsTheUpstreamBack(t *testing.T) {
	var answer atomic.Value
	answer.Store(status(500))
	fl := newFleet(t, "circuit: {failures: 1, open_for: 10ms, max_open: 10ms}, ", "", func(rq *received) { answer.Load().(func(*received))(rq) }, ok("b"))
	fl.ask()
	answer.Store(status(429, "Retry-After: 100"))
	time.Sleep(20 * time.Millisecond)
	fl.ask()
	if got := fl.order(t); got != "abab" {
		t.Fatalf("sent to %s", got)
	}
	if fl.metrics()[`relay_upstream_state{upstream="a",state="up"}`] != 1 {
		t.Error("an upstream that answers 429 is up")
	}
}

func TestTheRecordOfALastAttemptWithoutAnAnswerHasNoTimeToItsHead(t *testing.T) {
	fl := newFleet(t, "", "", status(500), refuses)
	_, a := fl.speak(t, post("/v1/chat/completions", chatPlain))
	rec := fl.last(1)
	if a.status != 502 || rec.Attempts < 2 || rec.UpstreamStatus != 0 {
		t.Fatalf("status %d, %d attempts, upstream status %d", a.status, rec.Attempts, rec.UpstreamStatus)
	}
	if rec.UpstreamHead != 0 {
		t.Errorf("upstream head %d ns, of another attempt", rec.UpstreamHead)
	}
}

func TestAStateOfTheOnlyAccountIsLoggedAsWithoutEffect(t *testing.T) {
	const effect = `"effect":"none: it is the only account, and is asked all the same"`
	alone := newFleet(t, "circuit: {failures: 2}, ", "retry: {attempts: 1}\n", status(500))
	two := newFleet(t, "circuit: {failures: 2}, ", "retry: {attempts: 1}\n", status(500), ok("b"))
	for range 4 {
		alone.ask()
		two.ask()
	}
	if got := alone.order(t); got != "aaaa" {
		t.Errorf("the only account: sent to %q, want aaaa", got)
	}
	if got := two.order(t); got != "aabb" {
		t.Errorf("two accounts: sent to %q, want aabb", got)
	}
	for _, c := range []struct {
		fl   *fleet
		want bool
	}{{alone, true}, {two, false}} {
		eventually(t, "the state is logged", func() bool { return strings.Contains(c.fl.log.String(), `"state":"open"`) })
		if strings.Contains(c.fl.log.String(), effect) != c.want {
			t.Errorf("effect told: %v, want %v", !c.want, c.want)
		}
	}
}
