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
	pids     []int
	provider []int
	admin    string
}

// errNoMeter says that nobody named a process.
var errNoMeter = errors.New("neither a process nor an admin URL was given")

func newMeter(pid, provider int, admin string) (m meter, err error) {
	if pid != 0 {
		if m.pids, err = Tree(pid); err != nil {
			return m, err
		}
	}
	if provider != 0 {
		m.provider = []int{provider}
	}
	m.admin = strings.TrimSuffix(admin, "/metrics")
	return m, nil
}

// memory returns the endpoint's memory in KiB: the proportional set size of its
// processes, or the resident one that its metrics tell.
func (m *meter) memory(ctx context.Context) (int64, error) {
	if len(m.pids) > 0 {
		return pss(m.pids)
	}
	if m.admin == "" {
		return 0, errNoMeter
	}
	v, err := m.metric(ctx, "process_resident_memory_bytes")
	return int64(v) / 1024, err
}

// cpu returns the endpoint's CPU time in nanoseconds.
func (m *meter) cpu(ctx context.Context) (int64, error) {
	if len(m.pids) > 0 {
		return cpu(m.pids)
	}
	if m.admin == "" {
		return 0, nil
	}
	v, err := m.metric(ctx, "process_cpu_seconds_total")
	return int64(v * 1e9), err
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
	at, finished, events, peer, provider, own int64
}

func (r *run) read() (s reading, err error) {
	a := r.arms[0]
	s.peer, err = r.meter.cpu(context.Background())
	s.at, s.finished, s.events = simulate.Now(), a.finished.Load(), a.events.Load()
	if err != nil {
		return s, err
	}
	if s.provider, err = cpu(r.meter.provider); err != nil {
		return s, err
	}
	s.own, err = cpu([]int{os.Getpid()})
	return s, err
}
