package proxy

import (
	"bytes"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"streamrelay/configs"
	"streamrelay/proxy/h1"
)

// policy says which failures of an attempt may be followed by another one.
// Immutable.
type policy struct {
	attempts int
	maxWait  time.Duration
	connect  bool      // nothing had been sent
	event    bool      // an error as the first event of a stream
	status   [600]bool // answers
}

func newPolicy(cfg *configs.Retry) (p policy) {
	p.attempts, p.maxWait = cfg.Attempts, cfg.MaxWait
	for _, on := range cfg.On {
		switch on {
		case "connect":
			p.connect = true
		case "error_event":
			p.event = true
		case "auth":
			p.status[401], p.status[402], p.status[403] = true, true, true
		case "5xx":
			for s := 500; s < len(p.status); s++ {
				p.status[s] = true
			}
		default:
			if s, err := strconv.Atoi(on); err == nil && s > 0 && s < len(p.status) {
				p.status[s] = true
			}
		}
	}
	return p
}

// covers reports whether an answer of that status may be followed by another
// attempt.
func (p *policy) covers(status int) bool { return status < len(p.status) && p.status[status] }

// budget keeps retries at a fifth of the requests: each request adds a fifth
// of a retry, and what was not used is kept up to a bound. While nothing fails
// it is full, and a request costs one load.
type budget struct{ fifths atomic.Int64 }

// budgetFull is what is there at the start, in fifths of a retry.
const budgetFull = 5 * 100

// deposit takes note of a request.
func (b *budget) deposit() {
	if b.fifths.Load() < budgetFull {
		b.fifths.Add(1)
	}
}

// withdraw pays for a retry, or reports false.
func (b *budget) withdraw() bool {
	if b.fifths.Add(-5) < 0 {
		b.fifths.Add(5)
		return false
	}
	return true
}

// refund gives back what was paid for a retry that was not made.
func (b *budget) refund() { b.fifths.Add(5) }

// maxRetryAfter is more than any request or cooldown waits.
const maxRetryAfter = 24 * time.Hour

// retryAfter is how long an answer asks to stay away: the longer of
// retry-after-ms, as OpenAI sends it, and Retry-After in seconds or as a date
// (RFC 9110 §10.2.3); 0 where it does not say.
func retryAfter(head *h1.Answer) (d time.Duration) {
	for f := h1.NewFields(head.Block); f.Next(); {
		if h1.EqualFold(f.Name, "retry-after-ms") {
			d = number(f.Value, time.Millisecond)
		}
	}
	v := bytes.TrimSpace(head.RetryAfter)
	if len(v) == 0 {
		return d
	}
	if v[0] >= '0' && v[0] <= '9' {
		return max(d, number(v, time.Second))
	}
	at, err := http.ParseTime(string(v)) // the obsolete forms, too
	if err != nil {
		return d
	}
	return max(d, min(time.Until(at), maxRetryAfter))
}

// number reads a number of units, which may have a fraction; 0 where it is
// none.
func number(v []byte, unit time.Duration) time.Duration {
	n, err := strconv.ParseFloat(string(v), 64)
	if err != nil || !(n > 0) {
		return 0
	}
	return time.Duration(min(n*float64(unit), float64(maxRetryAfter)))
}
