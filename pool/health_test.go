package pool

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"streamrelay/configs"
)

func TestHealthChecksOfAnUpstreamThatSaysNothingLeaveNoConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var taken, open atomic.Int64
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			taken.Add(1)
			open.Add(1)
			go func() {
				defer open.Add(-1)
				defer c.Close()
				_, _ = io.Copy(io.Discard, c) // until the other side closes
			}()
		}
	}()
	for name, cfg := range map[string]configs.Upstream{
		"over TLS":       {BaseURL: "https://" + ln.Addr().String() + "/v1"},
		"behind a proxy": {BaseURL: "https://api.example.com/v1", ProxyURL: "http://" + ln.Addr().String()},
		"in the clear":   {BaseURL: "http://" + ln.Addr().String() + "/v1"},
	} {
		t.Run(name, func(t *testing.T) {
			taken.Store(0)
			cfg.Name, cfg.Dialect = "a", configs.OpenAI
			cfg.HealthCheck = configs.HealthCheck{Path: "/models", Interval: 10 * time.Millisecond, Timeout: 10 * time.Millisecond}
			cfg.Timeouts.Connect = patience
			set, err := NewSet(context.Background(), []configs.Upstream{cfg}, nil, nil, &Buffers{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "five checks", func() bool { return taken.Load() >= 5 })
			set.Close()
			eventually(t, "no connection is open", func() bool { return open.Load() == 0 })
		})
	}
}
