package telemetry

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Options say what a Telemetry counts. Only Endpoints is needed.
type Options struct {
	Version, Revision string   // of the build
	Endpoints         []string // fixed names; Request.Endpoint is an index into them
	// Common are the indexes of the endpoints whose series of each upstream
	// and configured model are there at 0 from the start. Nil: the first one.
	Common    []int
	Upstreams []string // names; Request.Upstream is an index into them
	Models    []string // as the configuration names them; globs are skipped

	Access bool // one log line per request, of level info
	Log    *Log // nil: none

	// Sink gets every finished exchange for the request log, from many
	// goroutines. It must not block, and must copy what it keeps. Nil: no
	// request log.
	Sink func(*Request)

	Now func() time.Time // nil: time.Now
}

// Telemetry counts the exchanges of one relay. All methods may be called from
// many goroutines. Use New.
type Telemetry struct {
	// What the proxy counts as it happens; Observe does the rest.
	OpenConnections Level // client connections
	InFlight        Level // exchanges under way
	ActiveStreams   Level // streamed answers under way
	HeldBytes       Level // request bodies held in memory
	Panics          *metrics.Counter
	AcceptErrors    *metrics.Counter

	log    *Log
	access atomic.Bool
	sink   func(*Request)
	now    func() time.Time

	endpoints     []string // Options.Endpoints, and "other"
	otherEndpoint int
	codes         *codeTable
	bounds        bounds
	metadata      map[string]family // immutable

	responses     [numClasses]*metrics.Counter
	ends          [numEndReasons]*metrics.Counter
	aborts        [numAborts]*metrics.Counter
	rejected      [numRejectReasons]*metrics.Counter
	limited       [numLimitReasons]*metrics.Counter
	authFailed    [numAuthReasons]*metrics.Counter
	overhead      *Histogram // phase request
	chunkOverhead *Histogram
	cancel        *Histogram
	overflow      [numClasses]*metrics.Counter // relay_requests_total where there is no room even for "other"
	none          *upstreamSeries
	otherModel    *modelSeries
	noModel       *modelSeries
	otherTenant   *tenantSeries
	upstreams     atomic.Pointer[[]*upstreamSeries] // by Request.Upstream; append only
	models        atomic.Pointer[names[modelSeries]]
	tenants       atomic.Pointer[names[tenantSeries]]
	reload        struct{ ok, at atomic.Int64 } // at in Unix milliseconds

	set *metrics.Set
	fds fdMetrics

	// mu guards the making of series: what follows, and the storing into the
	// tables above. Never held during I/O, nor by a request whose series exist.
	mu            sync.Mutex
	upstreamNames []string // as Register got them; parallel to upstreams
	slots         int      // of maxUpstreams, in use
	other         *upstreamSeries
	budget        budget
	histograms    map[string][]labelled
	published     map[string]*published
	help          map[string]string // by Describe
	extra         []family          // the histograms of others, in the order of their making
	configHash    string            // labels of relay_config_hash
}

// New returns a Telemetry whose series for what is configured stand at 0.
func New(o Options) *Telemetry {
	t := &Telemetry{
		log: o.Log, sink: o.Sink, now: o.Now,
		codes: newCodeTable(), bounds: newBounds(), metadata: make(map[string]family, len(families)),
		set: metrics.NewSet(), budget: budget{left: budgetBytes},
		histograms: make(map[string][]labelled), published: make(map[string]*published), help: make(map[string]string),
	}
	t.SetAccess(o.Access)
	if t.now == nil {
		t.now = time.Now
	}
	for _, f := range families {
		t.metadata[f.name] = f
	}
	t.endpoints, t.otherEndpoint = withOther(o.Endpoints)
	t.registerFixed(o)

	t.otherModel, t.noModel = &modelSeries{name: labelOther}, &modelSeries{name: labelNone}
	t.models.Store(&names[modelSeries]{
		m:    map[string]*modelSeries{labelOther: t.otherModel, labelNone: t.noModel},
		room: maxDiscovered,
	})
	t.otherTenant = t.newTenant(labelOther)
	t.tenants.Store(&names[tenantSeries]{m: map[string]*tenantSeries{labelOther: t.otherTenant}, room: maxTenants})
	t.upstreams.Store(&[]*upstreamSeries{})
	t.none = t.newUpstreamLocked(slotNone, labelNone)

	t.Register(o.Upstreams, o.Models)
	common := o.Common
	if common == nil {
		common = []int{0}
	}
	t.preset(common, o.Models)
	t.configHashLocked("")
	t.Reloaded(true)
	return t
}

// withOther returns names with "other" among them, and its index.
func withOther(names []string) ([]string, int) {
	names = slices.Clone(names)
	if i := slices.Index(names, labelOther); i >= 0 {
		return names, i
	}
	return append(names, labelOther), len(names)
}

// registerFixed makes the series whose labels do not depend on the configuration.
func (t *Telemetry) registerFixed(o Options) {
	t.set.NewGauge("relay_build_info{"+label("version", o.Version)+","+label("revision", o.Revision)+","+
		label("goversion", runtime.Version())+"}", func() float64 { return 1 })
	t.set.NewGauge("relay_config_last_reload_successful", func() float64 { return float64(t.reload.ok.Load()) })
	t.set.NewGauge("relay_config_last_reload_timestamp_seconds", func() float64 { return float64(t.reload.at.Load()) / 1e3 })
	for name, l := range map[string]*Level{
		"relay_open_connections": &t.OpenConnections, "relay_inflight_requests": &t.InFlight,
		"relay_active_streams": &t.ActiveStreams, "relay_held_bytes": &t.HeldBytes,
	} {
		t.set.NewGauge(name, func() float64 { return float64(l.Load()) })
	}
	t.Panics = t.counter("relay_panics_total", "")
	t.AcceptErrors = t.counter("relay_accept_errors_total", "")
	t.Gauge("relay_log_lines_dropped_total", "", func() float64 { return float64(t.log.Dropped()) })

	registerReasons(t, "relay_responses_total", "class", codes[numCodes-numClasses:], t.responses[:])
	registerReasons(t, "relay_end_reasons_total", "reason", endReasons[:], t.ends[:])
	registerReasons(t, "relay_stream_aborts_total", "by", aborts[:], t.aborts[:])
	registerReasons(t, "relay_rejected_total", "reason", rejectReasons[:], t.rejected[:])
	registerReasons(t, "relay_rate_limited_total", "reason", limitReasons[:], t.limited[:])
	registerReasons(t, "relay_auth_failures_total", "reason", authReasons[:], t.authFailed[:])
	other := label("endpoint", labelOther) + "," + label("upstream", labelOther) + "," + label("model", labelOther) + ","
	for i := range t.overflow {
		t.overflow[i] = t.counter("relay_requests_total", other+label("code", codes[numCodes-numClasses+i]))
	}
	t.overhead = t.histogram(nameOverhead, label("phase", "request"), t.bounds.overhead)
	t.chunkOverhead = t.histogram(nameOverhead, label("phase", "chunk"), t.bounds.overhead)
	t.cancel = t.histogram(nameCancel, "", t.bounds.cancel)
	const fixed = 200 // lines of all that is made here, generously
	t.budget.charge(fixed, "")
}

// registerReasons makes one counter for each value of an enumeration.
func registerReasons(t *Telemetry, name, key string, values []string, counters []*metrics.Counter) {
	for i, v := range values {
		counters[i] = t.counter(name, label(key, v))
	}
}

// Register makes series for the upstreams and models of a configuration, where
// there are none yet, and returns for each upstream the index that
// Request.Upstream means by it. A reload calls it before the new configuration
// is in force; indexes given out earlier stay valid, series of what is gone stay.
func (t *Telemetry) Register(upstreams, models []string) []int {
	t.mu.Lock()
	defer t.mu.Unlock()
	index := make([]int, len(upstreams))
	for i, name := range upstreams {
		index[i] = t.upstreamLocked(name)
	}
	for _, name := range models {
		if table := t.models.Load(); table.m[name] == nil && isModelName(name) {
			t.models.Store(table.with(name, &modelSeries{name: name}, false))
		}
	}
	return index
}

// isModelName reports whether a name of the configuration is one model and
// not a glob over many.
func isModelName(name string) bool {
	return labelText([]byte(name), maxModelLabel) && !strings.Contains(name, "*")
}

// upstreamLocked returns the index of the upstream name, and makes it.
func (t *Telemetry) upstreamLocked(name string) int {
	if i := slices.Index(t.upstreamNames, name); i >= 0 {
		return i
	}
	var us *upstreamSeries
	if t.slots < maxUpstreams && t.budget.left > budgetReserve && name != labelOther && name != labelNone {
		us = t.newUpstreamLocked(t.slots, name)
		t.slots++
	} else {
		if t.other == nil {
			t.other = t.newUpstreamLocked(slotOther, labelOther)
		}
		us = t.other
	}
	grown := append(slices.Clone(*t.upstreams.Load()), us)
	t.upstreamNames = append(t.upstreamNames, name)
	t.upstreams.Store(&grown)
	return len(grown) - 1
}

// preset makes series that a first request would make, so that rate() sees the
// step from 0 to 1. It stops at half of the budget.
func (t *Telemetry) preset(common []int, models []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ok := t.codes.index(200)
	for _, us := range *t.upstreams.Load() {
		for _, e := range common {
			if e < 0 || e >= len(t.endpoints) || t.budget.left < budgetBytes/2 {
				continue
			}
			t.durationLocked(us, e, false)
			t.requestsLocked(t.pairLocked(t.otherModel, us, true), e, ok)
			for _, name := range models {
				m := t.models.Load().m[name]
				if m == nil || t.budget.left < budgetBytes/2 {
					continue
				}
				t.requestsLocked(t.pairLocked(m, us, false), e, ok)
			}
		}
	}
}

// Level is a gauge that goes up and down; the zero value is ready.
type Level struct{ n atomic.Int64 }

// Inc adds 1.
func (l *Level) Inc() { l.n.Add(1) }

// Dec subtracts 1.
func (l *Level) Dec() { l.n.Add(-1) }

// Add adds n, which may be negative, and returns the new value.
func (l *Level) Add(n int64) int64 { return l.n.Add(n) }

// Load returns the value.
func (l *Level) Load() int64 { return l.n.Load() }
