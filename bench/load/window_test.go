package load

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"streamrelay/bench/simulate"
)

// TestAStallThatOutlastsTheWindowIsSeen has a proxy stop relaying within the
// window and go on only after it has closed. Every stream comes whole, but events
// that were written within the window were held up for most of it.
func TestAStallThatOutlastsTheWindowIsSeen(t *testing.T) {
	t.Parallel()
	_, addr := startProvider(t, simulate.Options{})
	var gate sync.RWMutex
	proxy := listen(t, func(c net.Conn) {
		up, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			defer up.Close()
			_, _ = io.Copy(up, c)
		}()
		b := make([]byte, 4096)
		for {
			n, err := up.Read(b)
			gate.RLock()
			_, failed := c.Write(b[:n])
			gate.RUnlock()
			if err != nil || failed != nil {
				return
			}
		}
	})
	job := shortJob(Streams, proxy, streamBody, "gap=20ms,events=250")
	job.Streams, job.Window, job.Settle = 10, time.Second, 200*time.Millisecond
	time.AfterFunc(640*time.Millisecond, func() { // the window is about 0.24 s to 1.24 s
		gate.Lock()
		time.AfterFunc(time.Second, gate.Unlock)
	})
	res := mustRun(t, job)
	if res.Errors != 0 || res.Delay.Max < 0.3 || res.Gap.Max < 0.3 {
		t.Errorf("events of the window came up to 1 s late: delay at most %.4f s, gap at most %.4f s, errors %v", res.Delay.Max, res.Gap.Max, res.ByClass)
	}
}
