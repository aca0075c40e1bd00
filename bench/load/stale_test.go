package load

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"streamrelay/bench/simulate"
)

// TestAnAnswerOlderThanItsRequestIsNotWhole has a cache in front of the provider:
// every answer but the first was written before its request was sent.
func TestAnAnswerOlderThanItsRequestIsNotWhole(t *testing.T) {
	t.Parallel()
	_, addr := startProvider(t, simulate.Options{})
	transport := &http.Transport{DisableKeepAlives: true}
	for name, body := range map[string]string{"json": jsonBody, "stream": streamBody} {
		var mu sync.Mutex
		var old []byte
		cache := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if old == nil {
				r.URL.Scheme, r.URL.Host = "http", addr
				a, err := transport.RoundTrip(r)
				if err != nil {
					return
				}
				defer a.Body.Close()
				old, _ = io.ReadAll(a.Body)
			}
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write(old)
		}))
		defer cache.Close()
		job := shortJob(Closed, strings.TrimPrefix(cache.URL, "http://"), body, "events=3")
		job.Streams = 1 // the first is answered before the second is asked
		res := mustRun(t, job)
		if res.Errors == 0 || res.ByClass[errStale.Error()] != res.Errors || res.OtherClock || res.Requests > res.Failed+1 {
			t.Errorf("%s: %d of %d failed: %v, other clock %v", name, res.Failed, res.Requests, res.ByClass, res.OtherClock)
		}
	}
}
