package pool

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"streamrelay/configs"
	"streamrelay/configs/porttest"
)

// served is an HTTPS server with a certificate for 127.0.0.1, as change has it,
// and the file that a client trusts it by.
func served(t *testing.T, change func(*x509.Certificate)) (url, caFile string) {
	t.Helper()
	cert, caFile := certificateAs(t, change)
	s := httptest.NewUnstartedServer(nil)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL, caFile
}

func TestTheProbeConnectsAsTheRelayDoesAndSaysWhatToDo(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	good, goodCA := served(t, func(*x509.Certificate) {})
	other, otherCA := served(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.example"} })
	late, lateCA := served(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	nobody := porttest.DeadAddress(t)
	proxy, asked := connectProxy(t, "HTTP/1.1 200 Connection established\r\n\r\n")
	strict, _ := connectProxy(t, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

	for _, c := range []struct {
		name, base string
		change     func(*configs.Upstream)
		detail     string // of what is well: "answers"
		hint       string
	}{
		{"plain", plain.URL, nil, "answers after", ""},
		{"its authority is named", good, func(u *configs.Upstream) { u.CAFile = goodCA }, "answers after", ""},
		{"nothing is verified", other, func(u *configs.Upstream) { u.SkipVerify = true }, "answers after", ""},
		{"by a proxy", good, func(u *configs.Upstream) { u.CAFile, u.ProxyURL = goodCA, "http://"+proxy }, "answers after", ""},
		{"nobody listens", "http://" + nobody, nil, nobody + " is out of reach: dial tcp " + nobody + ": connect: connection refused", "nothing listens there: start it"},
		{"an authority that is not trusted", good, nil, "unknown authority", "in ca_file"},
		{"another name", other, func(u *configs.Upstream) { u.CAFile = otherCA }, "is out of reach: tls handshake: ", "use a name of the certificate"},
		{"an expired certificate", late, func(u *configs.Upstream) { u.CAFile = lateCA }, "expired", "have the certificate renewed"},
		{"no TLS there", strings.Replace(plain.URL, "http:", "https:", 1), nil, "first record does not look like a TLS handshake", "write http:// in base_url"},
		{"a proxy that nobody runs", good, func(u *configs.Upstream) { u.ProxyURL = "http://" + nobody }, "reach the forward proxy: ", "nothing listens there"},
		{"a proxy that wants a password", good, func(u *configs.Upstream) { u.ProxyURL = "http://" + strict }, "set proxy_auth", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := configs.Upstream{Name: "a", BaseURL: c.base + "/v1"}
			if c.change != nil {
				c.change(&u)
			}
			found := Probe(t.Context(), &configs.Config{Upstreams: []configs.Upstream{u}})
			if len(found) != 1 || found[0].Name != "upstream a" || found[0].OK != (c.detail == "answers after") ||
				!strings.Contains(found[0].Detail, c.detail) || !strings.Contains(found[0].Hint, c.hint) || c.hint == "" && found[0].Hint != "" {
				t.Errorf("%+v, want %q and %q", found, c.detail, c.hint)
			}
		})
	}
	if len(asked) != 1 {
		t.Errorf("the proxy was asked %d times", len(asked))
	}
}

func TestTheProbeEndsWithItsContext(t *testing.T) {
	p := listen(t) // takes the connection and says nothing
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	found := Probe(ctx, &configs.Config{Upstreams: []configs.Upstream{{Name: "a", BaseURL: "https://" + p.addr}, {Name: "b", BaseURL: "https://" + p.addr}}})
	for i, name := range []string{"upstream a", "upstream b"} {
		if f := found[i]; f.OK || f.Name != name || !strings.Contains(f.Hint, "does not shake hands") {
			t.Errorf("%+v", f)
		}
	}
}

func TestEveryErrorOfANameHasAHint(t *testing.T) {
	for want, err := range map[string]error{
		"correct the host in base_url": &net.DNSError{Err: "no such host", Name: "nosuch", IsNotFound: true},
		"name server does not answer":  &net.DNSError{Err: "server misbehaving", Name: "any", IsTemporary: true},
		"a firewall most often":        &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded},
		"a client's certificate":       fmt.Errorf("tls %w: %w", ErrHandshake, tls.AlertError(116)),
	} {
		if got := Hint(fmt.Errorf("connect: %w", err)); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q in it", err, got, want)
		}
	}
	if got := Hint(errors.New("another")); got != "" {
		t.Errorf("%q", got)
	}
}
