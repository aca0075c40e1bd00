package pool

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"streamrelay/configs"
)

// connectProxy is a forward proxy that answers CONNECT with answer, and, where
// that is a 200, joins the two sides. It returns its address and what it was
// asked.
func connectProxy(t *testing.T, answer string) (addr string, asked <-chan *http.Request) {
	t.Helper()
	p := listen(t)
	ch := make(chan *http.Request, 10)
	go func() {
		for nc := range p.came {
			go func() {
				defer nc.Close()
				r := bufio.NewReader(nc)
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				ch <- req
				if _, err := io.WriteString(nc, answer); err != nil || !strings.HasPrefix(answer, "HTTP/1.1 200") {
					return
				}
				to, err := net.Dial("tcp", req.Host)
				if err != nil {
					return
				}
				defer to.Close()
				go func() { _, _ = io.Copy(to, r); _ = to.(*net.TCPConn).CloseWrite() }()
				_, _ = io.Copy(nc, to)
			}()
		}
	}()
	return p.addr, ch
}

func TestForwardProxyIsAskedByCONNECT(t *testing.T) {
	cert, ca := certificate(t)
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			target := listen(t)
			proxy, asked := connectProxy(t, "HTTP/1.1 200 Connection established\r\n\r\n")
			u := upstreamOf(t, scheme+"://"+target.addr, &Buffers{}, func(c *configs.Upstream) {
				c.ProxyURL, c.ProxyAuth, c.CAFile = "http://"+proxy, configs.NewSecret("me:secret"), ca
			})
			go func() {
				var nc net.Conn = <-target.came
				if scheme == "https" {
					nc = tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}})
				}
				b := make([]byte, 4)
				_, _ = io.ReadFull(nc, b)
				_, _ = nc.Write(append(b, "!"...))
			}()
			c := acquire(t, u)
			defer c.Discard()
			if _, err := c.Write([]byte("ping")); err != nil {
				t.Fatal(err)
			}
			if r := readOnce(c); r.err != nil || r.text != "ping!" {
				t.Errorf("read %q, %v", r.text, r.err)
			}
			req := <-asked
			if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:secret")); req.Method != "CONNECT" || req.Host != target.addr || req.Header.Get("Proxy-Authorization") != want {
				t.Errorf("asked %s %s, %q", req.Method, req.Host, req.Header)
			}
		})
	}
}

func TestForwardProxyThatRefusesSaysWhatToDo(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 407 Auth\r\n\r\n":                           "set proxy_auth",
		"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n": "it answered 403 to CONNECT 192.0.2.1:443",
		"HTTP/1.1 200 OK\r\n\r\nmore":                         "bytes behind its answer",
		"SSH-2.0-x\r\n\r\n":                                   "read its answer",
		"":                                                    "read its answer",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 10<<20) + "": "read its answer",
	} {
		proxy, _ := connectProxy(t, answer)
		u := upstreamOf(t, "https://192.0.2.1", &Buffers{}, func(c *configs.Upstream) {
			c.ProxyURL, c.ProxyAuth = "http://"+proxy, configs.NewSecret("me:planted-secret")
		})
		_, err := u.Acquire()
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, ErrHandshake) {
			t.Errorf("%.30q: %v", answer, err)
		}
		if strings.Contains(fmt.Sprint(err), "planted") {
			t.Errorf("the error holds the password: %v", err)
		}
	}
}

func TestProxyIsTheConfiguredOneOrTheEnvironments(t *testing.T) {
	if at, err := http.ProxyFromEnvironment(&http.Request{URL: mustURL(t, "https://api.example.com")}); err != nil || at != nil {
		t.Skip("the environment names a proxy")
	}
	for _, c := range []struct{ url, want string }{
		{"", ""}, {configs.NoProxy, ""}, {"http://proxy.example", "proxy.example:80"}, {"http://[::1]:3128", "[::1]:3128"},
	} {
		f, err := newForward(mustURL(t, "https://api.example.com"), &configs.Upstream{ProxyURL: c.url})
		if got := ""; err != nil || f != nil && f.addr != c.want || f == nil && c.want != got {
			t.Errorf("%q: %v, %v", c.url, f, err)
		}
	}
}
