package configs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// maxSecretFile bounds a file that holds one secret, or certificates.
const (
	maxSecretFile = 64 << 10
	maxCertFile   = 4 << 20
)

// readFiles fills the secrets that are given by file, and tries the
// certificates, so that a mistake in them is found before anything starts.
func readFiles(c *Config, r *report) {
	secretFile(r, "admin.token_file", c.Admin.TokenFile, &c.Admin.Token)
	readKeyFiles(c, r)
	secretFile(r, "clickhouse.password_file", c.ClickHouse.PasswordFile, &c.ClickHouse.Password)
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		at := item("upstreams", i)
		for j := range u.Credentials {
			credential := &u.Credentials[j]
			secretFile(r, field(item(field(at, "credentials"), j), "value_file"), credential.File, &credential.Value)
		}
		if u.CAFile != "" {
			if _, err := CertPool(u.CAFile); err != nil {
				r.add(field(at, "ca_file"), "%v: give a readable PEM file", err)
			}
		}
		if u.CertFile != "" && u.KeyFile != "" {
			tryKeyPair(TLS{CertFile: u.CertFile, KeyFile: u.KeyFile}, at, r)
		}
	}
	if c.TLS.ClientCAFile != "" {
		if _, err := CertPool(c.TLS.ClientCAFile); err != nil {
			r.add("tls.client_ca_file", "%v: give a readable PEM file", err)
		}
	}
	if name := c.ClickHouse.CAFile; name != "" {
		if _, err := CertPool(name); err != nil {
			r.add("clickhouse.ca_file", "%v: give a readable PEM file", err)
		}
	}
	if c.TLS.CertFile != "" && c.TLS.KeyFile != "" {
		tryKeyPair(c.TLS, "tls", r)
	}
}

// readKeyFiles is readFiles for the keys and redis sections.
func readKeyFiles(c *Config, r *report) {
	secretFile(r, "keys.pepper_file", c.Keys.PepperFile, &c.Keys.Pepper)
	secretFile(r, "keys.api_token_file", c.Keys.APITokenFile, &c.Keys.APIToken)
	secretFile(r, "redis.password_file", c.Redis.PasswordFile, &c.Redis.Password)
	secretFile(r, "redis.sentinel.password_file", c.Redis.Sentinel.PasswordFile, &c.Redis.Sentinel.Password)
	if c.Redis.CAFile != "" {
		if _, err := CertPool(c.Redis.CAFile); err != nil {
			r.add("redis.ca_file", "%v: give a readable PEM file", err)
		}
	}
}

// secretFile reads the secret of the key at path into s. One that is given in
// both ways is left as it is, for validate to report.
func secretFile(r *report, path, name string, s *Secret) {
	if name == "" || !s.IsZero() {
		return
	}
	v, err := readSecret(name)
	if err != nil {
		r.add(path, "%v", err)
		return
	}
	*s = v
}

// readSecret reads the one secret of a file, without its trailing line end.
func readSecret(name string) (Secret, error) {
	data, err := readBounded(name, maxSecretFile)
	if errors.Is(err, syscall.EISDIR) {
		return Secret{}, errors.New("a folder where the secret's file is wanted: name the file in it")
	}
	if err != nil {
		return Secret{}, fmt.Errorf("cannot read the secret's file: %w: make it readable for the relay's user, or correct the path", err)
	}
	s := strings.TrimSuffix(string(data), "\n")
	s = strings.TrimSuffix(s, "\r")
	if s == "" {
		return Secret{}, errors.New("the secret's file is empty: write the secret into it")
	}
	if message := textProblem(s); message != "" {
		return Secret{}, errors.New("the secret's file holds more than one line, or bytes that are not text: leave one line")
	}
	return NewSecret(s), nil
}

// readBounded reads a file whole; its errors do not name the file.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, reason(err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it is larger than %v", Size(limit))
	}
	return data, nil
}

// CertPool reads the certificates of a PEM file, which stand in for the
// system's roots. Its errors do not name the file.
func CertPool(name string) (*x509.CertPool, error) {
	data, err := readBounded(name, maxCertFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("the file holds no certificate")
	}
	return pool, nil
}

// tryKeyPair loads the certificate of the section at.
func tryKeyPair(t TLS, at string, r *report) {
	cert, err := readBounded(t.CertFile, maxCertFile)
	if err != nil {
		r.add(field(at, "cert_file"), "cannot read the certificate: %v: make it readable for the relay's user, or correct the path", err)
	}
	key, keyErr := readBounded(t.KeyFile, maxCertFile)
	if keyErr != nil {
		r.add(field(at, "key_file"), "cannot read the key: %v: make it readable for the relay's user, or correct the path", keyErr)
	}
	if err != nil || keyErr != nil {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		// The library's errors speak of types and blocks, never of contents.
		r.add(field(at, "cert_file"), "certificate and key do not fit: %v: give the PEM files that belong together", err)
	}
}
