package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"streamrelay/bench/simulate"
)

// Duration is a time.Duration that is JSON nanoseconds.
type Duration = time.Duration

// Job is one run of one scenario.
type Job struct {
	Scenario    string   `json:"scenario"` // closed, open, paced, hold or cancel
	Addr        string   `json:"addr"`     // of the endpoint, host:port, plain HTTP
	Key         string   `json:"key"`      // sent as a bearer token
	Path        string   `json:"path"`
	Body        string   `json:"body"`
	Simulate    string   `json:"simulate"`     // X-Simulate; an id is added
	NoUsage     bool     `json:"no_usage"`     // answers show "usage":null and no usage event (simulate.Expect)
	Streams     int      `json:"streams"`      // connections, or streams held open
	Rate        float64  `json:"rate"`         // requests a second, scenario open
	Ramp        Duration `json:"ramp"`         // over which connections are opened
	Spread      Duration `json:"spread"`       // over which the streams of paced spread their first events, so that they do not all send at the same moments
	Settle      Duration `json:"settle"`       // before the window opens
	Window      Duration `json:"window"`       // what is measured
	Peer        int      `json:"peer"`         // process whose tree is measured, 0: none
	Provider    int      `json:"provider"`     // the simulated provider's process, 0: not measured
	ProviderURL string   `json:"provider_url"` // its base, without a path; scenario cancel
}

// Result is what a run showed. CPU is in nanoseconds within the window.
type Result struct {
	Requests    int64              `json:"requests"` // completed within the window
	Events      int64              `json:"events"`   // received within the window
	All         int64              `json:"all"`      // requests completed in the whole run
	Errors      map[string]int64   `json:"errors"`   // by class, in the whole run
	Seconds     float64            `json:"seconds"`  // length of the window
	PeerCPU     int64              `json:"peer_cpu_ns"`
	ProviderCPU int64              `json:"provider_cpu_ns"`
	OwnCPU      int64              `json:"own_cpu_ns"`
	Reads       int64              `json:"reads"`        // read calls of the whole run
	Delay       Summary            `json:"delay"`        // of an event, provider's write to our read
	Latency     Summary            `json:"latency"`      // of a request, from its due time
	Lag         Summary            `json:"lag"`          // of our sending behind the due time
	PssIdle     int64              `json:"pss_idle_kib"` // scenario hold
	PssOpen     int64              `json:"pss_open_kib"`
	PssLater    int64              `json:"pss_later_kib"`
	Cancels     map[string]Summary `json:"cancels,omitempty"` // by phase: our close to the provider's notice
	Never       int64              `json:"never"`             // cancels that it did not notice
}

// query is a request ready to be sent, and its answer.
type query struct {
	raw    []byte
	want   simulate.Expected
	header string // its X-Simulate
}

// run is the state that a run's goroutines share.
type run struct {
	job      Job
	loopback bool
	pids     []int
	recorded atomic.Bool // the window is open
	requests atomic.Int64
	events   atomic.Int64
	reads    atomic.Int64
	delay    Histogram
	latency  Histogram
	lag      Histogram
	wg       sync.WaitGroup

	mu     sync.Mutex // protects errors
	errors map[string]int64
}

// Run executes a job to its end.
func Run(ctx context.Context, job Job) (Result, error) {
	host, _, err := net.SplitHostPort(job.Addr)
	if err != nil {
		return Result{}, fmt.Errorf("endpoint %q: %w", job.Addr, err)
	}
	ip := net.ParseIP(host)
	r := &run{job: job, loopback: ip != nil && ip.To4() != nil && ip.IsLoopback(), errors: map[string]int64{}}
	if job.Peer != 0 {
		if r.pids, err = Tree(job.Peer); err != nil {
			return Result{}, err
		}
	}
	switch job.Scenario {
	case "closed":
		return r.closed(ctx)
	case "open":
		return r.open(ctx)
	case "paced":
		return r.paced(ctx)
	case "hold":
		return r.hold(ctx)
	case "cancel":
		return r.cancel(ctx)
	}
	return Result{}, fmt.Errorf("scenario %q: want closed, open, paced, hold or cancel", job.Scenario)
}

// query builds a request whose X-Simulate is the job's with more added.
func (r *run) query(id, more string) (*query, error) {
	header := strings.Trim(r.job.Simulate+","+more+",id="+id, ",")
	base := simulate.Profile{Events: 64, Size: 220, Prompt: 7} // the provider's own when it is started bare
	profile, err := simulate.ParseProfile(base, []byte(header))
	if err != nil {
		return nil, err
	}
	want, err := simulate.Expect(r.job.Path, r.job.Body, profile, r.job.NoUsage)
	if err != nil {
		return nil, err
	}
	return &query{raw: r.raw(header), want: want, header: header}, nil
}

// raw is a request as sent.
func (r *run) raw(header string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
		"X-Simulate: %s\r\nContent-Length: %d\r\n\r\n%s", r.job.Path, r.job.Addr, r.job.Key, header, len(r.job.Body), r.job.Body)
}

// after is q with its first event at a later time, which alters no byte of the
// answer.
func (r *run) after(q *query, ttft time.Duration) *query {
	header := q.header + ",ttft=" + ttft.String()
	return &query{raw: r.raw(header), want: q.want, header: header}
}

// event counts a content event that took delay.
func (r *run) event(delay int64) {
	r.events.Add(1)
	if r.recorded.Load() {
		r.delay.Add(delay)
	}
}

// failed counts an error by its class.
func (r *run) failed(err error) {
	class := "other: " + err.Error()
	var status statusError
	switch {
	case errors.As(err, &status):
		class = status.Error()
	case errors.Is(err, errDiffers), errors.Is(err, errIncomplete), errors.Is(err, errTooLong), errors.Is(err, errHead):
		class = err.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		class = "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		class = "cut"
	case errors.Is(err, syscall.ECONNREFUSED):
		class = "refused"
	}
	r.mu.Lock()
	r.errors[class]++
	r.mu.Unlock()
}

// finished counts a request, sent at due or later.
func (r *run) finished(due int64) {
	r.requests.Add(1)
	if r.recorded.Load() {
		r.latency.Add(simulate.Now() - due)
	}
}
