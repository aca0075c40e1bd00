package proxy

import (
	"streamrelay/auth"
	"streamrelay/telemetry"
)

// masked stands in a record for text that holds a key.
var masked = []byte("[key]")

// maskKeys keeps keys out of the record that clients put where none belongs,
// such as a path or a model. The last use of o before it is observed.
func maskKeys(o *telemetry.Request) {
	for _, field := range [...]*[]byte{&o.Path, &o.Model, &o.UserAgent, &o.Tenant, &o.RequestID} {
		if auth.HoldsKey(*field) {
			*field = masked
		}
	}
}
