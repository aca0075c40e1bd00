package simulate

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// Bounds of what one request may ask for.
const (
	maxEvents   = 1_000_000 // the index in an event has six digits
	maxSize     = 64 << 20
	maxAnswer   = 256 << 20
	maxDuration = 10 * time.Minute
	maxTokens   = 1 << 30
	maxID       = 64
)

// Point is a moment in an answer. The zero Point never comes.
type Point int

// BeforeHead is the moment at which the answer's head would be sent.
const BeforeHead Point = -1

// After is the moment after n content events; After(0) is right after the head.
func After(n int) Point { return Point(n + 1) }

// Profile says how one request is answered. A Profile in Options is what a
// request without X-Simulate gets; the header changes single fields of it.
type Profile struct {
	TTFT     time.Duration // request read to first content event
	Head     time.Duration // request read to head and opening events; 0: with TTFT
	Gap      time.Duration // between two content events; a JSON answer takes TTFT + Events·Gap, a traced one what its stream would
	Jitter   time.Duration // each gap is moved by up to this, either way
	Dist     Distribution  // how TTFT and gaps are drawn
	Sigma    float64       // of LogNormal: the standard deviation of the logarithm
	Hold     time.Duration // quiet time after the last content event, before the end
	Events   int           // content events; also the completion tokens
	Size     int           // bytes of a content event as sent, blank line included; never less than its envelope
	Prompt   int           // prompt tokens
	Cached   int           // of which cached
	Error    int           // answer with this status and an error body, after TTFT
	Retry    int           // Retry-After in seconds on an error; 0: none
	Stall    Point         // send nothing more until the client leaves
	Cut      Point         // close the connection
	Fail     Point         // send an error event, then close the connection
	Reset    bool          // a cut is a RST instead of a FIN
	Burst    bool          // content events back to back, one write each
	OneWrite bool          // all content events in one write
	NoDone   bool          // a clean end without the terminal event
	Drop     Point         // leave the next content event out
	Alter    Point         // flip a bit in the next content event
	ID       string        // names the request in ids and in /sim/cancels; "": a number
}

// withDefaults fills what a zero value cannot mean.
func (p Profile) withDefaults() Profile {
	if p.Events == 0 {
		p.Events = 64
	}
	if p.Size == 0 {
		p.Size = 220
	}
	if p.Prompt == 0 {
		p.Prompt = 7
	}
	if p.Sigma == 0 {
		p.Sigma = defaultSigma
	}
	return p
}

// check holds a profile to the bounds of X-Simulate.
func (p *Profile) check() error {
	for name, d := range map[string]time.Duration{"ttft": p.TTFT, "head": p.Head, "gap": p.Gap, "jitter": p.Jitter, "hold": p.Hold} {
		if d < 0 || d > maxDuration {
			return fmt.Errorf("%s %s: want 0 to %s", name, d, maxDuration)
		}
	}
	for name, n := range map[string]struct{ value, low, high int }{
		"events": {p.Events, 0, maxEvents}, "size": {p.Size, 0, maxSize}, "prompt": {p.Prompt, 0, maxTokens}, "cached": {p.Cached, 0, maxTokens}, "retry": {p.Retry, 0, 3600},
	} {
		if n.value < n.low || n.value > n.high {
			return fmt.Errorf("%s %d: want %d to %d", name, n.value, n.low, n.high)
		}
	}
	if p.Error != 0 && (p.Error < 400 || p.Error > 599) {
		return fmt.Errorf("error %d: want a status from 400 to 599", p.Error)
	}
	if !(p.Sigma >= 0 && p.Sigma <= maxSigma) {
		return fmt.Errorf("sigma %g: want a number above 0, at most %g", p.Sigma, float64(maxSigma))
	}
	if int64(p.Events)*int64(p.Size) > maxAnswer {
		return fmt.Errorf("events=%d,size=%d: an answer of more than %d MiB", p.Events, p.Size, maxAnswer>>20)
	}
	return nil
}

// ParseProfile applies the value of an X-Simulate header to base:
//
//	ttft=150ms,head=10ms,gap=20ms,jitter=5ms,dist=lognormal,sigma=0.7,hold=2s,
//	events=200,size=180,prompt=12,cached=4,error=429,retry=2,stall=5,cut=head,
//	fail=3,drop=7,alter=7,reset=1,burst=1,onewrite=1,nodone=1,id=abc
//
// Durations are Go's (a bare number is milliseconds). dist is constant,
// exponential, lognormal or trace. stall, cut, fail, drop and alter take a number
// of content events, the first three also head. An unknown key, a bad value or
// one out of bounds is an error that names the key.
func ParseProfile(base Profile, header []byte) (Profile, error) {
	p := base
	for len(header) > 0 {
		var item []byte
		item, header, _ = bytes.Cut(header, []byte(","))
		item = bytes.TrimSpace(item)
		if len(item) == 0 {
			continue
		}
		k, v, _ := bytes.Cut(item, []byte("="))
		key, value := string(bytes.TrimSpace(k)), string(bytes.TrimSpace(v))
		if err := p.set(key, value); err != nil {
			return base, fmt.Errorf("X-Simulate %s=%q: %w", key, value, err)
		}
	}
	if err := p.check(); err != nil {
		return base, fmt.Errorf("X-Simulate: %w", err)
	}
	return p, nil
}

func (p *Profile) set(key, value string) (err error) {
	switch key {
	case "ttft":
		p.TTFT, err = duration(value)
	case "head":
		if p.Head, err = duration(value); err == nil && p.Head == 0 {
			p.Head = 1 // asked for at once, which 0 would not say
		}
	case "gap":
		p.Gap, err = duration(value)
	case "jitter":
		p.Jitter, err = duration(value)
	case "dist":
		p.Dist, err = distribution(value)
	case "sigma":
		p.Sigma, err = sigma(value)
	case "hold":
		p.Hold, err = duration(value)
	case "events":
		p.Events, err = number(value, 0, maxEvents)
	case "size":
		p.Size, err = number(value, 0, maxSize)
	case "prompt":
		p.Prompt, err = number(value, 0, maxTokens)
	case "cached":
		p.Cached, err = number(value, 0, maxTokens)
	case "error":
		p.Error, err = number(value, 400, 599)
	case "retry":
		p.Retry, err = number(value, 0, 3600)
	case "stall":
		p.Stall, err = point(value)
	case "cut":
		p.Cut, err = point(value)
	case "fail":
		p.Fail, err = point(value)
	case "drop":
		p.Drop, err = event(value)
	case "alter":
		p.Alter, err = event(value)
	case "reset":
		p.Reset, err = boolean(value)
	case "burst":
		p.Burst, err = boolean(value)
	case "onewrite":
		p.OneWrite, err = boolean(value)
	case "nodone":
		p.NoDone, err = boolean(value)
	case "id":
		p.ID, err = identifier(value)
	default:
		err = fmt.Errorf("unknown key")
	}
	return err
}

func duration(s string) (time.Duration, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 0 || n > int(maxDuration/time.Millisecond) {
			return 0, fmt.Errorf("want 0 to %s", maxDuration)
		}
		return time.Duration(n) * time.Millisecond, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("want a duration like 150ms")
	}
	if d < 0 || d > maxDuration {
		return 0, fmt.Errorf("want 0 to %s", maxDuration)
	}
	return d, nil
}

func number(s string, low, high int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("want a number from %d to %d", low, high)
	}
	return n, nil
}

func point(s string) (Point, error) {
	if s == "head" {
		return BeforeHead, nil
	}
	n, err := number(s, 0, maxEvents)
	if err != nil {
		return 0, fmt.Errorf("want a number of events or head")
	}
	return After(n), nil
}

// event is a point that has a content event behind it.
func event(s string) (Point, error) {
	n, err := number(s, 0, maxEvents)
	return After(n), err
}

func boolean(s string) (bool, error) {
	switch s {
	case "", "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, fmt.Errorf("want 1 or 0")
}

func identifier(s string) (string, error) {
	if s == "" || len(s) > maxID {
		return "", fmt.Errorf("want 1 to %d characters", maxID)
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_', c == '.':
		default:
			return "", fmt.Errorf("want A-Z a-z 0-9 . _ -")
		}
	}
	return s, nil
}
