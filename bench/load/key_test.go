package load

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestNoPartOfTheKeyIsKept has errors quote the key behind so much text that what
// is kept of them ends within it.
func TestNoPartOfTheKeyIsKept(t *testing.T) {
	const key = "sk-secret-0123456789abcdef0123456789abcdef"
	for _, before := range []int{0, 5, maxSaid - 2*len(key), maxSaid - len(key), maxSaid - len(key) + 1, maxSaid - 30, maxSaid - 1, maxSaid} {
		for _, said := range []string{
			strings.Repeat("x", before) + key + strings.Repeat("y", 100),
			key + strings.Repeat("x", max(before-len(key), 0)) + key + key,
		} {
			e := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(401)
				_, _ = io.WriteString(w, said)
			}))
			job := shortJob(Closed, strings.TrimPrefix(e.URL, "http://"), jsonBody, "")
			job.Exact, job.Endpoint.Key, job.Settle, job.Window = false, key, 0, job.Window/10
			res := mustRun(t, job)
			_, err := Probe(context.Background(), job.Endpoint, job.Requests)
			e.Close()
			if err == nil {
				t.Fatal("the probe was not refused")
			}
			for _, kept := range []string{res.Examples["status 401"], err.Error()} {
				if strings.Contains(kept, "sk-") || !strings.Contains(kept, "***") && before < maxSaid {
					t.Errorf("%d before it: %q", before, kept)
				}
			}
		}
	}
}
