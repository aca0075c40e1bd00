package load

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestWhatWaitedInVainIsPartOfTheP99 has an endpoint leave one request in twenty
// without an answer, and refuse as many at once.
func TestWhatWaitedInVainIsPartOfTheP99(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	e := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch n.Add(1) % 20 {
		case 0:
			<-r.Context().Done()
		case 10:
			w.WriteHeader(429)
		default:
			time.Sleep(50 * time.Millisecond)
			_, _ = io.WriteString(w, `{"choices":[]}`)
		}
	}))
	defer e.Close()
	job := shortJob(Open, strings.TrimPrefix(e.URL, "http://"), jsonBody, "")
	job.Exact, job.Streams, job.Settle, job.Window, job.Timeout = false, 200, 0, time.Second, time.Second
	res := mustRun(t, job)
	if res.Requests != 200 || res.ByClass["timeout"] != 10 || res.ByClass["status 429"] != 10 {
		t.Fatalf("%d requests, errors %v", res.Requests, res.ByClass)
	}
	if res.Waited < 10 || res.Latency.P99 < 1 || res.Head.P99 < 1 || res.Latency.Min < 0.049 || int64(res.Latency.Count) != res.Requests-res.Failed+res.Waited {
		t.Errorf("%d waited, latency %+v", res.Waited, res.Latency)
	}
}
