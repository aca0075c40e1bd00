package pool

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"streamrelay/configs"
)

// TestCredentialsKeepTheirNumbers over configurations that reorder, add and
// remove them: a number never stands for another name than before.
func TestCredentialsKeepTheirNumbers(t *testing.T) {
	var before *Set
	for _, c := range []struct {
		names []string
		want  string
	}{
		{[]string{"a", "b"}, "[0 1] [a b]"},
		{[]string{"b", "a"}, "[1 0] [a b]"},
		{[]string{"b"}, "[1] [a b]"},
		{[]string{"c", "b"}, "[2 1] [a b c]"},
		{[]string{"a", "", "c"}, "[0 3 2] [a b c 1]"}, // without a name it is called by its place
		{[]string{"a", "", "c"}, "[0 3 2] [a b c 1]"},
	} {
		cfg := configs.Upstream{Name: "up", BaseURL: "http://127.0.0.1:1/v1", Dialect: configs.OpenAI}
		for _, name := range c.names {
			cfg.Credentials = append(cfg.Credentials, configs.Credential{Name: name, Value: configs.NewSecret("secret of " + name)})
		}
		s, err := NewSet(context.Background(), []configs.Upstream{cfg}, []int{7}, before, &Buffers{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		u := s.Upstreams[0]
		var numbers []int
		for i, cred := range u.Credentials {
			numbers = append(numbers, cred.Index)
			if cred.Name != u.Named[cred.Index] || c.names[i] != "" && cred.Name != c.names[i] {
				t.Errorf("%q: credential %d is called %q, its number %q", c.names, i, cred.Name, u.Named[cred.Index])
			}
		}
		if got := fmt.Sprint(numbers, " ", u.Named); got != c.want {
			t.Errorf("%q: %s, want %s", c.names, got, c.want)
		}
		if before != nil {
			before.CloseBut(s)
		}
		before = s
	}
	before.Close()
}

// TestAnUpstreamThatComesBackKeepsItsCredentialsNumbers, and one without
// credentials has a number that names none.
func TestAnUpstreamThatComesBackKeepsItsCredentialsNumbers(t *testing.T) {
	of := func(names ...string) []configs.Upstream {
		cfg := configs.Upstream{Name: "up", BaseURL: "http://127.0.0.1:1/v1", Dialect: configs.OpenAI}
		for _, name := range names {
			cfg.Credentials = append(cfg.Credentials, configs.Credential{Name: name, Value: configs.NewSecret("secret of " + name)})
		}
		return []configs.Upstream{cfg}
	}
	var before *Set
	for _, c := range []struct {
		cfg  []configs.Upstream
		want string
	}{{of("a", "b"), "[a b]"}, {nil, ""}, {of("b", "a"), "[a b]"}, {of(), "[a b ]"}} {
		s, err := NewSet(context.Background(), c.cfg, []int{0}, before, &Buffers{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if before = s; c.cfg == nil {
			continue
		}
		u := s.Upstreams[0]
		if got := fmt.Sprint(u.Named); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
		if last := u.Credentials[0]; len(c.cfg[0].Credentials) == 0 && (last.Name != "0" || u.Named[last.Index] != "") {
			t.Errorf("without credentials: %q, in records %q", last.Name, u.Named[last.Index])
		}
	}
}

func TestFilesThatWereRenewedAreTakenUp(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	write := func() []byte {
		cert, _ := certificate(t)
		key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
			if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return cert.Certificate[0]
	}
	write()
	cfg := []configs.Upstream{{Name: "up", BaseURL: "https://127.0.0.1:1/v1", Dialect: configs.OpenAI, CertFile: certFile, KeyFile: keyFile, CAFile: certFile}}
	before, err := NewSet(context.Background(), cfg, nil, nil, &Buffers{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	same, err := NewSet(context.Background(), cfg, nil, before, &Buffers{}, nil)
	if err != nil || same.Upstreams[0] != before.Upstreams[0] {
		t.Fatalf("an upstream whose files did not change was made anew: %v", err)
	}
	renewed := write()
	after, err := NewSet(context.Background(), cfg, nil, before, &Buffers{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if got := after.Upstreams[0].dialer.tls.Certificates[0].Certificate[0]; !bytes.Equal(got, renewed) {
		t.Error("it still presents the certificate of before")
	}
}
