// Package porttest hands out ports of loopback to tests whose servers are told
// where to listen, or must not be found. Only tests import it.
package porttest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"testing"
)

// bus is how far above its port a node of a Redis Cluster listens, too.
const bus = 10_000

// Free returns a port that nobody has, nor the one 10,000 above it. Both lie
// below the ephemeral ports (Linux: from 32,768), so that nobody who asks for
// any port, listener or connection, is given them until they are used.
func Free(tb testing.TB) int {
	tb.Helper()
	for range 1000 {
		if port := 11_000 + rand.IntN(bus); free(port) && free(port+bus) {
			return port
		}
	}
	tb.Fatal("no free port from 11000 to 21000")
	return 0
}

func free(port int) bool {
	ln, err := net.Listen("tcp", address(port))
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

func address(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// FreeAddress is Free as host:port.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	return address(Free(tb))
}

// DeadAddress is a host:port that refuses connections, and that nobody else can
// take while the test runs: it is bound and does not listen.
func DeadAddress(tb testing.TB) string {
	tb.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		tb.Fatal(err)
	}
	return address(name.(*syscall.SockaddrInet4).Port)
}
