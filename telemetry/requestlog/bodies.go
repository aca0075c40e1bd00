package requestlog

import (
	"streamrelay/configs"
	"streamrelay/telemetry"
)

// KeepsBodies decides, once an exchange has ended, whether the bodies that were
// captured of it are kept: with request_log.bodies: errors those of requests
// that failed, which are the ones that `relay logs usage` counts as errors, and
// any whose status says so.
func KeepsBodies(l *configs.RequestLog, r *telemetry.Request) bool {
	if l.Bodies == "errors" {
		well := r.Status < 400 && r.End == telemetry.Completed || r.End == telemetry.ClientGone
		return !well
	}
	return l.WithBodies()
}
