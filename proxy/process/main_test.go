package process

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// binary is the relay under test; TestMain builds it.
var binary string

// parallel is how many tests run at a time at least: most of a test is waiting.
const parallel = 6

func TestMain(m *testing.M) {
	flag.Parse()
	if n, err := strconv.Atoi(flag.Lookup("test.parallel").Value.String()); err == nil && n < parallel {
		_ = flag.Set("test.parallel", strconv.Itoa(parallel))
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "relay-process-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a folder for the binary:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "relay")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "streamrelay")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if raceEnabled { // what go test has compiled of it is compiled
		build = exec.Command("go", "build", "-race", "-o", binary, "streamrelay")
	}
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the relay: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
