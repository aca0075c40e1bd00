package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"streamrelay/bench/simulate"
)

// meter reads what the endpoint's and the provider's processes cost.
type meter struct {
	pid      int // with its descendants, whenever they began; 0: unknown
	provider int // alone
	admin    string
}

// errNoMeter says that nobody named a process.
var errNoMeter = errors.New("neither a process nor an admin URL was given")

func newMeter(pid, provider int, admin string) meter {
	return meter{pid: pid, provider: provider, admin: strings.TrimSuffix(admin, "/metrics")}
}

// memory returns the endpoint's memory in KiB: the proportional set size of its
// processes, or the resident one that its metrics tell.
func (m *meter) memory(ctx context.Context) (int64, error) {
	if m.pid != 0 {
		return pss(m.pid)
	}
	if m.admin == "" {
		return 0, errNoMeter
	}
	v, err := m.metric(ctx, "process_resident_memory_bytes")
	return int64(v) / 1024, err
}

// cpu returns the CPU time of each of the endpoint's processes in nanoseconds,
// or under 0 that which its metrics tell.
func (m *meter) cpu(ctx context.Context) (map[int]int64, error) {
	if m.pid != 0 {
		return cpuTree(m.pid)
	}
	if m.admin == "" {
		return nil, nil
	}
	v, err := m.metric(ctx, "process_cpu_seconds_total")
	return map[int]int64{0: int64(v * 1e9)}, err
}

// spent returns the CPU time between two readings. A process that began between
// them began at 0; what one that ended had used cannot be known.
func spent(before, after map[int]int64) (ns int64, err error) {
	for pid := range before {
		if _, ok := after[pid]; !ok {
			return 0, fmt.Errorf("process %d ended within the window: its CPU time is not known", pid)
		}
	}
	for pid, at := range after {
		ns += at - before[pid]
	}
	return ns, nil
}

// metric reads one value of the admin listener's /metrics.
func (m *meter) metric(ctx context.Context, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.admin+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("read the endpoint's metrics: %w", err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("read the endpoint's metrics: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return 0, fmt.Errorf("read the endpoint's metrics: status %d", resp.StatusCode)
	}
	for s := bufio.NewScanner(io.LimitReader(resp.Body, 64<<20)); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return 0, fmt.Errorf("metric %s: %w", name, err)
			}
			return v, nil
		}
	}
	return 0, fmt.Errorf("%s/metrics has no %s", m.admin, name)
}

// reading is the state of all counters at one moment.
type reading struct {
	at, finished, events, provider, own int64
	peer                                map[int]int64
}

func (r *run) read() (s reading, err error) {
	a := r.arms[0]
	s.peer, err = r.meter.cpu(context.Background())
	s.at, s.finished, s.events = simulate.Now(), a.finished.Load(), a.events.Load()
	if err != nil {
		return s, err
	}
	if r.meter.provider != 0 {
		if s.provider, err = cpu(r.meter.provider); err != nil {
			return s, err
		}
	}
	s.own, err = cpu(os.Getpid())
	return s, err
}
