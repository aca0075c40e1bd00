package limits

import (
	"strconv"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"streamrelay/auth/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t testing.TB, s *redistest.Server) rueidis.Client {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr()}, DisableCache: true, DisableRetry: true, PipelineMultiplex: -1,
		RingScaleEachConn: 8, ReadBufferEachConn: 16 << 10, WriteBufferEachConn: 16 << 10, ConnWriteTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// relays are limiters that share one Redis, as n relays do.
func relays(t testing.TB, s *redistest.Server, n int, o Options) []*Limiter {
	t.Helper()
	list := make([]*Limiter, n)
	for i := range list {
		c := client(t, s)
		o := o
		o.Client, o.Prefix, o.Instance = func() rueidis.Client { return c }, "test:", "relay"+strconv.Itoa(i)
		list[i] = New(o)
		list[i].SetInstances(int64(n))
		t.Cleanup(list[i].Close)
	}
	return list
}

// own is a limiter without Redis, whose time stands still until it is moved.
type own struct {
	*Limiter
	now int64
}

func newOwn(t testing.TB, o Options) *own {
	t.Helper()
	l := &own{now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).UnixNano()}
	o.Now = func() int64 { return l.now }
	l.Limiter = New(o)
	close(l.stop) // no ticks: they would read the time beside the test
	<-l.stopped
	l.stop, l.stopped = make(chan struct{}), make(chan struct{})
	return l
}

func (l *own) pass(d time.Duration) { l.now += int64(d) }
