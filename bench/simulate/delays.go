package simulate

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"
)

// Distribution says how an answer's times are drawn. The times of the profile
// are the means.
type Distribution uint8

// The distributions.
const (
	Constant Distribution = iota
	Exponential
	LogNormal
	Traced // as recorded, see Trace
)

const (
	defaultSigma = 0.5
	maxSigma     = 3
	// beyond bounds a drawn time, as a multiple of its mean: one answer in a
	// million must not hold up a run.
	beyond = 50
)

func distribution(s string) (Distribution, error) {
	switch s {
	case "constant":
		return Constant, nil
	case "exponential":
		return Exponential, nil
	case "lognormal":
		return LogNormal, nil
	case "trace":
		return Traced, nil
	}
	return 0, fmt.Errorf("want constant, exponential, lognormal or trace")
}

func sigma(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v > 0 && v <= maxSigma) {
		return 0, fmt.Errorf("want a number above 0, at most %d", maxSigma)
	}
	return v, nil
}

// ttft is the answer's time to its first content event.
func (c *conn) ttft() time.Duration {
	p := &c.answer.profile
	if p.Dist == Traced {
		return c.recorded[0]
	}
	return c.draw(p.TTFT)
}

// gap is the time to the next content event.
func (c *conn) gap() time.Duration {
	p := &c.answer.profile
	if p.Dist == Traced {
		gaps := c.recorded[1:]
		if len(gaps) == 0 {
			return p.Gap
		}
		// They come again where the answer is longer than the recorded one.
		d := gaps[c.gaps%len(gaps)]
		c.gaps++
		return d
	}
	d := c.draw(p.Gap)
	if p.Jitter != 0 {
		d = max(d+time.Duration(c.random().Int64N(2*int64(p.Jitter)+1))-p.Jitter, 0)
	}
	return d
}

func (c *conn) draw(mean time.Duration) time.Duration {
	if mean == 0 {
		return 0
	}
	factor := 1.0
	switch p := &c.answer.profile; p.Dist {
	case Constant:
		return mean
	case Exponential:
		factor = c.random().ExpFloat64()
	case LogNormal:
		factor = math.Exp(c.random().NormFloat64()*p.Sigma - p.Sigma*p.Sigma/2)
	}
	return min(time.Duration(float64(mean)*min(factor, beyond)), maxDuration)
}

// Trace holds recorded answers: each the time to its first content event and
// then the gaps.
type Trace [][]time.Duration

// Bounds of a trace.
const (
	maxTraced     = 100_000
	maxTraceTimes = 10_000_000
)

// LoadTrace reads a file with one answer a line: TTFT and gaps in milliseconds,
// separated by spaces. Empty lines and those that begin with # are skipped.
func LoadTrace(file string) (Trace, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the trace: %w", err)
	}
	t, err := parseTrace(b)
	if err != nil {
		return nil, fmt.Errorf("trace %s: %w", file, err)
	}
	return t, nil
}

func parseTrace(b []byte) (Trace, error) {
	var t Trace
	times := 0
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, len(b)+1)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		var one []time.Duration
		for _, field := range bytes.Fields(line) {
			ms, err := strconv.ParseFloat(string(field), 64)
			if err != nil || !(ms >= 0 && ms <= float64(maxDuration/time.Millisecond)) {
				return nil, fmt.Errorf("line %d: %q: want milliseconds from 0 to %d", n, field, maxDuration/time.Millisecond)
			}
			one = append(one, time.Duration(ms*float64(time.Millisecond)))
		}
		if times += len(one); len(t) == maxTraced || times > maxTraceTimes {
			return nil, fmt.Errorf("line %d: more than %d answers or %d times", n, maxTraced, maxTraceTimes)
		}
		t = append(t, one)
	}
	if len(t) == 0 {
		return nil, fmt.Errorf("no recorded answer in it")
	}
	return t, nil
}

// nextRecorded is the next answer's line of the trace.
func (p *Provider) nextRecorded() []time.Duration {
	n := p.traced.Add(1) - 1
	return p.options.Trace[int(n%int64(len(p.options.Trace)))]
}
