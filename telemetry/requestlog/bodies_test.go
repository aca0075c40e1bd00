package requestlog

import (
	"testing"

	"streamrelay/configs"
	"streamrelay/telemetry"
)

func TestBodiesOfWhatWentWellAreKeptOnlyWhereAllAre(t *testing.T) {
	for _, c := range []struct {
		status      int
		end         telemetry.EndReason
		errors, all bool
	}{
		{200, telemetry.Completed, false, true},
		{499, telemetry.ClientGone, false, true},
		{200, telemetry.ClientGone, false, true},
		{200, telemetry.UpstreamCut, true, true},
		{400, telemetry.UpstreamStatus, true, true},
		{404, telemetry.Completed, true, true},
		{429, telemetry.Limited, true, true},
		{504, telemetry.TimeoutHead, true, true},
	} {
		r := &telemetry.Request{Status: c.status, End: c.end}
		for mode, want := range map[string]bool{"": false, "off": false, "errors": c.errors, "all": c.all} {
			if got := KeepsBodies(&configs.RequestLog{Bodies: mode}, r); got != want {
				t.Errorf("%d %v with %q: %t", c.status, c.end, mode, got)
			}
		}
	}
}
