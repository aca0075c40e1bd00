package proxy

// publish shows in the metrics what the server alone knows.
func (s *Server) publish() {
	gauge := func(name, help string, f func() float64) {
		s.tel.Describe(name, help)
		s.tel.Gauge(name, "", f)
	}
	gauge("relay_retries_denied_total", "Retries that were not made, since a fifth of the requests had been retried already.", func() float64 { return float64(s.retriesDenied.Load()) })
	gauge("relay_connections_limit", "The most client connections that are taken: limits.max_connections, or what follows from the limit of file descriptors.", func() float64 { return float64(s.maxConns.Load()) })
	if s.cert != nil {
		gauge("relay_certificate_expiry_timestamp_seconds", "When the public listener's certificate ends, in Unix seconds.", func() float64 { return float64(s.cert.current.Load().Certificates[0].Leaf.NotAfter.Unix()) })
	}
}
