package pool

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streamrelay/configs"
)

// patience ends a test that would otherwise hang. No test asserts a time.
const patience = 20 * time.Second

// eventually polls ok until it holds; what names it in the failure.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// peer is a server that takes connections and leaves what to do with them to
// the test.
type peer struct {
	t    testing.TB
	addr string
	came chan net.Conn
}

// listen starts a peer that ends with the test.
func listen(t testing.TB) *peer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, addr: ln.Addr().String(), came: make(chan net.Conn, 1024)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			p.came <- nc
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
		close(p.came)
		for nc := range p.came {
			nc.Close()
		}
	})
	return p
}

// next returns the connection that came next; it is closed with the test.
func (p *peer) next() *net.TCPConn {
	p.t.Helper()
	select {
	case nc := <-p.came:
		p.t.Cleanup(func() { nc.Close() })
		return nc.(*net.TCPConn)
	case <-time.After(patience):
		p.t.Fatal("no connection came")
		return nil
	}
}

// upstreamOf returns an upstream with base URL base, changed by change.
func upstreamOf(t testing.TB, base string, buffers *Buffers, change func(*configs.Upstream)) *Upstream {
	t.Helper()
	cfg := &configs.Upstream{Name: "up", BaseURL: base, Dialect: configs.OpenAI, IdleTimeout: patience, Timeouts: configs.Timeouts{Connect: patience}}
	if change != nil {
		change(cfg)
	}
	u, err := newUpstream(context.Background(), 3, cfg, nil, buffers, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.close)
	return u
}

// connect returns a connection of a new upstream to p, and p's end of it.
func (p *peer) connect() (*Conn, *net.TCPConn) {
	p.t.Helper()
	u := upstreamOf(p.t, "http://"+p.addr, &Buffers{}, nil)
	return acquire(p.t, u), p.next()
}

func acquire(t testing.TB, u *Upstream) *Conn {
	t.Helper()
	c, err := u.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// certificate makes a certificate for 127.0.0.1 and the file that a client
// trusts it by.
func certificate(t testing.TB) (cert tls.Certificate, caFile string) {
	t.Helper()
	return certificateAs(t, func(*x509.Certificate) {})
}

// certificateAs is certificate, as change has it.
func certificateAs(t testing.TB, change func(*x509.Certificate)) (cert tls.Certificate, caFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "upstream of a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	change(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, caFile
}

// gathered is a connection whose writes leave when the test says so.
type gathered struct {
	net.Conn
	mu   sync.Mutex
	hold bool
	any  bool
	b    []byte
}

func (g *gathered) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.any = true
	if g.hold {
		g.b = append(g.b, p...)
		return len(p), nil
	}
	return g.Conn.Write(p)
}

// gather keeps what is written from now on.
func (g *gathered) gather() {
	g.mu.Lock()
	g.hold = true
	g.mu.Unlock()
}

// pass lets what is written from now on leave at once.
func (g *gathered) pass() {
	g.mu.Lock()
	g.hold = false
	g.mu.Unlock()
}

// started reports whether anything was written.
func (g *gathered) started() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.any
}

// release sends the first n of the gathered bytes, all for n < 0, and keeps
// the rest.
func (g *gathered) release(t testing.TB, n int) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if n < 0 {
		n = len(g.b)
	}
	if err := g.Conn.SetWriteDeadline(time.Time{}); err != nil { // crypto/tls sets one with close_notify
		t.Fatal(err)
	}
	if _, err := g.Conn.Write(g.b[:n]); err != nil {
		t.Fatal(err)
	}
	g.b = g.b[n:]
}

// overTLS is a connection over TLS: the relay's end, and the upstream's.
type overTLS struct {
	up     *Upstream
	client *Conn
	server *tls.Conn
	wire   *gathered
	tcp    *net.TCPConn
}

// connectTLS makes one; cfg may be nil. With keepTicket a TLS 1.3 server's
// session ticket is gathered in wire.
func connectTLS(t testing.TB, buffers *Buffers, cfg *tls.Config, keepTicket bool) *overTLS {
	t.Helper()
	p := listen(t)
	cert, ca := certificate(t)
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.Certificates = []tls.Certificate{cert}
	u := upstreamOf(t, "https://"+p.addr, buffers, func(c *configs.Upstream) { c.CAFile = ca })
	o := &overTLS{up: u}
	done := make(chan error, 1)
	go func() {
		nc := <-p.came
		o.tcp = nc.(*net.TCPConn)
		o.wire = &gathered{Conn: nc}
		var wire net.Conn = o.wire
		if keepTicket {
			wire = ticketKept{o.wire}
		}
		o.server = tls.Server(wire, cfg)
		done <- o.server.Handshake()
	}()
	c, err := u.Acquire()
	if e := <-done; err != nil || e != nil {
		t.Fatalf("handshake: %v; the server's: %v", err, e)
	}
	o.client = c
	t.Cleanup(func() { o.tcp.Close() })
	return o
}

// ticketKept keeps the last record of the server's first flight, which from TLS
// 1.3 on is the session ticket, and all that comes behind it.
type ticketKept struct{ *gathered }

func (k ticketKept) Write(p []byte) (int, error) {
	if k.started() {
		return k.gathered.Write(p)
	}
	last := 0
	for at := 0; at < len(p); at += 5 + int(p[at+3])<<8 + int(p[at+4]) { // RFC 8446 §5.1
		last = at
	}
	if _, err := k.gathered.Write(p[:last]); err != nil {
		return 0, err
	}
	k.gather()
	if _, err := k.gathered.Write(p[last:]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// arrived waits until all that was written to from is in to's hands or at
// least in its socket.
func arrived(t testing.TB, from *net.TCPConn) {
	t.Helper()
	raw, err := from.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the peer has the bytes", func() bool {
		n := -1
		if err := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
}

// waiting returns how many bytes c's socket has to read.
func waiting(t testing.TB, c *Conn) int {
	t.Helper()
	raw, err := c.socket.TCPConn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := -1
	if e := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return n
}

// taken waits until c's socket has nothing left to read.
func taken(t testing.TB, c *Conn) {
	t.Helper()
	eventually(t, "the bytes have been read", func() bool { return waiting(t, c) == 0 })
}

// read is what one ReadBuffer returned.
type read struct {
	text string
	lent bool
	err  error
}

// readOnce reads into a buffer of its own and gives it back.
func readOnce(c *Conn) read {
	var b *Buffer
	n, err := c.ReadBuffer(&b, 5, BufferSize-5)
	r := read{lent: b != nil, err: err}
	if b != nil {
		r.text = string(b.B[5 : 5+n])
		b.Put()
	}
	return r
}

// inBackground starts readOnce.
func inBackground(c *Conn) <-chan read {
	ch := make(chan read, 1)
	go func() { ch <- readOnce(c) }()
	return ch
}

func wait(t testing.TB, ch <-chan read) read {
	t.Helper()
	select {
	case r := <-ch:
		return r
	case <-time.After(patience):
		t.Fatal("the read does not return")
		return read{}
	}
}
