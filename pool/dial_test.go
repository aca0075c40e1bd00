package pool

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streamrelay/configs"
)

func withCA(file string) func(*configs.Upstream) {
	return func(c *configs.Upstream) { c.CAFile = file }
}

func TestCAFileMistakesAreNamed(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	text := filepath.Join(dir, "text.pem")
	for _, f := range []string{empty, text} {
		if err := os.WriteFile(f, []byte(map[string]string{empty: "", text: "no certificate\n"}[f]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	missing := filepath.Join(dir, "missing.pem")
	for _, c := range []struct{ file, want string }{
		{missing, `read ca_file of upstream "up": cannot read the certificates: no such file or directory`},
		{empty, `read ca_file of upstream "up": the file holds no certificate`},
		{text, `read ca_file of upstream "up": the file holds no certificate`},
		{dir, `read ca_file of upstream "up": cannot read the certificates: is a directory`},
	} {
		_, err := newUpstream(context.Background(), 0, &configs.Upstream{Name: "up", BaseURL: "https://127.0.0.1", CAFile: c.file}, nil, &Buffers{}, nil)
		if err == nil || err.Error() != c.want {
			t.Errorf("%v\nwant %s", err, c.want)
		}
	}
	if _, err := newUpstream(context.Background(), 0, &configs.Upstream{Name: "up", BaseURL: "http://127.0.0.1", CAFile: missing}, nil, &Buffers{}, nil); err != nil {
		t.Errorf("without TLS: %v", err)
	}
}

func TestHandshakeTrustsTheCAFileAlone(t *testing.T) {
	cert, ca := certificate(t)
	_, otherCA := certificate(t)
	for _, c := range []struct {
		name, host, ca string
		server         *tls.Config
		want           string // part of the error; "": none
	}{
		{"its CA", "127.0.0.1", ca, &tls.Config{}, ""},
		{"its CA, by name", "localhost", ca, &tls.Config{}, ""},
		{"another CA", "127.0.0.1", otherCA, &tls.Config{}, "certificate"},
		{"the system's roots", "127.0.0.1", "", &tls.Config{}, "certificate"},
		{"another name", "127.0.0.2", ca, &tls.Config{}, "not 127.0.0.2"},
		{"TLS 1.1", "127.0.0.1", ca, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "protocol version"},
		{"another protocol", "127.0.0.1", ca, &tls.Config{NextProtos: []string{"mqtt"}}, "protocol"},
		{"HTTP/1.1 among others", "127.0.0.1", ca, &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "0.0.0.0:0")
			if err != nil {
				t.Fatal(err)
			}
			c.server.Certificates = []tls.Certificate{cert}
			done := make(chan struct{})
			var name string
			go func() {
				defer close(done)
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				defer nc.Close()
				s := tls.Server(nc, c.server)
				if s.Handshake() == nil {
					name = s.ConnectionState().ServerName
					_, _ = s.Read(make([]byte, 1)) // until the client is gone
				}
			}()
			_, port, _ := net.SplitHostPort(ln.Addr().String())
			u := upstreamOf(t, "https://"+net.JoinHostPort(c.host, port), &Buffers{}, withCA(c.ca))
			conn, err := u.Acquire()
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want one about %q", err, c.want)
			case err != nil && !strings.HasPrefix(err.Error(), "tls handshake with "+net.JoinHostPort(c.host, port)):
				t.Errorf("does not say where: %v", err)
			}
			if conn != nil {
				conn.Discard()
			}
			ln.Close()
			<-done
			if c.host == "localhost" && name != "localhost" {
				t.Errorf("server name %q", name)
			}
			if open, idle := u.Connections(); open != 0 || idle != 0 {
				t.Errorf("%d open, %d idle", open, idle)
			}
		})
	}
}

// TestConnectIsBounded covers what can make a connect hang: a host that takes no
// more connections, and one that takes it and never says a word of TLS.
func TestConnectIsBounded(t *testing.T) {
	short := func(c *configs.Upstream) { c.Timeouts.Connect = 50 * time.Millisecond }
	t.Run("full backlog", func(t *testing.T) {
		u := upstreamOf(t, "http://"+fullBacklog(t), &Buffers{}, short)
		c, err := u.Acquire()
		if err == nil {
			c.Discard()
			t.Skip("this kernel takes connections beyond the backlog")
		}
		if !isTimeout(err) {
			t.Errorf("%v", err)
		}
		if open, _ := u.Connections(); open != 0 {
			t.Errorf("%d open", open)
		}
	})
	t.Run("silent TLS", func(t *testing.T) {
		p := listen(t)
		u := upstreamOf(t, "https://"+p.addr, &Buffers{}, short)
		_, err := u.Acquire()
		if !isTimeout(err) || !strings.HasPrefix(err.Error(), "tls handshake with "+p.addr) {
			t.Errorf("%v", err)
		}
		if open, _ := u.Connections(); open != 0 {
			t.Errorf("%d open", open)
		}
		server := p.next() // the socket is closed, not forgotten
		if err := server.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1<<10)
		for {
			if _, err := server.Read(b); err != nil {
				if isTimeout(err) {
					t.Error("left open")
				}
				break
			}
		}
	})
	t.Run("no bound", func(t *testing.T) {
		p := listen(t)
		u := upstreamOf(t, "http://"+p.addr, &Buffers{}, func(c *configs.Upstream) { c.Timeouts.Connect = 0 })
		acquire(t, u).Discard()
	})
	t.Run("closed within the handshake", func(t *testing.T) {
		p := listen(t)
		u := upstreamOf(t, "https://"+p.addr, &Buffers{}, nil)
		go func() { (<-p.came).Close() }()
		if _, err := u.Acquire(); err == nil || isTimeout(err) || errors.Is(err, ErrBusy) {
			t.Errorf("%v", err)
		}
	})
}

// fullBacklog returns the address of a socket whose queue of connections is
// full.
func fullBacklog(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := sa.(*unix.SockaddrInet4)
	for range 4 { // without waiting: one is taken, the rest wait for ever
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(c) })
		if err := unix.Connect(c, at); err != nil && err != unix.EINPROGRESS {
			t.Fatal(err)
		}
	}
	return (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: at.Port}).String()
}

func TestClientCertificateIsShownToWhoAsksForIt(t *testing.T) {
	cert, ca := certificate(t)
	mine, mineCA := certificate(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	key, err := x509.MarshalPKCS8PrivateKey(mine.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: mine.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trusted, err := configs.CertPool(mineCA)
	if err != nil {
		t.Fatal(err)
	}
	for _, show := range []bool{true, false} {
		p := listen(t)
		u := upstreamOf(t, "https://"+p.addr, &Buffers{}, func(c *configs.Upstream) {
			if c.CAFile = ca; show {
				c.CertFile, c.KeyFile = certFile, keyFile
			}
		})
		done := make(chan error, 1)
		go func() {
			done <- tls.Server(<-p.came, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted}).Handshake()
		}()
		c, err := u.Acquire()
		if got := <-done; (got == nil) != show {
			t.Errorf("shown %v: the server says %v (%v)", show, got, err)
		}
		if err == nil { // in TLS 1.3 the client is done before the server is
			c.Discard()
		}
	}
}

func TestSkippingTheVerificationTrustsAnybody(t *testing.T) {
	cert, _ := certificate(t)
	p := listen(t)
	u := upstreamOf(t, "https://"+p.addr, &Buffers{}, func(c *configs.Upstream) { c.SkipVerify = true })
	go func() { _ = tls.Server(<-p.came, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake() }()
	acquire(t, u).Discard()
}
