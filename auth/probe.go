package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/redis/rueidis"
	"github.com/rs/zerolog"

	"streamrelay/auth/lua"
	"streamrelay/configs"
)

// probeTime bounds a probe.
const probeTime = 5 * time.Second

// Commands are what a user of Redis needs, as an ACL names them.
const aclRule = `on >PASSWORD ~PREFIX* resetchannels +@connection +client|tracking +eval +evalsha +mget +get +set +setnx +del +expire +pexpire ` +
	`+hget +hset +hmget +hdel +hincrby +hgetall +hvals +hscan +zadd +zcard +zrangebyscore +zremrangebyscore +time +role +wait +cluster|slots +cluster|shards`

// ProbeRedis tries what the key store needs of Redis, for `relay check
// --online`: the connection, the login, each kind of command, that changes are
// told of, and what would lose keys. It is a configs.Probe.
func ProbeRedis(ctx context.Context, c *configs.Config) []configs.Finding {
	if c.Keys.Store != "redis" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	client, err := dialRedis(ctx, &c.Redis)
	if err != nil {
		return []configs.Finding{failed(&c.Redis, err)}
	}
	defer client.Close()
	p := &probe{ctx: ctx, client: client, c: c, names: namesFor(c.Redis.Prefix)}
	return p.run()
}

type probe struct {
	ctx    context.Context
	client rueidis.Client
	c      *configs.Config
	names  redisNames
}

func (p *probe) run() []configs.Finding {
	s := newRedisStore(p.c.Redis, []byte(p.c.Keys.Pepper.Reveal()), newTenants(nil), zerolog.Nop())
	defer s.stop()
	s.ctx, s.id = p.ctx, "" // a look, not a relay
	conn, release := p.client.Dedicate()
	defer release()
	f := &follower{redisStore: s, client: p.client, conn: conn}
	b, err := f.beat()
	if err != nil {
		return []configs.Finding{failed(&p.c.Redis, err)}
	}
	if mark := pepperMark(s.pepper); b.pepper != "" && b.pepper != mark {
		return []configs.Finding{{Name: "redis", Detail: "the keys in it were made with another pepper than keys.pepper_file, or without one",
			Hint: "set keys.pepper_file to the file that the keys were made with, or take it out"}}
	}
	if err := p.write(); err != nil {
		return []configs.Finding{failed(&p.c.Redis, err)}
	}
	n, err := p.client.Do(p.ctx, p.client.B().Hlen().Key(p.names.ids).Build()).AsInt64()
	detail := fmt.Sprintf("%s answers", p.client.Mode())
	if err == nil {
		detail += fmt.Sprintf(", %d keys", n)
	}
	if b.adopted {
		detail += ", adopted"
	}
	found := []configs.Finding{{Name: "redis", OK: true, Detail: detail}}
	conn.SetOnInvalidations(f.invalidated)
	if err := f.track(); err != nil {
		return []configs.Finding{failed(&p.c.Redis, err)}
	}
	if !s.tracking.Load() {
		found = append(found, configs.Finding{Name: "redis", OK: true, Detail: "it does not tell of changes (CLIENT TRACKING)",
			Hint: "relays ask for changes each " + beatEvery.String() + " instead, which is how long a revocation takes; use Redis 6 or Valkey without a proxy in between, and allow +client|tracking"})
	}
	return append(found, p.durability()...)
}

// write tries what admission and the commands do.
func (p *probe) write() error {
	key := p.names.prefix + "{probe}:" + newID()
	script := lua.New(`redis.call('TIME') redis.call('SETNX', KEYS[1], '1') redis.call('PEXPIRE', KEYS[1], 1000) redis.call('GET', KEYS[1]) redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'a', '1') redis.call('EXPIRE', KEYS[1], 1) redis.call('HGETALL', KEYS[1]) redis.call('HINCRBY', KEYS[1], 'a', 1) redis.call('HDEL', KEYS[1], 'a') redis.call('DEL', KEYS[1])
redis.call('ZADD', KEYS[1], 1, 'a') redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], '1', 'PX', 1000) return redis.call('DEL', KEYS[1])`)
	b := p.client.B
	if err := script.Run(p.ctx, p.client, []string{key}, nil).Error(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	for _, command := range []rueidis.Completed{
		b().Hscan().Key(p.names.ids).Cursor(0).Count(1).Build(), b().Hget().Key(p.names.ids).Field("-").Build(), b().Mget().Key(p.names.marker).Build(),
		b().Hvals().Key(key).Build(),
	} {
		if err := p.client.Do(p.ctx, command).Error(); err != nil && !rueidis.IsRedisNil(err) {
			return fmt.Errorf("read: %w", err)
		}
	}
	return nil
}

// durability warns of settings that lose keys. Managed servers do not tell.
func (p *probe) durability() (found []configs.Finding) {
	b := p.client.B
	info, err := p.client.Do(p.ctx, b().Info().Build()).ToString()
	if err != nil {
		return nil
	}
	fields := map[string]string{}
	for line := range strings.SplitSeq(info, "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = value
		}
	}
	warn := func(detail, hint string) {
		found = append(found, configs.Finding{Name: "redis", OK: true, Detail: detail, Hint: hint})
	}
	if policy := fields["maxmemory_policy"]; fields["maxmemory"] != "0" && fields["maxmemory"] != "" && policy != "noeviction" {
		warn("it may throw keys away when its memory is full (maxmemory-policy "+policy+")", "set maxmemory-policy noeviction")
	}
	if fields["aof_enabled"] == "0" && fields["connected_slaves"] == "0" && fields["role"] == "master" {
		warn("it keeps changes in memory alone between its snapshots, and has no replica", "set appendonly yes or add a replica: else a revocation may be undone by a restart of Redis")
	}
	return found
}

// explained adds to an error of Redis or of the way to it what to change.
func explained(c *configs.Redis, err error) error {
	if !ofRedis(err) {
		return err
	}
	f := failed(c, err)
	return &explainedError{err, f.Detail + "\n" + f.Hint}
}

// ofRedis reports whether err came from Redis or from the way to it. A bare
// errno is not the network's: a file has such ones, too.
func ofRedis(err error) bool {
	var (
		own         *rueidis.RedisError
		network     *net.OpError
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		header      tls.RecordHeaderError
		alert       tls.AlertError
	)
	return errors.As(err, &own) || errors.As(err, &network) || errors.As(err, &dns) ||
		errors.As(err, &certificate) || errors.As(err, &header) || errors.As(err, &alert) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF)
}

// explainedError is an error of Redis as a person wants to read it.
type explainedError struct {
	error
	text string
}

func (e *explainedError) Error() string { return e.text }
func (e *explainedError) Unwrap() error { return e.error }

// failed says which of the usual causes an error has, and what to change.
func failed(c *configs.Redis, err error) configs.Finding {
	text, _, _ := strings.Cut(err.Error(), " script: ") // where in a script it arose
	f := configs.Finding{Name: "redis", Detail: text}
	where := strings.Join(c.Addresses, ", ")
	var opErr *net.OpError
	var dns *net.DNSError
	user := orElse(c.Username, "default")
	switch {
	case strings.Contains(text, "NOPERM"), strings.Contains(text, "The user executing the script"):
		f.Hint = "the user lacks a command or its keys: ACL SETUSER " + user + " " + strings.NewReplacer("PREFIX", c.Prefix, " >PASSWORD", "").Replace(aclRule)
	case strings.Contains(text, "WRONGPASS"), strings.Contains(text, "invalid username-password"), strings.Contains(text, "invalid password"):
		f.Hint = "redis.username (now " + user + ") and redis.password or password_file do not fit: correct them"
	case strings.Contains(text, "NOAUTH"):
		f.Hint = "it wants a password: set redis.password_file, and redis.username where it is not the default user"
	case strings.Contains(text, "without any password configured"):
		f.Hint = "it has no password: take redis.password out, or set one in Redis"
	case strings.Contains(text, "first record does not look like a TLS handshake"), errors.Is(err, syscall.ECONNRESET) && c.TLS:
		f.Hint = "it does not speak TLS at " + where + ": set redis.tls: false, or name its TLS port"
	case strings.Contains(text, "certificate"):
		f.Hint = "its certificate is not trusted: set redis.ca_file, and name it in redis.addresses as the certificate does"
	case errors.As(err, &dns):
		f.Hint = "the name in redis.addresses (" + where + ") is not known: correct it"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		f.Hint = "nothing listens at " + where + ": start Redis, or correct redis.addresses"
	case strings.Contains(text, "READONLY"):
		f.Hint = "it is a replica: name the primary in redis.addresses, or the sentinels and redis.sentinel.master"
	case strings.Contains(text, "NOREPLICAS"):
		f.Hint = "too few of its replicas follow it (min-replicas-to-write), and therefore it takes no changes: see INFO replication"
	case strings.Contains(text, "CLUSTERDOWN"):
		f.Hint = "the cluster has lost slots: see redis-cli cluster info"
	case strings.Contains(text, "MISCONF"):
		f.Hint = "it cannot write to its disk, and therefore takes no changes: see its log"
	case strings.Contains(text, "OOM"):
		f.Hint = "its memory is full: raise maxmemory"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &opErr) && opErr.Timeout(), strings.Contains(text, "i/o timeout"), strings.Contains(text, "deadline exceeded"):
		other := "it expects TLS (redis.tls: true)"
		if c.TLS {
			other = "it does not speak TLS there (redis.tls: false)"
		}
		f.Hint = "it does not answer at " + where + ": it is stuck, a firewall drops packets, or " + other
	case strings.Contains(text, "EOF"), errors.Is(err, syscall.ECONNRESET):
		f.Hint = "it closed the connection without a word: it may expect TLS (redis.tls: true), or not be Redis"
	default:
		f.Hint = "see the log of Redis at " + where
	}
	return f
}
