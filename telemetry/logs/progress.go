package logs

import (
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"

	"streamrelay/telemetry/spool"
)

// progress shows how far a scan of files has come, on a terminal and only once
// it takes a while. A nil progress shows nothing.
type progress struct {
	w    io.Writer
	bar  *progressbar.ProgressBar
	done int64
	all  int64
	at   time.Time
}

// newProgress returns nil where w is no terminal.
func newProgress(w io.Writer) *progress {
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		return &progress{w: w}
	}
	return nil
}

func (p *progress) start(files []spool.File) {
	if p == nil {
		return
	}
	p.at, p.done, p.all, p.bar = time.Now(), 0, 0, nil
	for _, f := range files {
		p.all += f.Bytes
	}
}

// add says that n more bytes are behind.
func (p *progress) add(n int64) {
	if p == nil {
		return
	}
	p.done += n
	if p.bar == nil {
		if time.Since(p.at) < 500*time.Millisecond {
			return
		}
		p.bar = progressbar.NewOptions64(p.all, progressbar.OptionSetWriter(p.w), progressbar.OptionShowBytes(true),
			progressbar.OptionSetDescription("reading the log"), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	_ = p.bar.Set64(min(p.done, p.all))
}

func (p *progress) end() {
	if p != nil && p.bar != nil {
		_ = p.bar.Clear()
	}
}
