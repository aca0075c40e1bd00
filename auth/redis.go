package auth

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"streamrelay/configs"
)

const (
	redisDial    = 2 * time.Second
	redisTimeout = time.Second // for an answer; a frozen server is noticed after it
)

// redisNames are the keys in Redis. What belongs to the key store has one hash
// tag: in a cluster it then lies in one slot, so that a change of a record, its
// name and its place in the order of changes is one step, and one connection,
// to the slot's primary, hears of every change.
type redisNames struct {
	prefix  string // of everything
	records string // in front of a subject: a digest in hex, or tenantSubject
	marker  string // names this set of keys; gone with them
	meta    string // hash: seq, pepper, adopted
	changed string // sorted set of subjects by the number of their last change
	ids     string // hash of subjects by id
	names   string // hash of subjects by name
	relays  string // sorted set of relays by when they were heard of, ms
}

func namesFor(prefix string) redisNames {
	tag := prefix + "{keys}:"
	return redisNames{prefix, tag + "r:", tag + "marker", tag + "meta", tag + "changed", tag + "ids", tag + "names", tag + "relays"}
}

// tenantSubject begins the subject of a tenant; no digest or id has a colon.
const tenantSubject = "tenant:"

// pepperMark tells whether two programs have the same pepper, without telling it.
func pepperMark(pepper []byte) string {
	if len(pepper) == 0 {
		return "none"
	}
	sum := sha256.Sum256(append([]byte("relay pepper mark\x00"), pepper...))
	return hex.EncodeToString(sum[:8])
}

// redisOptions is how the relay connects. ctx ends every dial. Defaults of the
// library are for caches of many values: here a connection needs little, and a
// server that does not answer must be noticed soon.
func redisOptions(ctx context.Context, c *configs.Redis) (rueidis.ClientOption, error) {
	o := rueidis.ClientOption{
		InitAddress:         c.Addresses,
		Username:            c.Username,
		Password:            c.Password.Reveal(),
		ClientName:          "relay",
		SelectDB:            c.Database,
		Dialer:              net.Dialer{Timeout: redisDial, KeepAlive: time.Second},
		ConnWriteTimeout:    redisTimeout,
		PipelineMultiplex:   -1,
		RingScaleEachConn:   8,
		ReadBufferEachConn:  16 << 10,
		WriteBufferEachConn: 16 << 10,
		BlockingPoolSize:    8,
		DisableCache:        true, // the table is the cache
		DisableRetry:        true, // the caller has a deadline and a plan of its own
		ClusterOption:       rueidis.ClusterOption{ShardsRefreshInterval: 5 * time.Second},
	}
	if c.TLS {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if c.CAFile != "" {
			pool, err := configs.CertPool(c.CAFile)
			if err != nil {
				return o, fmt.Errorf("redis.ca_file: %w", err)
			}
			o.TLSConfig.RootCAs = pool
		}
	}
	if s := &c.Sentinel; s.Master != "" {
		o.Sentinel = rueidis.SentinelOption{
			Dialer: o.Dialer, TLSConfig: o.TLSConfig, MasterSet: s.Master,
			Username: s.Username, Password: s.Password.Reveal(), ClientName: "relay",
			// A demoted primary lives on, and a lost message would bind us to it.
			TopologyRefreshInterval: 5 * time.Second,
		}
	}
	o.DialCtxFn = func(dial context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
		dial, cancel := context.WithTimeout(dial, redisDial)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		if path, unix := strings.CutPrefix(address, "unix:"); unix {
			return dialer.DialContext(dial, "unix", path)
		}
		if config == nil {
			return dialer.DialContext(dial, "tcp", address)
		}
		if config.ServerName == "" {
			config = config.Clone()
			config.ServerName, _, _ = net.SplitHostPort(address)
		}
		return (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(dial, "tcp", address)
	}
	if len(c.Addresses) == 1 && strings.HasPrefix(c.Addresses[0], "unix:") {
		o.ForceSingleClient = true // a cluster's nodes name each other by host and port
	}
	return o, nil
}

// dialRedis connects and logs in.
func dialRedis(ctx context.Context, c *configs.Redis) (rueidis.Client, error) {
	o, err := redisOptions(ctx, c)
	if err != nil {
		return nil, err
	}
	client, err := rueidis.NewClient(o)
	if err != nil {
		if client != nil {
			client.Close()
		}
		return nil, fmt.Errorf("connect to redis: %w", err)
	}
	return client, nil
}
