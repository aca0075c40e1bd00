package requestlog

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"streamrelay/configs"
	"streamrelay/telemetry"
	"streamrelay/telemetry/spool"
)

// Options say what a Recorder records and where it puts it.
type Options struct {
	Instance  string // of the rows; "": the host's name
	Endpoints []string
	Upstreams []Upstream
	Models    []string // as the configuration names them
	Prices    map[string]configs.Price

	Files      configs.RequestLog
	ClickHouse configs.ClickHouse
	Log        zerolog.Logger

	BlockRows int           // rows of a full block; 0: 10,000
	Interval  time.Duration // a block is sealed at the latest; 0: 1 s, 50 ms with durability wal
	Backoff   time.Duration // after a failed attempt, doubled up to 40 times of it; 0: 250 ms
	Timeout   time.Duration // of one INSERT; 0: 30 s

	// Inserted is told how long each INSERT took that ClickHouse acknowledged;
	// nil: nobody asks. Senders call it, so that it must not wait.
	Inserted func(time.Duration)
}

// FromConfig fills what the configuration says, for a relay.
func FromConfig(c *configs.Config) Options {
	o := Options{Files: c.RequestLog, ClickHouse: c.ClickHouse, Prices: c.Prices, Models: modelsOf(c)}
	for i := range c.Upstreams {
		o.Upstreams = append(o.Upstreams, upstreamOf(&c.Upstreams[i]))
	}
	return o
}

// modelsOf lists the models that routes name.
func modelsOf(c *configs.Config) (names []string) {
	for _, r := range c.Routes {
		names = append(names, r.Models...)
		for alias := range r.RewriteModel {
			names = append(names, alias)
		}
	}
	return names
}

func upstreamOf(c *configs.Upstream) Upstream {
	u := Upstream{Name: c.Name, InputExcludesCache: c.Dialect == configs.Anthropic}
	for i, credential := range c.Credentials {
		name := credential.Name
		if name == "" {
			name = strconv.Itoa(i)
		}
		u.Credentials = append(u.Credentials, name)
	}
	return u
}

// Recorder is the request log of one relay. Append may be called from any
// number of goroutines, until Close; the other methods from one at a time.
type Recorder struct {
	o    Options
	rows *rows
	log  pipe // of rows

	bodies    atomic.Pointer[bodies] // nil: never wanted yet
	bodiesLog *pipe                  // of bodies, where there are any

	changing  sync.Mutex // of names, settings and what is published
	published *telemetry.Telemetry
}

// Enabled reports whether a configuration asks for a request log.
func Enabled(c *configs.Config) bool { return c.RequestLog.Dir != "" || c.ClickHouse.Enabled() }

// New starts a recorder. It needs neither the folder nor ClickHouse to be
// there: what cannot be kept is dropped, counted, and said once.
func New(o Options) *Recorder {
	if o.Instance == "" {
		o.Instance, _ = os.Hostname()
	}
	if o.BlockRows == 0 {
		o.BlockRows = defaultBlockRows
	}
	if o.Backoff == 0 {
		o.Backoff = 250 * time.Millisecond
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	r := &Recorder{o: o}
	r.rows = newRows(&o, &r.log.stats.dropped[dropQueue])
	r.log.start(&requestLog, r.rows, &o)
	r.wantBodies(&o.Files, &o.ClickHouse)
	return r
}

// wantBodies begins to keep bodies where that is asked for, or where there are
// some of an earlier time. What has begun goes on until Close: with bodies off it
// has nothing to do but to bring what waits, and to delete what is too old.
func (r *Recorder) wantBodies(files *configs.RequestLog, clickhouse *configs.ClickHouse) {
	if r.bodiesLog != nil || !files.WithBodies() && (files.Dir == "" || !spool.Holds(requestBodies.dir(files))) {
		return
	}
	p := new(pipe)
	in := newBodies(files, &p.stats.dropped[dropQueue])
	o := r.o
	o.Files, o.ClickHouse = *files, *clickhouse
	p.start(&requestBodies, in, &o)
	r.bodiesLog = p
	r.bodies.Store(in)
}

// Append records one finished exchange. It copies what it keeps, allocates
// nothing and waits for no I/O; a row that finds no room is counted as dropped.
// It is telemetry's Options.Sink.
func (r *Recorder) Append(q *telemetry.Request) {
	r.rows.add(q)
	if q.RequestBody != nil || q.AnswerBody != nil {
		if b := r.bodies.Load(); b != nil {
			b.add(q)
		}
	}
}

// Close seals what has come, gives the senders wait to store what is sealed,
// and ends. What is not stored by then stays in the spool; the error says how
// many rows there was no place for. Append must not be called any more.
func (r *Recorder) Close(wait time.Duration) error {
	var others sync.WaitGroup
	lost := uint64(0)
	if p := r.bodiesLog; p != nil {
		others.Go(func() { p.close(wait) })
	}
	r.log.close(wait)
	others.Wait()
	for _, p := range r.pipes() {
		lost += p.stats.lostAtClose.Load()
	}
	if lost > 0 {
		return fmt.Errorf("request log: %d rows could not be kept at the end", lost)
	}
	return nil
}

func (r *Recorder) pipes() []*pipe {
	if r.bodiesLog == nil {
		return []*pipe{&r.log}
	}
	return []*pipe{&r.log, r.bodiesLog}
}
