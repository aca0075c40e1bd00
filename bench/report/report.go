package report

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"streamrelay/bench/load"
)

// Report is one run. Its JSON has at its top requests, errors, valid and latency
// (in seconds), beside all other fields of load.Result.
type Report struct {
	Scenario string    `json:"scenario"`
	About    string    `json:"about"`
	Started  time.Time `json:"started"`
	load.Result
	Loop        load.Loop   `json:"loop"`
	Checked     string      `json:"checked"`     // to the last byte, or by form
	Rate        float64     `json:"rate"`        // requests answered whole within the window, a second
	TargetRate  float64     `json:"target_rate"` // asked for; 0: as many as go
	Streams     int         `json:"streams"`
	Hold        int         `json:"hold,omitempty"`
	Window      float64     `json:"window"`             // what was to be measured, seconds
	Model       string      `json:"model"`              // that requests named
	Simulate    string      `json:"simulate,omitempty"` // what the simulated provider was asked for beyond the scenario's own
	Verdicts    []Verdict   `json:"slo,omitempty"`
	Max         *Max        `json:"max,omitempty"`
	Frontier    *Frontier   `json:"frontier,omitempty"`
	Environment Environment `json:"environment"`
}

// Max is the result of a search for the highest load within an SLO.
type Max struct {
	Of     string  `json:"of"`     // "requests/s" or "streams"
	Value  float64 `json:"value"`  // 0: none
	Failed float64 `json:"failed"` // the lowest that was not within; 0: none was tried
	Proven bool    `json:"proven"` // confirmed, and a higher one was seen to fail
	Limit  string  `json:"limit"`  // what broke there
	Probes []Probe `json:"probes"`
}

// Probe is one run of a search.
type Probe struct {
	Value  float64 `json:"value"`
	Within bool    `json:"within"`
	Why    string  `json:"why,omitempty"`
	P99    float64 `json:"p99"`
	Errors int64   `json:"errors"`
}

// Frontier is what an endpoint carries at each tail latency that one is willing
// to accept, and how many streams it carries whole. The definitions are those of
// the public gateway benchmark GetBusbar/benchmarking, so that figures can stand
// beside its board.
type Frontier struct {
	Readings []Reading     `json:"readings"`
	Rungs    []Rung        `json:"rungs"`
	Streams  int           `json:"streams"`            // most that were carried whole
	Failed   int           `json:"streams_failed"`     // the fewest that were not; 0: none was tried
	Why      string        `json:"streams_failed_why"` // what went wrong there
	Ladder   []StreamsRung `json:"streams_rungs"`
}

// Reading is the most requests a second under a bound of the p99 latency, with
// no request failed.
type Reading struct {
	Bound       float64 `json:"p99_bound"` // seconds; 0: none
	Rate        float64 `json:"rate"`      // 0: no rung was within
	Connections int     `json:"connections"`
	P99         float64 `json:"p99"`
	Lower       bool    `json:"lower_bound"` // no higher concurrency was tried
}

// Rung is one window of the sweep.
type Rung struct {
	Connections int     `json:"connections"`
	Rate        float64 `json:"rate"`
	P99         float64 `json:"p99"`
	Failed      int64   `json:"failed"`
	Finished    int64   `json:"finished"`
}

// StreamsRung is one window of concurrent streams.
type StreamsRung struct {
	Streams int    `json:"streams"`
	Whole   bool   `json:"whole"`
	Why     string `json:"why,omitempty"`
}

// Environment is what a figure depends on.
type Environment struct {
	CPU     string   `json:"cpu"`
	Cores   int      `json:"cores"`
	Memory  string   `json:"memory"`
	Kernel  string   `json:"kernel"`
	Go      string   `json:"go"`
	System  string   `json:"system"`
	Version string   `json:"version"` // of the program that measured
	Files   uint64   `json:"open_files"`
	Flags   []string `json:"flags"` // the command line, without keys
}

// Here describes this machine.
func Here(version string, flags []string) Environment {
	e := Environment{Cores: runtime.NumCPU(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Version: version, Flags: flags}
	e.CPU = field("/proc/cpuinfo", "model name")
	e.Memory = field("/proc/meminfo", "MemTotal")
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		e.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		e.Files = l.Cur
	}
	return e
}

// field is the first value of a name in a file of "name: value" lines.
func field(file, name string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

// Passed reports whether the run is valid and within all of its bounds.
func (r *Report) Passed() bool {
	for _, v := range r.Verdicts {
		if !v.Passed {
			return false
		}
	}
	return r.Valid
}

// ErrorShare is the part of the window's requests that failed.
func (r *Report) ErrorShare() float64 {
	switch {
	case r.Failed > 0:
		return float64(r.Failed) / float64(max(r.Requests, r.Failed))
	case r.Requests == 0 && r.Errors > 0:
		return 1
	}
	return 0
}

// Duration prints seconds with three digits.
func Duration(s float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1, "s"}, {1e-3, "ms"}, {1e-6, "µs"}} {
		if math.Abs(s) >= unit.size*0.9995 {
			return Number(s/unit.size) + " " + unit.name
		}
	}
	return Number(s/1e-9) + " ns"
}

// plain prints a number without zeros behind it, for axes.
func plain(v float64) string { return strconv.FormatFloat(math.Round(v*1000)/1000, 'f', -1, 64) }

// plainDuration is Duration for axes.
func plainDuration(s float64) string {
	text := Duration(s)
	number, unit, _ := strings.Cut(text, " ")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return text
	}
	return plain(v) + " " + unit
}

// Number prints three significant digits, or all before the point.
func Number(v float64) string {
	switch a := math.Abs(v); {
	case v == 0:
		return "0"
	case a < 9.995:
		return fmt.Sprintf("%.2f", v)
	case a < 99.95:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
