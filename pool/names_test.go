package pool

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"streamrelay/configs"
)

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// resolver answers lookups with what the test sets.
type resolver struct {
	mu    sync.Mutex
	addrs []string
	err   error
	asked int
}

func (r *resolver) lookup(context.Context, string, string) (found []netip.Addr, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	for _, a := range r.addrs {
		found = append(found, netip.MustParseAddr(a))
	}
	return found, r.err
}

func (r *resolver) set(err error, addrs ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addrs, r.err = addrs, err
}

// follow makes u follow a name that r resolves, as if its host were one.
func follow(t *testing.T, u *Upstream, every time.Duration, r *resolver) *names {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	n := newNames(ctx, "name.example", every, &u.running)
	n.lookup = r.lookup
	u.dialer.names = n
	return n
}

func TestConnectionsLeaveAnAddressThatTheNameHasLost(t *testing.T) {
	p := listen(t)
	u := upstreamOf(t, "http://"+p.addr, &Buffers{}, nil)
	r := &resolver{}
	r.set(nil, "127.0.0.1", "::ffff:127.0.0.9")
	n := follow(t, u, time.Millisecond, r)
	use := func() (reused bool) {
		c := acquire(t, u)
		defer c.Release()
		return c.Reused
	}
	use()
	if !use() {
		t.Error("not used again before the first lookup")
	}
	u.running.Wait()
	for range 3 {
		if !use() {
			t.Error("not used again while the name has its address")
		}
		u.running.Wait()
	}
	r.set(errors.New("no answer"))
	time.Sleep(2 * graceOfPeriods * time.Millisecond)
	use()
	u.running.Wait()
	if !use() {
		t.Error("a lookup that failed must change nothing")
	}
	u.running.Wait()
	r.set(nil, "127.0.0.9")
	eventually(t, "its connection is left", func() bool {
		reused := use()
		u.running.Wait()
		return !reused
	})
	if len(n.known()) == 0 {
		t.Error("no address is known")
	}
}

func TestWhatIsNoNameIsNotFollowed(t *testing.T) {
	var wg sync.WaitGroup
	for _, host := range []string{"127.0.0.1", "::1", "localhost"} {
		if newNames(context.Background(), host, time.Second, &wg) != nil {
			t.Errorf("%s is followed", host)
		}
	}
	if newNames(context.Background(), "name.example", 0, &wg) != nil {
		t.Error("followed with a period of 0")
	}
	u := upstreamOf(t, "http://127.0.0.1:1", &Buffers{}, func(c *configs.Upstream) { c.DNSTTL = time.Second })
	if u.dialer.names.lost(nil) || u.dialer.names.known() != nil {
		t.Error("a nil *names follows something")
	}
}

func TestAnAddressOfLatelyServesWhileTheNameCannotBeResolved(t *testing.T) {
	for name, dial := range map[string]func(ctx context.Context, _, _ string) (net.Conn, error){
		"no resolver":   func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("unreachable") },
		"silent answer": func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			p := listen(t)
			_, port, _ := net.SplitHostPort(p.addr)
			u := upstreamOf(t, "http://name.example:"+port, &Buffers{}, func(c *configs.Upstream) {
				c.DNSTTL, c.Timeouts.Connect = time.Hour, 500*time.Millisecond
			})
			u.dialer.resolver = &net.Resolver{PreferGo: true, Dial: dial}
			if _, err := u.Acquire(); err == nil {
				t.Fatal("connected to a name that nobody resolves")
			}
			n := u.dialer.names
			n.mu.Lock()
			n.noteLocked([]netip.Addr{netip.MustParseAddr("127.0.0.1")}, Now())
			n.mu.Unlock()
			acquire(t, u).Discard()
		})
	}
}

func TestAConnectionToAnAddressThatCameUpSinceTheLastLookupIsUsedAgain(t *testing.T) {
	p := listen(t)
	u := upstreamOf(t, "http://"+p.addr, &Buffers{}, nil)
	r := &resolver{}
	r.set(nil, "127.0.0.9") // another part of the name's addresses than the dialler got
	n := follow(t, u, time.Hour, r)
	n.refresh()
	n.next.Store(Now() + int64(time.Hour))
	acquire(t, u).Release()
	// The dialler, which resolves by itself, has just met it.
	n.mu.Lock()
	n.noteLocked([]netip.Addr{netip.MustParseAddr("127.0.0.1")}, Now())
	n.mu.Unlock()
	c := acquire(t, u)
	defer c.Discard()
	if !c.Reused {
		t.Error("each request connects anew")
	}
}
