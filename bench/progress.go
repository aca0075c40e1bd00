package bench

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"streamrelay/bench/load"
	"streamrelay/bench/report"
)

// progress prints a line that is overwritten each second, on a terminal only.
type progress struct {
	w    io.Writer // nil: none
	name string
	last int64
}

func newProgress(w io.Writer) *progress {
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			return &progress{w: w}
		}
	}
	return &progress{}
}

const wipe = "\r\x1b[K"

func (p *progress) show(now load.Progress) {
	if p.w == nil {
		return
	}
	fmt.Fprintf(p.w, "%s%s %s of about %s: %d requests, %d/s, %d errors, p50 %s, p99 %s, %d connections", wipe, p.name,
		now.Elapsed.Round(time.Second), now.Planned.Round(time.Second), now.Finished, now.Finished-p.last, now.Failed,
		report.Duration(now.Latency.P50), report.Duration(now.Latency.P99), now.Open)
	p.last = now.Finished
}

func (p *progress) begin(name string) { p.name, p.last = name, 0 }

func (p *progress) end() {
	if p.w != nil {
		fmt.Fprint(p.w, wipe)
	}
}
