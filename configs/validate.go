package configs

import (
	"maps"
	"net"
	"slices"
	"strings"
)

// check adds err as a problem at path, unless path has one already: a value
// that could not be read is still the default, and says nothing.
func (r *report) check(path string, err error) {
	if err != nil && !r.failed(path) {
		r.add(path, "%v", err)
	}
}

// must adds a problem at path where ok is false, unless path has one already.
func (r *report) must(ok bool, path, format string, args ...any) {
	if !ok && !r.failed(path) {
		r.add(path, format, args...)
	}
}

// oneOf checks a value that is one of a few words. The value is not repeated,
// as nothing of the file is that may be a secret.
func (r *report) oneOf(path, value string, allowed ...string) {
	last := len(allowed) - 1
	r.must(slices.Contains(allowed, value), path, "unknown value: write %s or %s", strings.Join(allowed[:last], ", "), allowed[last])
}

// validate checks what the types cannot say, and all of it.
func validate(c *Config, r *report) {
	validateListeners(c, r)
	validateLimits(&c.Limits, r)
	validateKeys(&c.Keys, r)
	validateStores(c, r)
	validateUpstreams(c, r)
	validateRoutes(c, r)
	validateRecords(c, r)

	r.oneOf("stream.include_usage", c.Stream.IncludeUsage, "auto", "off")
	r.oneOf("stream.carrier", c.Stream.Carrier, "reader", "writer")
	r.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	for _, model := range slices.Sorted(maps.Keys(c.Prices)) {
		p, at := c.Prices[model], entry("prices", model)
		r.must(!strings.Contains(model, "*"), at, "a price is of one model: write its name, without *")
		if alias := aliasOf(c, model); alias != "" {
			r.warn(at, "a name that %s.rewrite_model replaces: prices go by the upstream's name", alias)
		}
		r.must(p.Input >= 0 && p.Output >= 0 && p.Cached >= 0 && p.CacheWrite >= 0, at, "a negative price: write US dollars per million tokens, 0 for free")
	}
}

// aliasOf names a route that asks its upstreams for the model by another name,
// where none leads to it by this one.
func aliasOf(c *Config, model string) string {
	in := ""
	for i := range c.Routes {
		for alias, name := range c.Routes[i].RewriteModel {
			switch model {
			case name:
				return ""
			case alias:
				in = item("routes", i)
			}
		}
	}
	return in
}

func validateListeners(c *Config, r *report) {
	r.check("listen", checkListen(c.Listen))
	r.must((c.TLS.CertFile == "") == (c.TLS.KeyFile == ""), "tls",
		"a certificate without its key, or a key without its certificate: give both cert_file and key_file, or neither")
	r.must(c.TLS.ClientCAFile == "" || c.TLS.Enabled(), "tls.client_ca_file", "client certificates without TLS: give cert_file and key_file, or remove the key")
	r.must(c.Shutdown.DrainTimeout > 0, "shutdown.drain_timeout", "0 would cut every stream: write a duration, such as 10m")
	if c.Admin.Listen == "" {
		if c.Admin.TokenFile != "" {
			r.warn("admin.token_file", "not used while admin.listen is empty: give admin.listen an address, or remove the key")
		}
		return
	}
	r.check("admin.listen", checkListen(c.Admin.Listen))
	r.must(c.Admin.Listen != c.Listen || isPortZero(c.Listen), "admin.listen", "the same address as listen: give the admin listener its own, or \"\" for none")
	r.must(isLocal(c.Admin.Listen) || c.Admin.TokenFile != "", "admin.listen",
		"reachable from other machines without a token: add admin.token_file, or listen on 127.0.0.1, [::1] or unix:/path")
}

// isPortZero reports whether the system picks the port, anew for each listener.
func isPortZero(listen string) bool {
	_, port, err := net.SplitHostPort(listen)
	return err == nil && port == "0"
}

func validateLimits(l *Limits, r *report) {
	r.must(l.MaxHeader >= KiB && l.MaxHeader <= MiB, "limits.max_header", "out of range: write 1KiB to 1MiB")
	r.must(l.MaxBody >= KiB && l.MaxBody <= GiB, "limits.max_body", "out of range: write 1KiB to 1GiB; max_upload is for what need not be held")
	r.must(l.MaxUpload >= KiB, "limits.max_upload", "too small: write at least 1KiB")
	r.must(l.MaxStream >= KiB, "limits.max_stream", "too small: write at least 1KiB")
	r.must(l.MaxHeld >= l.MaxBody || r.failed("limits.max_body"), "limits.max_held", "smaller than limits.max_body (%v): no such body could be held; write at least that", l.MaxBody)
	r.must(l.MaxConnections >= 0, "limits.max_connections", "negative: write 0 for 45 %% of the file descriptors, or a number")
	const none = "0 would let one client hold a connection for ever: write a duration, such as 30s"
	r.must(l.HeaderTimeout > 0, "limits.header_timeout", none)
	r.must(l.BodyIdleTimeout > 0, "limits.body_idle_timeout", none)
	r.must(l.KeepaliveTimeout > 0, "limits.keepalive_timeout", none)
	r.must(l.WriteIdleTimeout > 0, "limits.write_idle_timeout", none)
}

func validateKeys(k *Keys, r *report) {
	r.oneOf("keys.store", k.Store, "file", "redis")
	r.must(k.Store != "file" || k.File != "", "keys.file", "no file: name the file that holds the keys, such as keys.yaml")
	r.oneOf("keys.limits_without_redis", k.LimitsWithoutRedis, "share", "refuse")
}

// validateRedis checks how Redis is reached.
func validateRedis(c *Redis, r *report) {
	r.must(len(c.Addresses) > 0, "redis.addresses", "no address: write [host:port], such as [127.0.0.1:6379]")
	for i, address := range c.Addresses {
		at := item("redis.addresses", i)
		if strings.HasPrefix(address, "unix:") {
			r.check(at, checkListen(address))
			r.must(c.Sentinel.Master == "" && len(c.Addresses) == 1, at, "a unix socket among other addresses, or with sentinel: it stands alone; write host:port for a cluster or sentinels")
			r.must(!c.TLS, at, "a unix socket with tls: true: remove one of them")
			continue
		}
		r.check(at, checkHostPort(address, false))
	}
	r.must(c.Database >= 0 && c.Database <= 1<<20, "redis.database", "out of range: write 0 or the number of a database")
	r.must(len(c.Prefix) <= 64 && !strings.ContainsAny(c.Prefix, "{}*?[]\\ "), "redis.prefix", "a brace, wildcard or space in it, or too long: write up to 64 other characters, such as relay:")
	r.must(c.CAFile == "" || c.TLS, "redis.ca_file", "certificates to trust without tls: true: add it, or remove the key")
	sentinel := &c.Sentinel
	r.must(sentinel.Master != "" || sentinel.Username == "" && sentinel.Password.IsZero() && sentinel.PasswordFile == "", "redis.sentinel",
		"a login without master: name the set that the sentinels watch, or remove it")
	r.notMasked("redis.password", c.Password)
	r.notMasked("redis.sentinel.password", sentinel.Password)
}

func validateStores(c *Config, r *report) {
	validateRedis(&c.Redis, r)

	ch := &c.ClickHouse
	r.must(ch.Address == "" || len(ch.Shards) == 0, "clickhouse.address", "both address and shards: remove one of them; address is one server, shards are lists of replicas")
	if ch.Address != "" {
		checkClickHouse("clickhouse.address", ch.Address, r)
	}
	for i, replicas := range ch.Shards {
		at := item("clickhouse.shards", i)
		r.must(len(replicas) > 0, at, "a shard without an address: write [host:port] for each replica")
		for j, address := range replicas {
			checkClickHouse(item(at, j), address, r)
		}
	}
	r.must(ch.Database != "", "clickhouse.database", "no database: write its name, such as relay")
	r.must(ch.Username != "", "clickhouse.username", "no user: write its name, such as default")
	r.oneOf("clickhouse.compression", ch.Compression, "none", "lz4", "zstd")
	r.notMasked("clickhouse.password", ch.Password)
	r.must(ch.CAFile == "" || ch.TLS, "clickhouse.ca_file", "certificates to trust, and no TLS: add tls: true, or remove the key")
	// ClickHouse's DateTime ends in 2106, and a time to live beyond it wraps: the rows would go at once.
	r.must(ch.Retention >= day && ch.Retention <= 7300*day, "clickhouse.retention", days)
	r.must(ch.UsageRetention >= day && ch.UsageRetention <= 7300*day, "clickhouse.usage_retention", days)
}

// days is said of a time to live out of its range.
const days = "out of range: whole days are kept; write 1d to 7300d"

func checkClickHouse(path, address string, r *report) {
	r.check(path, checkHostPort(address, false))
	_, port, _ := net.SplitHostPort(address)
	if what := map[string]string{"8123": "HTTP", "8443": "HTTP", "9004": "MySQL", "9005": "PostgreSQL", "9009": "inter-server"}[port]; what != "" {
		r.warn(path, "port %s is ClickHouse's %s port; the native port is usually 9000 (9440 with TLS)", port, what)
	}
}

// notMasked reports the output of --print, fed back as a configuration.
func (r *report) notMasked(path string, s Secret) {
	r.must(s.Reveal() != masked, path, "the secret is %s, as `relay check --print` masks it: put the secret back", masked)
}

func validateRecords(c *Config, r *report) {
	l := &c.RequestLog
	r.must(l.Dir != "" || !c.ClickHouse.Enabled() || l.Durability == "memory", "request_log.dir",
		"no folder, where blocks wait until ClickHouse has them: name one, such as data/request-log, or write durability: memory")
	r.must(l.MaxBytes >= MiB, "request_log.max_bytes", "too small: write at least 1MiB")
	r.oneOf("request_log.durability", l.Durability, "memory", "spool", "wal")
	r.oneOf("request_log.fsync", l.Fsync, "interval", "block", "never")
	r.oneOf("request_log.bodies", l.Bodies, "off", "errors", "all")
	r.must(l.Bodies == "off" || l.Dir != "" || c.ClickHouse.Enabled(), "request_log.bodies", "bodies without a request log: give request_log.dir or clickhouse.address, or write off")
	r.must(l.BodyMax >= KiB && l.BodyMax <= MiB, "request_log.body_max", "out of range: write 1KiB to 1MiB")
	r.must(l.BodyRetention >= day && l.BodyRetention <= 7300*day, "request_log.body_retention", days)
	for i, tenant := range l.BodyTenants {
		r.must(tenant != "" && len(tenant) <= maxGlob, item("request_log.body_tenants", i), "an empty or very long pattern: write 1 to %d characters", maxGlob)
	}
}

// validateSources reports secrets that are given in two ways. It comes before
// the files are read, since then they are in one place.
func validateSources(c *Config, r *report) {
	const both = "both a value and a file: remove one of them"
	r.must(c.Redis.Password.IsZero() || c.Redis.PasswordFile == "", "redis.password_file", both)
	sentinel := &c.Redis.Sentinel
	r.must(sentinel.Password.IsZero() || sentinel.PasswordFile == "", "redis.sentinel.password_file", both)
	r.must(c.ClickHouse.Password.IsZero() || c.ClickHouse.PasswordFile == "", "clickhouse.password_file", both)
	for i := range c.Upstreams {
		for j, credential := range c.Upstreams[i].Credentials {
			at := item(field(item("upstreams", i), "credentials"), j)
			r.must(credential.Value.IsZero() || credential.File == "", field(at, "value_file"), both)
		}
	}
}
