// Package prometheus holds rules for Prometheus, vmalert and the Prometheus
// operator (relay.rules.yaml), what to do about each alert (README.md), and
// the tests of both. There is no code in it but tests.
package prometheus
