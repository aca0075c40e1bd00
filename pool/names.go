package pool

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// names follows which addresses the host name of an upstream has: new
// connections look the name up by themselves, but one that is never idle would
// stay with an address for ever. While the upstream is in use the name is
// looked up once in each period, beside the exchanges. An address is gone when
// no answer has held it for longer than grace: many names answer with another
// part of their addresses each time.
//
// A nil *names follows nothing. Safe for concurrent use.
type names struct {
	host   string
	every  time.Duration
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	ctx    context.Context // ends lookups under way
	wait   *sync.WaitGroup

	next atomic.Int64                 // unix ns of the next lookup
	now  atomic.Pointer[addressesNow] // nil: nothing was looked up yet

	mu   sync.Mutex // protects seen
	seen map[netip.Addr]int64
}

// addressesNow is a result of lookups. Immutable.
type addressesNow struct{ alive map[netip.Addr]bool }

const (
	graceOfPeriods = 10
	lookupTimeout  = 5 * time.Second
	maxAddresses   = 256
)

// newNames follows host, or returns nil where there is nothing to follow.
func newNames(ctx context.Context, host string, every time.Duration, running *sync.WaitGroup) *names {
	if _, err := netip.ParseAddr(host); err == nil || every <= 0 || host == "localhost" {
		return nil
	}
	return &names{
		host: host, every: every, ctx: ctx, wait: running,
		lookup: net.DefaultResolver.LookupNetIP, seen: make(map[netip.Addr]int64),
	}
}

// met notes the address of a new connection.
func (n *names) met(c *net.TCPConn) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noteLocked([]netip.Addr{remoteOf(c)}, Now())
}

// known returns the addresses that the name has had lately, the newest first.
func (n *names) known() []netip.Addr {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	list := slices.Collect(maps.Keys(n.seen))
	slices.SortFunc(list, func(a, b netip.Addr) int { return int(min(max(n.seen[b]-n.seen[a], -1), 1)) })
	return list
}

// lost reports whether c, which is to be used again, leads to an address that
// the name no longer has. It costs a load while nothing was looked up.
func (n *names) lost(c *Conn) bool {
	if n == nil {
		return false
	}
	if now, next := Now(), n.next.Load(); now >= next && n.next.CompareAndSwap(next, now+int64(n.every)) {
		n.wait.Go(n.refresh)
	}
	state := n.now.Load()
	if state == nil || c.addresses == state {
		return false
	}
	if at := remoteOf(c.socket.TCPConn); !state.alive[at] && !n.has(at) {
		return true
	}
	c.addresses = state // looked at once for each lookup
	return false
}

// has reports whether the name has had addr lately: a dialler may have met it
// since the last lookup.
func (n *names) has(addr netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.seen[addr]
	return ok
}

// refresh looks the name up. While that fails nothing changes.
func (n *names) refresh() {
	ctx, cancel := context.WithTimeout(n.ctx, lookupTimeout)
	defer cancel()
	found, err := n.lookup(ctx, "ip", n.host)
	if err != nil || len(found) == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := Now()
	n.noteLocked(found, now)
	grace := graceOfPeriods * int64(n.every)
	alive := make(map[netip.Addr]bool, len(n.seen))
	for addr, at := range n.seen {
		if now-at > grace {
			delete(n.seen, addr)
			continue
		}
		alive[addr] = true
	}
	n.now.Store(&addressesNow{alive})
}

func (n *names) noteLocked(found []netip.Addr, now int64) {
	for _, addr := range found {
		if addr = addr.Unmap().WithZone(""); len(n.seen) < maxAddresses || n.seen[addr] != 0 {
			n.seen[addr] = now
		}
	}
}

func remoteOf(c *net.TCPConn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
