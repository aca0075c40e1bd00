// Package deploytest checks the files that put the relay on a machine: units for
// systemd, the compose file, the Dockerfile, the manifests for Kubernetes,
// Grafana's dashboards, what `make install` and `make release` lay down, and the
// Chinese quick start.
//
// It is a module of its own, since the loaders and types that it checks with
// (compose-go, Kubernetes', Grafana's, the Dockerfile parser) are many times the
// relay's own dependencies. It holds no code but tests, imports nothing of the relay, and runs
// the binary bin/relay, which `make deploytest` builds first. A test whose tool is
// missing is skipped and says so; with REQUIRE_SERVERS=1 it fails.
package deploytest
