package sdk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"time"
)

// waitTime is how long anybody waits for something that is to happen.
const waitTime = 20 * time.Second

// provider plays the provider: it answers a request as the script says that
// the request names in its x-script field, and remembers what it was sent.
type provider struct {
	mu      sync.Mutex // protects all below
	scripts map[string]*script
	changed chan struct{} // closed and replaced when anything changes
}

// script is one scene. The k-th request gets the k-th answer, and those after
// the last one the last.
type script struct {
	answers  []answer
	released int // how many waits may go on
	waited   int // how many waits there were
	calls    []*call
	records  []record
}

// answer is what the provider does with one request.
type answer struct {
	Hold    bool              `json:"hold"`   // no head; wait until the relay closes the connection
	Status  int               `json:"status"` // 0: close without a head
	Headers map[string]string `json:"headers"`
	Steps   []step            `json:"steps"`
	End     string            `json:"end"` // "": properly; cut: break the connection; hold: wait until the relay closes it
}

// step is a piece of a body that leaves by itself, or a wait until the script
// is told to go on.
type step struct {
	Bytes []byte `json:"bytes"`
	Wait  bool   `json:"wait"`
}

// call is one request as the provider got it.
type call struct {
	Method  string            `json:"method"`
	URI     string            `json:"uri"`
	Headers map[string]string `json:"headers"`
	Text    string            `json:"text,omitempty"` // the body, unless it is a form
	Form    map[string]part   `json:"form,omitempty"`
	Closed  bool              `json:"closed"` // the relay closed the connection before the answer's end
}

// part is a field of a form.
type part struct {
	Name   string `json:"name,omitempty"` // of the file
	Value  string `json:"value,omitempty"`
	Size   int    `json:"size"`
	SHA256 string `json:"sha256"`
}

func newProvider() *provider {
	return &provider{scripts: map[string]*script{}, changed: make(chan struct{})}
}

// update changes something and tells all who wait.
func (p *provider) update(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

// await waits until ready, which is called under the lock, says so.
func (p *provider) await(ctx context.Context, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, waitTime)
	defer cancel()
	for {
		p.mu.Lock()
		ok, changed := ready(), p.changed
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// add takes a script and names it.
func (p *provider) add(answers []answer) (id string) {
	p.update(func() {
		id = fmt.Sprintf("script-%d", len(p.scripts)+1)
		p.scripts[id] = &script{answers: answers}
	})
	return id
}

// ServeHTTP is the provider as the relay sees it.
func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := readCall(r)
	if err != nil {
		panic(http.ErrAbortHandler) // the client left while it sent
	}
	var s *script
	var a answer
	p.update(func() {
		if s = p.scripts[r.Header.Get("X-Script")]; s == nil {
			return
		}
		a = s.answers[min(len(s.calls), len(s.answers)-1)]
		s.calls = append(s.calls, c)
	})
	if s == nil {
		http.Error(w, "no such script", http.StatusTeapot)
		return
	}
	// A broken or held answer ends as net/http's own abort: the connection
	// is closed without the end of the body.
	switch {
	case a.Hold:
		p.hold(r, c)
	case a.Status == 0:
		panic(http.ErrAbortHandler)
	}
	for name, value := range a.Headers {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.Status)
	alone := len(a.Steps) == 1 && a.End == "" // net/http then says how long it is
	if !alone {
		_ = http.NewResponseController(w).Flush()
	}
	for _, step := range a.Steps {
		if step.Wait {
			if p.wait(r, s) != nil {
				p.hold(r, c)
			}
			continue
		}
		if _, err := w.Write(step.Bytes); err != nil {
			p.hold(r, c)
		}
		if !alone {
			_ = http.NewResponseController(w).Flush()
		}
	}
	switch a.End {
	case "cut":
		panic(http.ErrAbortHandler)
	case "hold":
		p.hold(r, c)
	}
}

// wait waits until the script is told to go on.
func (p *provider) wait(r *http.Request, s *script) error {
	var turn int
	p.update(func() { s.waited++; turn = s.waited })
	return p.await(r.Context(), func() bool { return s.released >= turn })
}

// hold waits until the relay has closed the connection, notes it, and gives
// the answer up.
func (p *provider) hold(r *http.Request, c *call) {
	select {
	case <-r.Context().Done():
		p.update(func() { c.Closed = true })
	case <-time.After(waitTime):
	}
	panic(http.ErrAbortHandler)
}

// readCall reads a request to its end; after that net/http notices when the
// relay closes the connection.
func readCall(r *http.Request) (*call, error) {
	c := &call{Method: r.Method, URI: r.RequestURI, Headers: map[string]string{"host": r.Host}}
	for name, values := range r.Header {
		c.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	media, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if media == "multipart/form-data" {
		return c, c.readForm(multipart.NewReader(r.Body, params["boundary"]), r.Body)
	}
	body, err := io.ReadAll(r.Body)
	c.Text = string(body)
	return c, err
}

// readForm reads the parts of a form, and what may follow them.
func (c *call) readForm(form *multipart.Reader, body io.Reader) error {
	c.Form = map[string]part{}
	for {
		p, err := form.NextRawPart()
		if err == io.EOF {
			_, err := io.Copy(io.Discard, body)
			return err
		}
		if err != nil {
			return err
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		f := part{Name: p.FileName(), Size: len(data), SHA256: hex.EncodeToString(sum[:])}
		if f.Name == "" {
			f.Value = string(data)
		}
		c.Form[p.FormName()] = f
	}
}

// control is how the tests in Node speak with the provider. Each answer is
// JSON; a wait that comes to nothing is a 504 with all that there is.
func (p *provider) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /scripts", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Answers []answer `json:"answers"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Answers) == 0 {
			http.Error(w, fmt.Sprintf("bad script: %v", err), http.StatusBadRequest)
			return
		}
		reply(w, http.StatusOK, map[string]string{"id": p.add(in.Answers)})
	})
	mux.HandleFunc("POST /scripts/{id}/release", p.with(func(w http.ResponseWriter, _ *http.Request, s *script, _ int) {
		p.update(func() { s.released++ })
		reply(w, http.StatusOK, nil)
	}))
	mux.HandleFunc("GET /scripts/{id}/calls", p.with(func(w http.ResponseWriter, r *http.Request, s *script, n int) {
		p.report(w, r, func() any { return append([]*call{}, s.calls...) }, func() bool { return len(s.calls) >= n })
	}))
	mux.HandleFunc("GET /scripts/{id}/closed", p.with(func(w http.ResponseWriter, r *http.Request, s *script, n int) {
		p.report(w, r, func() any { return append([]*call{}, s.calls...) }, func() bool { return len(s.calls) >= n && s.calls[n-1].Closed })
	}))
	mux.HandleFunc("GET /scripts/{id}/records", p.with(func(w http.ResponseWriter, r *http.Request, s *script, n int) {
		p.report(w, r, func() any { return append([]record{}, s.records...) }, func() bool { return len(s.records) >= n })
	}))
	return mux
}

// with finds the script that the path names, and ?n=, which is 1 by itself.
func (p *provider) with(h func(http.ResponseWriter, *http.Request, *script, int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		s := p.scripts[r.PathValue("id")]
		p.mu.Unlock()
		if s == nil {
			http.NotFound(w, r)
			return
		}
		n := 1
		if v := r.FormValue("n"); v != "" {
			if _, err := fmt.Sscan(v, &n); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		h(w, r, s, n)
	}
}

// report waits until ready and replies with what view, called under the lock,
// shows.
func (p *provider) report(w http.ResponseWriter, r *http.Request, view func() any, ready func() bool) {
	status := http.StatusOK
	if p.await(r.Context(), ready) != nil {
		status = http.StatusGatewayTimeout
	}
	p.mu.Lock()
	data, err := json.Marshal(view())
	p.mu.Unlock()
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(err.Error())
	}
	reply(w, status, json.RawMessage(data))
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
