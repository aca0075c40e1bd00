package main

import (
	"strings"

	"streamrelay/bench"
	"streamrelay/bench/load"
)

// job is a scenario as this comparison runs it.
func (s *settings) job(name string) (load.Job, error) {
	sc, err := bench.Find(name)
	if err != nil {
		return load.Job{}, err
	}
	l := bench.Load{Duration: s.window, NoUsage: s.noUsage, Rate: s.rate}
	switch name {
	case "paced":
		l.Streams = s.streams
	case "soak":
		l.Streams = s.held
	case "cancel":
		l.Streams = s.cancels
	}
	job := sc.Job(l)
	job.Exact = true
	return job, nil
}

func scenarioNames() (names []string) {
	for _, s := range bench.Scenarios() {
		names = append(names, s.Name)
	}
	return names
}

// takesUsageOut changes the expected answers to those of a peer that asks for
// usage by itself.
func takesUsageOut(job *load.Job) {
	for i := range job.Requests {
		if q := &job.Requests[i]; strings.Contains(q.Body, `"stream":true`) && strings.HasSuffix(q.Path, "/chat/completions") && !strings.Contains(q.Body, "include_usage") {
			q.NoUsage = true
		}
	}
}
