package proxy

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"streamrelay/configs"
)

// certWatch is how often the certificate's files are looked at.
const certWatch = 10 * time.Second

// certificate is the public listener's, and whom it trusts to vouch for clients.
// Both may be replaced while it serves: each handshake takes the newest.
type certificate struct {
	current atomic.Pointer[tls.Config]
	stamp   atomic.Pointer[string] // of the files that current was read from
}

// stampOf tells one version of the files from another.
func stampOf(t configs.TLS) string {
	var s string
	for _, name := range []string{t.CertFile, t.KeyFile, t.ClientCAFile} {
		if info, err := os.Stat(name); err == nil {
			s += fmt.Sprint(name, info.ModTime().UnixNano(), info.Size(), "\n")
		}
	}
	return s
}

// load reads the files; where they are no certificate, the one before stays.
func (c *certificate) load(t configs.TLS) error {
	stamp := stampOf(t)
	cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return fmt.Errorf("load tls.cert_file and tls.key_file: %w", err)
	}
	fresh := &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
	}
	if t.ClientCAFile != "" {
		pool, err := configs.CertPool(t.ClientCAFile)
		if err != nil {
			return fmt.Errorf("read tls.client_ca_file: %w", err)
		}
		fresh.ClientCAs, fresh.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	c.current.Store(fresh)
	c.stamp.Store(&stamp)
	return nil
}

// publicTLS is how the public listener speaks TLS; nil: not at all.
func (s *Server) publicTLS(t configs.TLS) (*tls.Config, error) {
	if !t.Enabled() {
		return nil, nil
	}
	s.cert = &certificate{}
	if err := s.cert.load(t); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.cert.current.Load(), nil },
	}, nil
}

// watchCertificate takes a new certificate up by itself until the server stops:
// whoever renews it need not know of the relay.
func (s *Server) watchCertificate() {
	tick := time.NewTicker(certWatch)
	defer tick.Stop()
	failed := ""
	for {
		select {
		case <-s.stopping:
			return
		case <-tick.C:
		}
		t := s.settings.Load().cfg.TLS
		stamp := stampOf(t)
		if stamp == *s.cert.stamp.Load() || stamp == failed {
			continue
		}
		if err := s.cert.load(t); err != nil {
			failed = stamp // said once for each version
			s.log.Warn().Err(err).Msg("the certificate of before stays")
			continue
		}
		s.log.Info().Msg("the certificate was renewed")
	}
}
