package bench

import (
	"fmt"
	"math"
	"strings"
	"time"

	"streamrelay/bench/load"
)

// Scenario is a load by name.
type Scenario struct {
	Name     string
	About    string
	Loop     load.Loop
	Requests []load.Request
	Streams  int
	Rate     float64       // loop open: unless another is asked for
	Gap      time.Duration // loop streams: between two events
	Memory   bool
	SLO      string // unless another is asked for
}

// Bodies of requests.
const (
	messages   = `"messages":[{"role":"user","content":"Say something."}]`
	jsonBody   = `{"model":"simulated",` + messages + `}`
	streamBody = `{"model":"simulated",` + messages + `,"stream":true,"stream_options":{"include_usage":true}}`
	plainBody  = `{"model":"simulated",` + messages + `,"stream":true}`
)

const chat = "/chat/completions"

// mostConnections is how many an open loop may have at a time where none are
// named. It is far beyond what an endpoint that keeps up needs.
const mostConnections = 10_000

// Scenarios are all there are, in the order in which they make sense.
func Scenarios() []Scenario {
	return []Scenario{
		{
			Name: "rate", About: "JSON answers of 0.7 KB, to see whether it carries more than 500 a second without an error",
			Loop: load.Open, Rate: 600, Streams: mostConnections, SLO: "rate=500,errors=0,p99=50ms",
			Requests: []load.Request{{Name: "JSON", Path: chat, Body: jsonBody, Simulate: "ttft=0,gap=0,events=30"}},
		},
		{
			Name: "json", About: "JSON answers of 0.7 KB",
			Loop: load.Closed, Streams: 16,
			Requests: []load.Request{{Name: "JSON", Path: chat, Body: jsonBody, Simulate: "ttft=0,gap=0,events=30"}},
		},
		{
			Name: "burst", About: "streams of 64 events at once, one write each",
			Loop: load.Closed, Streams: 16,
			Requests: []load.Request{{Name: "stream", Path: chat, Body: streamBody, Simulate: "ttft=0,burst=1,events=64,size=200"}},
		},
		{
			Name: "paced", About: "streams with an event each 50 ms",
			Loop: load.Streams, Streams: 1000, Gap: 50 * time.Millisecond,
			Requests: []load.Request{{Name: "stream", Path: chat, Body: streamBody, Simulate: "size=200"}},
		},
		{
			Name: "open", About: "streams of 64 events, 150 ms to the first, 10 to 30 ms between them",
			Loop: load.Open, Rate: 100, Streams: mostConnections,
			Requests: []load.Request{{Name: "stream", Path: chat, Body: streamBody, Simulate: "ttft=150ms,gap=20ms,jitter=10ms,events=64", Length: 150*time.Millisecond + 64*30*time.Millisecond}},
		},
		{
			Name: "mixed", About: "of ten requests five chat streams, three JSON, one Responses stream, one embedding, with log-normal times",
			Loop: load.Open, Rate: 200, Streams: mostConnections,
			Requests: []load.Request{
				{Name: "stream", Path: chat, Body: streamBody, Weight: 5, Simulate: "ttft=100ms,gap=10ms,dist=lognormal,events=64", Length: 10 * time.Second},
				{Name: "JSON", Path: chat, Body: jsonBody, Weight: 3, Simulate: "ttft=100ms,gap=0,dist=lognormal,events=30", Length: 10 * time.Second},
				{Name: "Responses", Path: "/responses", Body: `{"model":"simulated","input":"Say something.","stream":true}`, Simulate: "ttft=100ms,gap=10ms,dist=lognormal,events=64", Length: 10 * time.Second},
				{Name: "embedding", Path: "/embeddings", Body: `{"model":"simulated","input":"Say something."}`, Simulate: "ttft=0"},
			},
		},
		{
			Name: "cancel", About: "clients that leave before the head, in mid-stream and while a JSON answer is made; latency is from a client's close to the provider's notice",
			Loop: load.Cancel, Streams: 100, SLO: "errors=0",
		},
		{
			Name: "soak", About: "streams held open with an event a second; memory of each",
			Loop: load.Streams, Streams: 1000, Gap: time.Second, Memory: true,
			Requests: []load.Request{{Name: "stream", Path: chat, Body: streamBody, Simulate: "size=200"}},
		},
	}
}

// Find returns a scenario by its name.
func Find(name string) (Scenario, error) {
	var names []string
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("there is no scenario %q; there are %s and frontier", name, strings.Join(names, ", "))
}

// Load is how much of a scenario is asked for; zero values mean its own.
type Load struct {
	Rate     float64 // turns a closed loop into an open one
	Streams  int
	Duration time.Duration
	Hold     int
	Simulate string // added to each request's X-Simulate
	NoUsage  bool   // clients do not ask for usage
}

// Job is a run of the scenario. Endpoints and what else is measured are the
// caller's to fill in.
func (s Scenario) Job(l Load) load.Job {
	j := load.Job{Loop: s.Loop, Streams: s.Streams, Rate: s.Rate, Settle: time.Second, Window: l.Duration, Hold: l.Hold, Memory: s.Memory}
	if l.Rate > 0 {
		j.Rate = l.Rate
		if s.Loop == load.Closed {
			j.Loop, j.Streams = load.Open, mostConnections
		}
	}
	if l.Streams > 0 {
		j.Streams = l.Streams
	}
	for _, q := range s.Requests {
		if l.Simulate != "" {
			q.Simulate = strings.Trim(q.Simulate+","+l.Simulate, ",")
		}
		if l.NoUsage && q.Body == streamBody {
			q.Body = plainBody
		}
		j.Requests = append(j.Requests, q)
	}
	if s.Loop == load.Streams {
		j.Ramp = time.Duration(j.Streams) * apart(s.Gap)
		for i := range j.Requests {
			q := &j.Requests[i]
			q.Length = j.Lasting() + s.Gap
			q.Simulate = fmt.Sprintf("gap=%s,events=%d,%s", s.Gap, int(j.Lasting()/s.Gap)+1, q.Simulate)
		}
	}
	return j
}

// Describe says how a job's requests come.
func Describe(j load.Job) string {
	switch j.Loop {
	case load.Closed:
		return fmt.Sprintf("as fast as %d connections go", j.Streams)
	case load.Open:
		return fmt.Sprintf("%g a second by schedule", j.Rate)
	case load.Streams:
		return fmt.Sprintf("%d open", j.Streams)
	}
	return fmt.Sprintf("%d in each phase", j.Streams)
}

// apart is the time between the beginnings of two streams: some 2 ms, and such
// a part of the gap that their events never fall together, however many there
// are. Multiples of a number whose continued fraction ends like the golden
// ratio's fill a circle most evenly.
func apart(gap time.Duration) time.Duration {
	n := float64(gap/(2*time.Millisecond)) + math.Phi
	return time.Duration(float64(gap) / n)
}
