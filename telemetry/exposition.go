package telemetry

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// ContentType is the media type of what WriteMetrics writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// WriteMetrics writes all series in Prometheus' text format: relay_* with HELP
// and TYPE, and the library's go_* and process_*. It reads the counters without
// stopping them and writes once; an error of w is the scraper's to notice.
func (t *Telemetry) WriteMetrics(w io.Writer) {
	t.mu.Lock()
	histograms := make(map[string][]labelled, len(t.histograms))
	for name, s := range t.histograms {
		histograms[name] = s[:len(s):len(s)] // grows by append only
	}
	extra := t.extra[:len(t.extra):len(t.extra)]
	t.mu.Unlock()

	var plain bytes.Buffer
	t.set.WritePrometheus(&plain)
	out := t.withMetadata(make([]byte, 0, plain.Len()*3), plain.Bytes())
	for _, list := range [...][]family{families[:], extra} {
		for _, f := range list {
			if s := histograms[f.name]; len(s) > 0 {
				out = appendMetadata(out, f)
				for _, l := range s {
					out = l.h.appendTo(out, f.name, l.labels)
				}
			}
		}
	}
	rest := bytes.NewBuffer(out)
	metrics.WriteProcessMetrics(rest)
	t.fds.write(rest, t.now())
	w.Write(rest.Bytes())
}

// withMetadata appends lines, which the set wrote sorted by family, with HELP
// and TYPE above each family. The library's own ExposeMetadata is a global
// switch and leaves HELP empty, which promtool refuses.
func (t *Telemetry) withMetadata(dst, lines []byte) []byte {
	var last []byte
	for len(lines) > 0 {
		end := bytes.IndexByte(lines, '\n') + 1
		if end == 0 {
			end = len(lines)
		}
		if lines[0] == '#' { // another package has switched ExposeMetadata on
			lines = lines[end:]
			continue
		}
		name := lines[:bytes.IndexAny(lines[:end], "{ ")]
		if !bytes.Equal(name, last) {
			dst = appendMetadata(dst, t.family(string(name)))
			last = name
		}
		dst = append(dst, lines[:end]...)
		lines = lines[end:]
	}
	return dst
}

// family returns the metadata of name: of this package, as described, or guessed.
func (t *Telemetry) family(name string) family {
	if f, ok := t.metadata[name]; ok {
		return f
	}
	f := describe(name)
	t.mu.Lock()
	defer t.mu.Unlock()
	if help := t.help[name]; help != "" {
		f.help = help
	}
	return f
}

func appendMetadata(dst []byte, f family) []byte {
	for _, s := range [...]string{"# HELP ", f.name, " ", f.help, "\n# TYPE ", f.name, " ", f.kind, "\n"} {
		dst = append(dst, s...)
	}
	return dst
}

// published is a series whose value another package computes at each scrape.
type published struct {
	f atomic.Pointer[func() float64]
}

func (p *published) value() float64 { return (*p.f.Load())() }

// Gauge publishes a series whose value f computes at each scrape, in the
// scraper's goroutine: f must be quick and safe for concurrent use. labels is
// as in the text format, without braces (Label makes them), or "". A name that
// ends in _total is a counter. Publishing name and labels again replaces f, as
// after a reload; a nil f takes the series away.
func (t *Telemetry) Gauge(name, labels string, f func() float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.publishLocked(name, labels, f)
}

func (t *Telemetry) publishLocked(name, labels string, f func() float64) {
	series := name
	if labels != "" {
		series += "{" + labels + "}"
	}
	p := t.published[series]
	switch {
	case f == nil && p == nil:
	case f == nil:
		t.set.UnregisterMetric(series)
		delete(t.published, series)
	case p == nil:
		p = new(published)
		p.f.Store(&f)
		t.published[series] = p
		t.set.NewGauge(series, p.value)
	default:
		p.f.Store(&f)
	}
}

// Describe sets the HELP text of a name published by Gauge: one line.
func (t *Telemetry) Describe(name, help string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.help[name] = help
}

// Histogram publishes a histogram of durations that another package fills, all
// at 0 from now on. name, labels and help are as in Gauge and Describe; bounds
// are seconds, ascending, at most 18. The same name and labels again, as after
// a reload, give the histogram of the first time.
func (t *Telemetry) Histogram(name, labels, help string, bounds ...float64) *Histogram {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.histograms[name] {
		if l.labels == labels {
			return l.h
		}
	}
	if _, ours := t.metadata[name]; ours {
		panic("BUG: " + name + " is a metric of this package")
	}
	if t.histograms[name] == nil {
		t.extra = append(t.extra, family{name, "histogram", help})
	}
	b := newBuckets(bounds...)
	t.budget.charge(len(b.ns)+3, labels)
	return t.histogram(name, labels, b)
}

// Label returns key="value" with the value escaped, for Gauge.
func Label(key, value string) string { return label(key, value) }

// fdMetrics keeps the last process_open_fds and process_max_fds: to count the
// open files is to walk /proc/self/fd, which is long while there are 50,000.
type fdMetrics struct {
	mu   sync.Mutex
	at   time.Time
	text bytes.Buffer
}

const fdMetricsAge = 15 * time.Second

func (m *fdMetrics) write(w io.Writer, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at.IsZero() || now.Sub(m.at) >= fdMetricsAge {
		m.text.Reset()
		metrics.WriteFDMetrics(&m.text)
		m.at = now
	}
	w.Write(m.text.Bytes())
}
