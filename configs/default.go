package configs

import (
	"math"
	"time"
)

// Default returns what an empty file means. It is complete but not valid,
// since it has no upstream. The caller owns it.
func Default() *Config {
	return &Config{
		Listen: "127.0.0.1:8080",
		Admin:  Admin{Listen: "127.0.0.1:9090"},
		Limits: Limits{
			MaxBody:          64 * MiB,
			MaxUpload:        1 * GiB,
			MaxHeld:          1 * GiB,
			MaxStream:        1 * GiB,
			MaxHeader:        16 * KiB,
			HeaderTimeout:    10 * time.Second,
			BodyIdleTimeout:  30 * time.Second,
			KeepaliveTimeout: 90 * time.Second,
			WriteIdleTimeout: 60 * time.Second,
		},
		Timeouts: Timeouts{
			Connect:    5 * time.Second,
			Head:       600 * time.Second, // as long as the SDKs wait: models think for minutes
			FirstEvent: 600 * time.Second,
			Idle:       300 * time.Second,
		},
		Keys: Keys{Store: "file", File: "keys.yaml", StateFile: "data/keys.state", LimitsWithoutRedis: "share"},
		Redis: Redis{
			Addresses: []string{"127.0.0.1:6379"},
			Prefix:    "relay:",
			StaleMax:  24 * time.Hour,
		},
		Retry: Retry{
			Attempts: 2,
			On:       []string{"connect", "auth", "429", "5xx", "error_event"},
		},
		Stream: Stream{
			IncludeUsage: "auto",
			HeadHold:     time.Second,
			Carrier:      "reader",
		},
		ClickHouse: ClickHouse{
			Database:    "relay",
			Username:    "default",
			Compression: "none",

			Retention:      90 * day,
			UsageRetention: 1095 * day,
		},
		RequestLog: RequestLog{
			Dir:        "data/request-log",
			MaxBytes:   10 * GiB,
			Retention:  30 * day,
			Durability: "spool",
			Fsync:      "interval",

			Bodies:        "off",
			BodyMax:       32 * KiB,
			BodyRetention: 7 * day,
		},
		Log:      Log{Level: "info", Access: true},
		Shutdown: Shutdown{LameDuck: 2 * time.Second, DrainTimeout: 10 * time.Minute},
	}
}

// defaultUpstream is an element of upstreams before its keys are read; general
// has the sections of which it inherits.
func defaultUpstream(general *Config) Upstream {
	return Upstream{
		Weight:         1,
		Timeouts:       general.Timeouts,
		IncludeUsage:   general.Stream.IncludeUsage,
		ConnectionWait: time.Second,
		IdleTimeout:    60 * time.Second,
		DNSTTL:         30 * time.Second,
		Circuit:        Circuit{Failures: 5, OpenFor: time.Second, MaxOpen: 30 * time.Second},
		HealthCheck:    HealthCheck{Interval: 10 * time.Second, Timeout: 5 * time.Second},
	}
}

// defaultPrice is a price before its keys are read. Not a number: not given.
func defaultPrice() Price { return Price{Cached: math.NaN(), CacheWrite: math.NaN()} }

// finish gives what was not named the price of the input.
func (p *Price) finish() {
	if math.IsNaN(p.Cached) {
		p.Cached = p.Input
	}
	if math.IsNaN(p.CacheWrite) {
		p.CacheWrite = p.Input
	}
}

func defaultCredential() Credential { return Credential{Weight: 1} }

// defaultRoute is an element of routes before its keys are read; general is
// the retry section, which it inherits key by key.
func defaultRoute(general Retry) Route { return Route{Retry: general} }
