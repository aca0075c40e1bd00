package blackbox

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
)

func TestMetricsTellTheLimitOfConnectionsAndTheEndOfTheCertificate(t *testing.T) {
	up := newUpstream(t, func(*received) {})
	cert := newCertificate(t)
	leaf, err := x509.ParseCertificate(cert.server.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	c := relayTo(t, up, cert.listenerYAML()+"limits: {max_connections: 321}\n").dialTLS(cert)
	defer c.Close()
	c.send("GET /metrics HTTP/1.1\r\nHost: relay\r\n\r\n")
	text := string(c.answer().body)
	for _, series := range []string{
		fmt.Sprintf("relay_certificate_expiry_timestamp_seconds %d\n", leaf.NotAfter.Unix()),
		"relay_connections_limit 321\n",
	} {
		if !strings.Contains(text, "\n"+series) {
			t.Errorf("no %s", series)
		}
	}
	if _, there := relayTo(t, up, "").metrics()["relay_certificate_expiry_timestamp_seconds"]; there {
		t.Error("a relay without TLS tells the end of a certificate")
	}
}
