package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Tree returns pid and all its descendants.
func Tree(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	children := map[int][]int{}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		// The name in parentheses may hold anything; the parent stands two
		// fields behind it.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 {
			if parent, err := strconv.Atoi(string(fields[1])); err == nil {
				children[parent] = append(children[parent], id)
			}
		}
	}
	tree := []int{pid}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree, nil
}

// cpu returns the CPU time, user and system, of a process in nanoseconds. It
// reads its CPU clock, which is exact where /proc/PID/stat counts ticks of 10 ms.
func cpu(pid int) (int64, error) {
	// MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of linux/posix-timers.h.
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return ts.Nano(), nil
}

// cpuTree returns the CPU time of pid and of each of its descendants.
func cpuTree(pid int) (map[int]int64, error) {
	tree, err := Tree(pid)
	if err != nil {
		return nil, err
	}
	times := map[int]int64{}
	for _, id := range tree {
		ns, err := cpu(id)
		if err != nil && id == pid {
			return nil, err
		}
		if err == nil { // a child that has ended since the list was made is none
			times[id] = ns
		}
	}
	return times, nil
}

// pss returns the proportional set size of pid and its descendants in KiB.
func pss(pid int) (int64, error) {
	tree, err := Tree(pid)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, id := range tree {
		f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", id))
		if errors.Is(err, os.ErrNotExist) && id != pid {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("memory of process %d: %w", id, err)
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			if v, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
				n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(v, "kB")), 10, 64)
				sum += n
			}
		}
		f.Close()
	}
	return sum, nil
}
