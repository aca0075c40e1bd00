package blackbox

import (
	"strings"
	"testing"
	"time"

	"streamrelay/telemetry"
)

// fault is what goes wrong at the first of two upstreams, and what must come of
// it.
type fault struct {
	name   string
	script func(*received)
	yaml   string
	stream bool // the client asks for a stream

	order  string // who got the request
	status int    // what the client got
	body   string // part of it
	retry  string // x-should-retry
	tries  string
	end    telemetry.EndReason
	broken bool // the transfer does not end properly
}

var faults = []fault{
	{name: "refuses connections", script: refuses, order: "b", status: 200, body: `"from":"b"`, tries: "a:connect:0"},
	{name: "closes before its head", script: func(rq *received) { rq.close() },
		order: "a", status: 502, body: "upstream_error", retry: "false", end: telemetry.UpstreamCut},
	{name: "resets before its head", script: func(rq *received) { rq.reset() },
		order: "a", status: 502, body: "upstream_error", retry: "false", end: telemetry.UpstreamCut},
	{name: "resets within its head", script: func(rq *received) { rq.send("HTTP/1.1 200 OK\r\nContent-Ty"); rq.reset() },
		order: "a", status: 502, body: "upstream_error", retry: "false", end: telemetry.UpstreamCut},
	{name: "stalls", script: func(rq *received) { rq.gone() }, yaml: "timeouts: {head: 200ms}\n",
		order: "a", status: 504, body: "upstream_timeout", retry: "false", end: telemetry.TimeoutHead},
	{name: "sends garbage", script: func(rq *received) { rq.send("220 smtp ESMTP\r\n"); rq.close() },
		order: "a", status: 502, body: "upstream_error", retry: "false", end: telemetry.UpstreamError},
	{name: "429 with Retry-After", script: status(429, "Retry-After: 30"), order: "ab", status: 200, body: `"from":"b"`, tries: "a:http_429:429"},
	{name: "429 without Retry-After", script: status(429), order: "ab", status: 200, body: `"from":"b"`, tries: "a:http_429:429"},
	{name: "500", script: status(500), order: "ab", status: 200, body: `"from":"b"`, tries: "a:http_5xx:500"},
	{name: "503", script: status(503), order: "ab", status: 200, body: `"from":"b"`, tries: "a:http_5xx:503"},
	{name: "529", script: status(529), order: "ab", status: 200, body: `"from":"b"`, tries: "a:http_5xx:529"},
	{name: "401", script: status(401), order: "ab", status: 200, body: `"from":"b"`, tries: "a:auth:401"},
	{name: "402", script: status(402), order: "ab", status: 200, body: `"from":"b"`, tries: "a:http_4xx:402"},
	{name: "400", script: status(400), order: "a", status: 400, body: "provider says 400", end: telemetry.UpstreamStatus},
	{name: "404", script: status(404), order: "a", status: 404, body: "provider says 404", end: telemetry.UpstreamStatus},
	{name: "500, not listed", script: status(500), yaml: "retry: {on: [connect, 503]}\n", order: "a", status: 500, body: "provider says 500", end: telemetry.UpstreamStatus},
	{name: "one attempt", script: status(500), yaml: "retry: {attempts: 1}\n", order: "a", status: 500, body: "provider says 500", end: telemetry.UpstreamStatus},
	{name: "error as first event", script: events(errorEvent), stream: true, order: "ab", status: 200, body: goodEvent, tries: "a:error_event:200"},
	{name: "error as first event behind comments", script: func(rq *received) {
		rq.send(streamHead)
		rq.send(chunk(": OPENROUTER PROCESSING\n\n"))
		rq.send(chunk(errorEvent[:20]))
		rq.send(chunk(errorEvent[20:]) + lastChunk)
	}, stream: true, order: "ab", status: 200, body: goodEvent, tries: "a:error_event:200"},
	{name: "error as first event, not listed", script: events(errorEvent), yaml: "retry: {on: [5xx]}\n", stream: true,
		order: "a", status: 200, body: errorEvent, end: telemetry.UpstreamError},
	{name: "error as second event", script: events(goodEvent, errorEvent), stream: true,
		order: "a", status: 200, body: goodEvent + errorEvent, end: telemetry.UpstreamError},
	{name: "good stream in one piece", script: func(rq *received) { rq.send(streamHead + chunk(goodEvent+goodEvent+doneEvent) + lastChunk) }, stream: true,
		order: "a", status: 200, body: goodEvent + goodEvent + doneEvent},
	{name: "slow trickle", script: func(rq *received) {
		for _, c := range []byte(streamHead + chunk(goodEvent+doneEvent) + lastChunk) {
			rq.send(string(c))
		}
	}, stream: true, order: "a", status: 200, body: goodEvent + doneEvent},
	{name: "cut before its first event", script: func(rq *received) { rq.send(streamHead + chunk("data: {")); rq.close() }, stream: true,
		order: "a", status: 502, body: "upstream_error", retry: "false", end: telemetry.UpstreamCut},
	{name: "cut behind its first event", script: func(rq *received) { rq.send(streamHead + chunk(goodEvent)); rq.close() }, stream: true,
		order: "a", status: 200, body: goodEvent + "data: {\"error\"", end: telemetry.UpstreamCut, broken: true},
	{name: "garbage behind its first event", script: func(rq *received) { rq.send(streamHead + chunk(goodEvent) + "zz\r\n"); rq.gone() }, stream: true,
		order: "a", status: 200, body: goodEvent + "data: {\"error\"", end: telemetry.UpstreamError, broken: true},
	{name: "no first event in time", script: func(rq *received) { rq.send(streamHead); rq.gone() }, yaml: "timeouts: {first_event: 200ms}\nstream: {head_hold: 30s}\n", stream: true,
		order: "a", status: 504, body: "upstream_timeout", retry: "false", end: telemetry.TimeoutFirstEvent},
	{name: "no first event within head_hold", script: func(rq *received) { rq.send(streamHead); rq.gone() }, yaml: "timeouts: {first_event: 400ms}\nstream: {head_hold: 20ms}\n", stream: true,
		order: "a", status: 200, body: "data: {\"error\"", end: telemetry.TimeoutFirstEvent, broken: true},
	{name: "silent before a JSON answer", script: func(rq *received) {
		rq.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range 6 { // DeepSeek's sign of life
			rq.send(chunk("\n"))
			time.Sleep(100 * time.Millisecond)
		}
		rq.send(chunk(`{"from":"a"}`) + lastChunk)
	}, yaml: "timeouts: {idle: 400ms}\n", order: "a", status: 200, body: "\n\n\n\n\n\n{\"from\":\"a\"}"},
}

func TestAFaultOfOneUpstreamIsHiddenOrToldButNeverSentTwice(t *testing.T) {
	for _, f := range faults {
		for _, fields := range [][]string{nil, {"Idempotency-Key: once-1"}} {
			for _, carrier := range carriers {
				name := f.name + ", " + carrier
				if fields != nil {
					name += ", with an idempotency key"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					f.check(t, carrier, fields)
				})
			}
		}
	}
}

func (f fault) check(t *testing.T, carrier string, fields []string) {
	good := ok("b")
	body := chatPlain
	if f.stream {
		good, body = events(goodEvent, doneEvent), chatStream
	}
	yaml := f.yaml
	if strings.Contains(yaml, "stream: {") {
		yaml = strings.Replace(yaml, "stream: {", "stream: {carrier: "+carrier+", ", 1)
	} else {
		yaml += "stream: {carrier: " + carrier + "}\n"
	}
	fl := newFleet(t, "", yaml, f.script, good)
	c := fl.dial()
	c.send(post("/v1/chat/completions", body, fields...))
	a := c.answer()
	if a.status != f.status || !strings.Contains(string(a.body), f.body) || (a.err != nil) != f.broken {
		t.Errorf("answer: %s%s (%v)", a.head, a.body, a.err)
	}
	if got := a.get("X-Should-Retry"); got != f.retry {
		t.Errorf("x-should-retry %q, want %q", got, f.retry)
	}
	if got := fl.order(t); got != f.order {
		t.Errorf("sent to %q, want %q", got, f.order)
	}
	r := fl.one()
	if r.tries() != f.tries || r.End != f.end || r.Status != f.status || r.Attempts != 1+strings.Count(f.tries, ":")/2 {
		t.Errorf("record: %d attempts %q, %s, status %d; want %q, %s, %d", r.Attempts, r.tries(), r.End, r.Status, f.tries, f.end, f.status)
	}
	if got, want := sumOf(fl.metrics(), "relay_upstream_retries_total", `upstream="a"`), float64(r.Attempts-1); got != want {
		t.Errorf("relay_upstream_retries_total is %v, want %v", got, want)
	}
}

// Where every account has failed, the client gets the last answer and is told
// not to multiply the load.
func TestWhenAllFailTheClientGetsTheLastAnswerAndShallNotRetry(t *testing.T) {
	fl := newFleet(t, "", "retry: {attempts: 5}\n", status(429, "Retry-After: 60"), status(500), refuses, status(503, "Retry-After: 60"))
	_, a := fl.speak(t, post("/v1/chat/completions", chatPlain))
	if a.status != 503 || !strings.Contains(string(a.body), "provider says 503") || a.get("X-Should-Retry") != "false" || a.get("Retry-After") != "60" {
		t.Errorf("%s%s", a.head, a.body)
	}
	if got := fl.order(t); got != "abd" {
		t.Errorf("sent to %s", got)
	}
	if r := fl.one(); r.tries() != "a:http_429:429 b:http_5xx:500 c:connect:0" || r.Attempts != 4 || r.End != telemetry.UpstreamStatus {
		t.Errorf("%d attempts: %s, %s", r.Attempts, r.tries(), r.End)
	}
	eventually(t, "the access line names the tries", func() bool {
		return strings.Contains(fl.log.String(), `"tries":[{"upstream":"a","credential":0,"reason":"http_429","status":429},{"upstream":"b","credential":0,"reason":"http_5xx","status":500},{"upstream":"c","credential":0,"reason":"connect"}]`)
	})
}

func TestABodyThatWasNotHeldIsNotSentAgain(t *testing.T) {
	form := "--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm1\r\n--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nbytes\r\n--B--\r\n"
	upload := request("POST", "/v1/audio/transcriptions", form, "Content-Type: multipart/form-data; boundary=B")
	fl := newFleet(t, "", "", status(500), ok("b"))
	if _, a := fl.speak(t, upload); a.status != 500 || fl.order(t) != "a" {
		t.Errorf("status %d, sent to %s", a.status, fl.order(t))
	}
	fl = newFleet(t, "", "", refuses, ok("b"))
	if _, a := fl.speak(t, upload); a.status != 200 || fl.order(t) != "b" {
		t.Errorf("nothing had left: status %d, sent to %s", a.status, fl.order(t))
	}
}

// An account is what the provider knows as one, however often it is configured.
func TestOneAccountUnderTwoNamesSeesARequestOnce(t *testing.T) {
	up := newUpstream(t, status(500))
	rl := startRelay(t, "upstreams:\n"+
		"  - {name: a, dialect: openai, base_url: \""+up.url+"/v1\", credentials: [{value: same}]}\n"+
		"  - {name: b, dialect: openai, base_url: \""+up.url+"/beta\", priority: 1, credentials: [{value: same}]}\n")
	_, a := rl.speak(t, post("/v1/chat/completions", chatPlain))
	if a.status != 500 || up.requests.Load() != 1 {
		t.Errorf("status %d, %d requests", a.status, up.requests.Load())
	}
}
