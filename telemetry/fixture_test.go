package telemetry

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// start is when every exchange of these tests began.
var start = time.Date(2026, 11, 23, 18, 30, 0, 250e6, time.UTC)

// options are those of a small relay.
func options() Options {
	return Options{
		Version: "1.2.3", Revision: "abc",
		Endpoints: []string{"chat_completions", "embeddings"},
		Upstreams: []string{"alpha", "beta"},
		Models:    []string{"m1", "glob/*"},
		Now:       func() time.Time { return start },
	}
}

// streamed is one stream that went well; change makes it another exchange.
func streamed(change func(*Request)) *Request {
	g := new(Gaps)
	g.Add(20e6)
	g.Add(20e6)
	g.Add(3e9)
	r := &Request{
		ID:        [16]byte{0x01, 0x9a, 0xb2, 0xc3, 0xd4, 0xe5, 0x70, 0x01, 0x80, 0xff, 1, 2, 3, 4, 5, 6},
		RequestID: []byte("req-1"), Start: start.UnixNano(),
		Tenant: []byte("acme"), KeyID: "k7", Model: []byte("m1"), Method: []byte("POST"),
		Path: []byte("/v1/chat/completions"), Client: netip.MustParseAddr("192.0.2.7"),
		Status: 200, UpstreamStatus: 200, End: Completed, Stream: true, Attempts: 1,
		Duration: 3200e6, UpstreamHead: 90e6, FirstEvent: 95e6, TTFT: 100e6, Overhead: 80e3,
		BytesIn: 120, BytesOut: 4096, Events: 4, ContentEvents: 3, Gaps: g,
		Usage: Usage{Input: 12, Output: 30, Cached: 4, CacheWrite: -1, Reasoning: -1}, UsageSource: UsageProvider,
	}
	if change != nil {
		change(r)
	}
	return r
}

// scrape returns what WriteMetrics writes.
func scrape(t *Telemetry) string {
	var b bytes.Buffer
	t.WriteMetrics(&b)
	return b.String()
}

// values parses a scrape into series and values.
func values(tb testing.TB, text string) map[string]float64 {
	tb.Helper()
	m := make(map[string]float64)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			tb.Fatalf("line %q: %v", line, err)
		}
		if _, twice := m[line[:i]]; twice {
			tb.Fatalf("series %s appears twice", line[:i])
		}
		m[line[:i]] = v
	}
	return m
}

// sum adds the values of all series of a name.
func sum(m map[string]float64, name string) (total float64) {
	for series, v := range m {
		if series == name || strings.HasPrefix(series, name+"{") {
			total += v
		}
	}
	return total
}

// want compares series with their values.
func want(tb testing.TB, got map[string]float64, series map[string]float64) {
	tb.Helper()
	for name, v := range series {
		if g, ok := got[name]; !ok || g != v {
			tb.Errorf("%s = %v (present: %t), want %v", name, g, ok, v)
		}
	}
}

func numbered(format string, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprintf(format, i)
	}
	return s
}
