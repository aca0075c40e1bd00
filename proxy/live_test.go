package proxy

import (
	"context"
	"fmt"
	"testing"
	"time"

	"streamrelay/configs"
	"streamrelay/pool"
	"streamrelay/telemetry"
	"streamrelay/telemetry/live"
	"streamrelay/telemetry/requestlog"
)

func TestLogAndPageBothGetEachExchangeWithoutAnAllocation(t *testing.T) {
	cfg, err := configs.Parse("test", fmt.Appendf(nil, "request_log: {dir: %s}\nupstreams: [{name: alpha, base_url: \"http://127.0.0.1:1/v1\", dialect: openai}]\n", t.TempDir()), nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := requestlog.New(requestlog.FromConfig(cfg))
	defer rows.Close(0)
	page := live.New(live.Options{})
	set, err := pool.NewSet(context.Background(), cfg.Upstreams, nil, nil, &pool.Buffers{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	registered(rows, page)(set)
	r := &telemetry.Request{Tenant: []byte("acme"), Model: []byte("m"), Status: 200, Start: time.Now().UnixNano(), Gaps: new(telemetry.Gaps)}
	for _, one := range []struct {
		what string
		to   func(*telemetry.Request)
	}{{"both", sinks(rows, page)}, {"the log", sinks(rows, nil)}, {"the page", sinks(nil, page)}} {
		one.to(r)
		if n := testing.AllocsPerRun(500, func() { one.to(r) }); n != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", one.what, n)
		}
	}
	if sinks(nil, nil) != nil {
		t.Error("there is a sink for nobody")
	}
	if n := rows.Stats().Appended; n != 2*502 {
		t.Errorf("the log has %d rows, want %d", n, 2*502)
	}
}
