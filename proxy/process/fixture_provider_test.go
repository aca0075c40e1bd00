package process

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// heldProvider streams one event to each request and the rest when it is let
// go, so that a test decides what happens while a stream is open.
type heldProvider struct {
	addr  string
	goOn  chan struct{} // closed: finish the streams
	ended chan error    // gets what ended each: nil, or why the relay left
}

const (
	firstEvent = `{"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"first"}}]}`
	lastEvent  = `{"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"last"},"finish_reason":"stop"}]}`
)

func holdStreams(t testing.TB) *heldProvider {
	p := &heldProvider{goOn: make(chan struct{}), ended: make(chan error, 1024)}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintln(w, `{"object":"list","data":[]}`)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // net/http looks for the client's end only behind the body
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: %s\n\n", firstEvent)
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			p.ended <- r.Context().Err()
			return
		case <-p.goOn:
		}
		fmt.Fprintf(w, "data: %s\n\ndata: [DONE]\n\n", lastEvent)
		p.ended <- nil
	}))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	p.addr = srv.Listener.Addr().String()
	return p
}

// letGo finishes the streams.
func (p *heldProvider) letGo() { close(p.goOn) }
