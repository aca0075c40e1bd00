package process

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streamrelay/telemetry/clickhouse/chtest"
)

// BenchmarkRequestLog is what the request log costs: relays with and without it
// serve the same requests in turn, 8,000 each in one round, and their CPU time
// from the first to the last row stored is compared with the mean of the two
// that have none. The ratio of these two, control, is the noise of the run: two
// processes of one program differ by a few per cent. The relays have the first
// processor for themselves, so that what is measured is theirs, and not what
// ClickHouse does to a cache that they share with it.
//
//	go test ./proxy/process -run - -bench RequestLog -benchtime 60x
func BenchmarkRequestLog(b *testing.B) {
	const requests, connections = 8000, 16
	onFirst, onOthers := processors(b)
	onOthers()
	provider := simulate(b, "--profile", "ttft=0,gap=0,events=3")
	kinds := []struct{ name, sections string }{
		{"off", "request_log: {dir: \"\"}\n"},
		{"control", "request_log: {dir: \"\"}\n"},
		{"files", ""},
	}
	if os.Getenv("RELAY_TEST_CHTESTD") != "" {
		db := chtest.Start(b)
		kinds = append(kinds, struct{ name, sections string }{"clickhouse", fmt.Sprintf("clickhouse: {address: %q}\n", db.Native)})
	}
	relays := make([]*relay, len(kinds))
	for i, k := range kinds {
		dir, key := setUp(b, provider, k.sections+"log: {access: false}\n")
		if k.name == "clickhouse" {
			if r := run(b, dir, "migrate"); r.code != 0 {
				b.Fatalf("migrate: %s", r.stderr)
			}
		}
		onFirst()
		relays[i] = serve(b, dir, key)
		onOthers()
		relays[i].client.Transport.(*http.Transport).MaxIdleConnsPerHost = connections
		relays[i].load(requests, connections) // opens connections, fills pools
	}
	before := make([]time.Duration, len(relays))
	for i, r := range relays {
		before[i] = r.cpuTime()
	}
	rounds := 0
	for b.Loop() {
		// By chance: the one that goes on twice finds the caches warm.
		for _, i := range rand.Perm(len(relays)) {
			relays[i].load(requests, connections)
		}
		rounds++
	}
	time.Sleep(1500 * time.Millisecond)  // the last rows are sealed within a second
	each := make([]float64, len(relays)) // µs
	for i, r := range relays {
		each[i] = float64((r.cpuTime() - before[i]).Nanoseconds()) / 1e3 / float64(rounds*requests)
	}
	off := (each[0] + each[1]) / 2
	b.ReportMetric(off, "µs/req-off")
	b.ReportMetric(each[1]/each[0], "ratio-control")
	for i := 2; i < len(each); i++ {
		b.ReportMetric(each[i]/off, "ratio-"+kinds[i].name)
	}
	b.ReportMetric(0, "ns/op")
}

// load sends n requests on some connections, each as soon as the one before is
// answered.
func (r *relay) load(n, connections int) {
	r.t.Helper()
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for range n / connections {
				res, err := r.do("POST", "/v1/chat/completions", r.key, `{"model":"m","messages":[]}`)
				if err != nil {
					r.t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		})
	}
	wg.Wait()
}

// cpuTime is what the process has used, to 10 ms (proc_pid_stat(5), where a
// tick is 10 ms on Linux).
func (r *relay) cpuTime() time.Duration {
	r.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	ticks := 0
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		if err != nil {
			r.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// processors returns what makes the processes that are started next run on the
// first processor, or on all others, where this process is from then on.
func processors(b *testing.B) (onFirst, onOthers func()) {
	b.Helper()
	var all, first unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		b.Fatal(err)
	}
	others := all
	for cpu := 0; first.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			first.Set(cpu)
			others.Clear(cpu)
		}
	}
	if others.Count() == 0 {
		b.Fatal("one processor is not enough to tell the relay's time from that of the rest")
	}
	runtime.LockOSThread() // a process has the processors of the thread that starts it
	b.Cleanup(runtime.UnlockOSThread)
	set := func(thread int, cpus *unix.CPUSet) {
		if err := unix.SchedSetaffinity(thread, cpus); err != nil {
			b.Fatal(err)
		}
	}
	b.Cleanup(func() { onThreads(b, func(thread int) { set(thread, &all) }) })
	return func() { set(0, &first) }, func() { onThreads(b, func(thread int) { set(thread, &others) }) }
}

// onThreads calls each with the threads of this process.
func onThreads(b *testing.B, each func(thread int)) {
	b.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		b.Fatal(err)
	}
	for _, task := range tasks {
		if thread, err := strconv.Atoi(task.Name()); err == nil {
			each(thread)
		}
	}
}
