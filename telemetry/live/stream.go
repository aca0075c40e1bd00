package live

import (
	"net/http"
	"strconv"
	"time"
)

const (
	// maxViewers look at a time.
	maxViewers = 64
	// writePatience is how long a viewer's connection may not take what is
	// written, before the viewer is let go.
	writePatience = 10 * time.Second
)

// Handler serves the page at /, and below /live/ its files and what it shows.
// guard wraps what tells of the relay; the page and its files tell nothing and
// are given to anybody, for a browser to ask for the token there.
func (l *Live) Handler(guard func(http.Handler) http.Handler) http.Handler {
	mux := http.NewServeMux()
	servePage(mux)
	mux.Handle("GET /live/state", guard(http.HandlerFunc(l.serveState)))
	mux.Handle("GET /live/events", guard(http.HandlerFunc(l.serveEvents)))
	return mux
}

// serveState answers with everything, once.
func (l *Live) serveState(w http.ResponseWriter, _ *http.Request) {
	l.mu.Lock()
	state := l.stateLocked()
	l.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(state) // the reader's business
}

// stateLocked returns the JSON of everything at this second, made once for all
// who ask within it.
func (l *Live) stateLocked() []byte {
	if l.state == nil {
		l.state = l.encodeLocked(true)
	}
	return l.state
}

// serveEvents streams everything, and then each second, until the client leaves
// or the relay ends.
func (l *Live) serveEvents(w http.ResponseWriter, r *http.Request) {
	if !l.enter() {
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many look at this relay already, or it is about to end", http.StatusServiceUnavailable)
		return
	}
	defer l.leave()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // the server's would end the stream
	var seen uint64
	begun := false
	for {
		event, seq, ended := l.after(seen, begun)
		seen, begun = seq, true
		if out.SetWriteDeadline(time.Now().Add(writePatience)) != nil {
			return
		}
		if _, err := w.Write(event); err != nil {
			return
		}
		if out.Flush() != nil {
			return
		}
		select {
		case <-ended:
		case <-r.Context().Done():
			return
		case <-l.stop:
			return
		}
	}
}

// enter counts a viewer in, unless there are too many or the relay ends.
func (l *Live) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.viewers == maxViewers {
		return false
	}
	l.viewers++
	l.running.Add(1)
	return true
}

func (l *Live) leave() {
	l.mu.Lock()
	l.viewers--
	l.mu.Unlock()
	l.running.Done()
}

// after returns the event for a viewer that has seen second seen: the tick that
// followed, or everything where the viewer has begun just now or was too slow
// for one. ended closes when there is a next one.
func (l *Live) after(seen uint64, begun bool) (event []byte, seq uint64, ended <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if begun && seen+1 == l.seq && l.tick != nil {
		return l.tick, l.seq, l.ended
	}
	return appendEvent("state", l.seq, l.stateLocked()), l.seq, l.ended
}

// appendEvent returns a server-sent event.
func appendEvent(name string, seq uint64, data []byte) []byte {
	b := make([]byte, 0, len(data)+48)
	b = append(b, "event: "...)
	b = append(b, name...)
	b = append(b, "\nid: "...)
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, "\ndata: "...)
	b = append(b, data...)
	return append(b, "\n\n"...)
}
