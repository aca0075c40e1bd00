package blackbox

import (
	"flag"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// parallel is how many subtests run at a time at least: most of a test is
// waiting, for a deadline or for the poll in fasthttp's Shutdown.
const parallel = 12

// TestMain fails when a test leaves a goroutine behind.
func TestMain(m *testing.M) {
	flag.Parse()
	if n, err := strconv.Atoi(flag.Lookup("test.parallel").Value.String()); err == nil && n < parallel {
		_ = flag.Set("test.parallel", strconv.Itoa(parallel))
	}
	goleak.VerifyTestMain(m,
		// fasthttp's own, which live as long as the process or for some seconds
		// after a server or client has ended.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).workerFunc"),
	)
}
