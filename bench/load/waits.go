package load

import "time"

// waits are how long failed requests went on. One that was given up after 30 s
// took at least that long: without it the p99 of an endpoint that loses one
// request in twenty would be that of its good ones. A failure that was fast says
// nothing of the kind, and would make the rest look better.
type waits struct {
	latency Histogram
	head    Histogram // of those whose head did not come
	ttft    Histogram // of streams whose first event did not
}

// failedAfter notes how long a failed request went on. c is nil where there was
// no connection.
func (a *arm) failedAfter(c *client, s *slice, wait int64) {
	a.waits.latency.Add(wait)
	if s != nil {
		s.waits.add(wait)
	}
	if c == nil || c.headAt == 0 {
		a.waits.head.Add(wait)
	}
	if c != nil && c.asked.Load().stream && (c.headAt == 0 || c.firstAt == 0) {
		a.waits.ttft.Add(wait)
	}
}

// bound adds the failures that went on for longer than the median answer, or
// where none came than the timeout, to the answers' times: lower bounds of what
// they would have taken.
func (a *arm) bound() {
	floor := medianOr(&a.latency, a.run.job.Timeout)
	for i := range a.slices {
		s := &a.slices[i]
		for _, wait := range s.waits.values {
			if wait < floor {
				continue
			}
			s.latency.Add(wait)
			if a.run.compared() {
				s.latencies.add(wait)
			}
		}
	}
	a.waited = a.latency.mergeFrom(&a.waits.latency, floor)
	a.head.mergeFrom(&a.waits.head, medianOr(&a.head, a.run.job.Timeout))
	a.ttft.mergeFrom(&a.waits.ttft, medianOr(&a.ttft, a.run.job.Timeout))
}

func medianOr(h *Histogram, otherwise time.Duration) int64 {
	total := h.total()
	if total == 0 {
		return int64(otherwise)
	}
	return int64(h.quantiles(total, 0.5)[0] * 1e9)
}
