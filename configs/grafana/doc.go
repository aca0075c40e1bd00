// Package grafana makes the dashboards that lie beside it: relay.json, of
// metrics alone, and requests.json, of the request log in ClickHouse.
//
// relay.go and requests.go are the lists of panels and all that a person edits;
// encode.go knows what Grafana wants; `make dashboards` writes the files. The
// tests hold the files equal to the lists, and run every expression of them
// and of the alerts against real servers. Nothing of it is linked into the relay.
package grafana

//go:generate go test . -run TestDashboardFiles -update
