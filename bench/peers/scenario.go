package main

import (
	"fmt"
	"time"

	"streamrelay/bench/load"
)

// scenario is a load that every peer gets.
type scenario struct {
	name   string
	about  string
	stream bool
	job    func(*settings) load.Job
}

const (
	path     = "/v1/chat/completions"
	jsonBody = `{"model":"simulated","messages":[{"role":"user","content":"Say something."}]}`
	askUsage = `{"model":"simulated","messages":[{"role":"user","content":"Say something."}],"stream":true,"stream_options":{"include_usage":true}}`
	noUsage  = `{"model":"simulated","messages":[{"role":"user","content":"Say something."}],"stream":true}`
)

func streamBody(s *settings) string {
	if s.noUsage {
		return noUsage
	}
	return askUsage
}

var scenarios = []scenario{
	{"paced", "streams with an event each 50 ms", true, func(s *settings) load.Job {
		ramp, settle := 2*time.Second, time.Second
		events := int((ramp+settle+s.window+time.Second)/(50*time.Millisecond)) + 1
		return load.Job{
			Scenario: "paced", Path: path, Body: streamBody(s), Streams: s.streams, Ramp: ramp, Settle: settle, Window: s.window,
			Spread:   50 * time.Millisecond,
			Simulate: fmt.Sprintf("gap=50ms,events=%d,size=200", events),
		}
	}},
	{"burst", "64 events at once, one write each, closed loop, 16 connections", true, func(s *settings) load.Job {
		return load.Job{
			Scenario: "closed", Path: path, Body: streamBody(s), Streams: 16, Settle: time.Second, Window: s.window,
			Simulate: "burst=1,events=64,size=200",
		}
	}},
	{"burst64", "the same, 64 connections", true, func(s *settings) load.Job {
		return load.Job{
			Scenario: "closed", Path: path, Body: streamBody(s), Streams: 64, Settle: time.Second, Window: s.window,
			Simulate: "burst=1,events=64,size=200",
		}
	}},
	{"json", "JSON answers of 0.7 KB, closed loop, 16 connections", false, func(s *settings) load.Job {
		return load.Job{
			Scenario: "closed", Path: path, Body: jsonBody, Streams: 16, Settle: time.Second, Window: s.window,
			Simulate: "events=30",
		}
	}},
	{"json500", "the same, open loop, 500 requests/s", false, func(s *settings) load.Job {
		return load.Job{
			Scenario: "open", Path: path, Body: jsonBody, Streams: 64, Rate: 500, Settle: time.Second, Window: s.window,
			Simulate: "events=30",
		}
	}},
	{"hold", "open streams that are quiet", true, func(s *settings) load.Job {
		return load.Job{
			Scenario: "hold", Path: path, Body: streamBody(s), Streams: s.held, Ramp: 3 * time.Second, Settle: time.Second, Window: 5 * time.Second,
		}
	}},
	{"cancel", "clients that leave", false, func(s *settings) load.Job {
		return load.Job{Scenario: "cancel", Path: path, Streams: s.cancels}
	}},
}

func scenarioNames() []string {
	names := make([]string, len(scenarios))
	for i, sc := range scenarios {
		names[i] = sc.name
	}
	return names
}
