package configs

import "time"

// Config is the whole of relay.yaml. The zero value is not usable: Load and
// Default fill every field, so a reader never asks whether a key was given.
type Config struct {
	Listen     string           `yaml:"listen"` // host:port, unix:/path
	TLS        TLS              `yaml:"tls"`
	Admin      Admin            `yaml:"admin"`
	Limits     Limits           `yaml:"limits"`
	Timeouts   Timeouts         `yaml:"timeouts"`
	Keys       Keys             `yaml:"keys"`
	Redis      Redis            `yaml:"redis"`
	Stream     Stream           `yaml:"stream"` // as Timeouts before Upstreams, which inherit of it
	Upstreams  []Upstream       `yaml:"upstreams"`
	Retry      Retry            `yaml:"retry"` // before Routes, which inherit it
	Routes     []Route          `yaml:"routes"`
	ClickHouse ClickHouse       `yaml:"clickhouse"`
	RequestLog RequestLog       `yaml:"request_log"`
	Log        Log              `yaml:"log"`
	Shutdown   Shutdown         `yaml:"shutdown"`
	Prices     map[string]Price `yaml:"prices"`
}

// TLS is the public listener's certificate; both empty means plain HTTP.
type TLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`

	ClientCAFile string `yaml:"client_ca_file"` // clients must show a certificate of these; "": none is asked for
}

// Enabled reports whether the public listener speaks TLS.
func (t TLS) Enabled() bool { return t.CertFile != "" }

// Admin is the listener for operators. With an empty Listen, /metrics and
// /readyz are served by the public listener instead.
type Admin struct {
	Listen    string `yaml:"listen"`     // host:port, unix:/path or ""
	TokenFile string `yaml:"token_file"` // bearer token; needed unless Listen is loopback or unix
	Token     Secret `yaml:"-"`          // what Load read from TokenFile
}

// Limits bound what one client, or all of them together, may hold.
type Limits struct {
	MaxBody          Size          `yaml:"max_body"`           // a body held to be read (JSON)
	MaxUpload        Size          `yaml:"max_upload"`         // a body streamed through
	MaxHeld          Size          `yaml:"max_held"`           // all held bodies together, then 503
	MaxStream        Size          `yaml:"max_stream"`         // an answer's body
	MaxHeader        Size          `yaml:"max_header"`         // a request's head
	MaxConnections   int           `yaml:"max_connections"`    // 0: 45 % of RLIMIT_NOFILE
	HeaderTimeout    time.Duration `yaml:"header_timeout"`     // first byte of a head to its last
	BodyIdleTimeout  time.Duration `yaml:"body_idle_timeout"`  // between two reads of a request body
	KeepaliveTimeout time.Duration `yaml:"keepalive_timeout"`  // an idle client connection
	WriteIdleTimeout time.Duration `yaml:"write_idle_timeout"` // a client that reads nothing
}

// Timeouts are the upstream's deadlines; 0 means none.
type Timeouts struct {
	Connect    time.Duration `yaml:"connect"`     // DNS, TCP and TLS together
	Head       time.Duration `yaml:"head"`        // request sent to answer's head
	FirstEvent time.Duration `yaml:"first_event"` // request sent to first event; comments do not count
	Idle       time.Duration `yaml:"idle"`        // between two reads; comments count
	Total      time.Duration `yaml:"total"`       // the whole exchange
}

// Keys says where the relay's own API keys are.
type Keys struct {
	Store              string `yaml:"store"` // file | redis
	File               string `yaml:"file"`
	StateFile          string `yaml:"state_file"`            // what a restart goes on with; "": none
	PepperFile         string `yaml:"pepper_file"`           // hashed in front of each key; "": none
	Pepper             Secret `yaml:"-"`                     // what Load read from PepperFile
	APITokenFile       string `yaml:"api_token_file"`        // bearer token of /api/keys; "": no such API
	APIToken           Secret `yaml:"-"`                     // what Load read from APITokenFile
	EndStreamsOnRevoke bool   `yaml:"end_streams_on_revoke"` // also of one that is disabled or taken out
	LimitsWithoutRedis string `yaml:"limits_without_redis"`  // share | refuse
}

// Redis is the shared key store (keys.store: redis).
type Redis struct {
	Addresses    []string      `yaml:"addresses"` // host:port or unix:/path; of the sentinels where Sentinel is given
	Username     string        `yaml:"username"`
	Password     Secret        `yaml:"password"`
	PasswordFile string        `yaml:"password_file"`
	Database     int           `yaml:"database"`
	TLS          bool          `yaml:"tls"`
	CAFile       string        `yaml:"ca_file"` // instead of the system's roots
	Sentinel     Sentinel      `yaml:"sentinel"`
	Prefix       string        `yaml:"prefix"`
	StaleMax     time.Duration `yaml:"stale_max"`
}

// Sentinel says how the sentinels of Redis.Addresses are asked for the primary;
// off while Master is empty.
type Sentinel struct {
	Master       string `yaml:"master"` // the name of the set
	Username     string `yaml:"username"`
	Password     Secret `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
}

// Dialect says how an upstream is spoken to: how the credential is presented,
// the shape of errors, where usage stands.
type Dialect string

// The dialects.
const (
	OpenAI    Dialect = "openai"
	Anthropic Dialect = "anthropic"
	Gemini    Dialect = "gemini"
	Azure     Dialect = "azure"
)

// Upstream is one provider endpoint.
type Upstream struct {
	Name           string        `yaml:"name"`     // [A-Za-z0-9._-]{1,64}, unique; a metric label
	BaseURL        string        `yaml:"base_url"` // http(s)://host[:port][/path]; the path replaces the client's leading /v1 (or /v1beta, /openai)
	Dialect        Dialect       `yaml:"dialect"`
	Credentials    []Credential  `yaml:"credentials"`
	Headers        Headers       `yaml:"headers"`
	Weight         int           `yaml:"weight"`          // default 1
	Priority       int           `yaml:"priority"`        // lower first
	Timeouts       Timeouts      `yaml:"timeouts"`        // a key that is not given is the general one's
	IncludeUsage   string        `yaml:"include_usage"`   // auto | off; not given: the stream section's; see AsksUsage
	MaxConnections int           `yaml:"max_connections"` // 0: no limit
	ConnectionWait time.Duration `yaml:"connection_wait"` // for one of MaxConnections; 0: not at all
	IdleTimeout    time.Duration `yaml:"idle_timeout"`    // an unused connection; below the provider's own
	DNSTTL         time.Duration `yaml:"dns_ttl"`         // between two looks whether the name's addresses have changed; 0: never
	CAFile         string        `yaml:"ca_file"`         // instead of the system's roots
	CertFile       string        `yaml:"cert_file"`       // client certificate
	KeyFile        string        `yaml:"key_file"`
	SkipVerify     bool          `yaml:"insecure_skip_verify"`
	ProxyURL       string        `yaml:"proxy_url"`  // http://host[:port]; "": what HTTPS_PROXY and its like say; none
	ProxyAuth      Secret        `yaml:"proxy_auth"` // user:password for ProxyURL
	Circuit        Circuit       `yaml:"circuit"`
	HealthCheck    HealthCheck   `yaml:"health_check"`
}

// Circuit says when an upstream that fails is left alone.
type Circuit struct {
	Failures int           `yaml:"failures"` // in a row; 0: never
	OpenFor  time.Duration `yaml:"open_for"` // the first time; doubled while the probe fails
	MaxOpen  time.Duration `yaml:"max_open"`
}

// HealthCheck is a GET that is sent whether there is traffic or not; off while
// Path is empty.
type HealthCheck struct {
	Path     string        `yaml:"path"` // appended to the base URL
	Interval time.Duration `yaml:"interval"`
	Timeout  time.Duration `yaml:"timeout"`
}

// Credential is one account of an upstream. Exactly one of Value, File is given.
type Credential struct {
	Name   string `yaml:"name"` // in logs, rows and GET /upstreams; "": its number, from 0
	Value  Secret `yaml:"value"`
	File   string `yaml:"value_file"` // read at load; trailing line end removed; Value then holds it
	Weight int    `yaml:"weight"`     // default 1
}

// Headers are changes to what goes to an upstream.
type Headers struct {
	Set    map[string]Secret `yaml:"set"` // values may be secrets
	Remove []string          `yaml:"remove"`
}

// Route sends requests for matching models to upstreams; the first match wins.
type Route struct {
	Models       []string          `yaml:"models"`   // globs: * matches any run of characters
	Tenants      []string          `yaml:"tenants"`  // globs; none: all
	Dialects     []Dialect         `yaml:"dialects"` // of the path; none: all
	Upstreams    []string          `yaml:"upstreams"`
	RewriteModel map[string]string `yaml:"rewrite_model"` // alias -> upstream's name
	Retry        Retry             `yaml:"retry"`
}

// Retry says what may be tried again, and with whom: another account, except
// where nothing had been sent or the account asked for it (429, 503).
type Retry struct {
	Attempts int           `yaml:"attempts"` // in all, the first included
	On       []string      `yaml:"on"`       // the words of RetryReasons, or a status
	MaxWait  time.Duration `yaml:"max_wait"` // how long a request may wait for an account's Retry-After; 0: not at all
}

// RetryReasons are the words that Retry.On may hold besides statuses: no
// connection; 401, 402 and 403; any status from 500 on; an error as the first
// event of a stream.
var RetryReasons = [...]string{"connect", "auth", "5xx", "error_event"}

// Stream is how answers are relayed.
type Stream struct {
	IncludeUsage     string        `yaml:"include_usage"`     // auto | off
	KeepaliveComment time.Duration `yaml:"keepalive_comment"` // 0: none
	HeadHold         time.Duration `yaml:"head_hold"`
	Carrier          string        `yaml:"carrier"` // reader | writer
}

// ClickHouse is the request log's store; off while Address and Shards are empty.
type ClickHouse struct {
	Address      string     `yaml:"address"`
	Shards       [][]string `yaml:"shards"`
	Database     string     `yaml:"database"`
	Username     string     `yaml:"username"`
	Password     Secret     `yaml:"password"`
	PasswordFile string     `yaml:"password_file"`
	Compression  string     `yaml:"compression"` // none | lz4 | zstd
	TLS          bool       `yaml:"tls"`
	CAFile       string     `yaml:"ca_file"` // instead of the system's roots
	// Cluster names the cluster that `relay migrate` makes the tables on, and
	// whose Distributed tables `relay logs` reads; "": a single server.
	Cluster        string        `yaml:"cluster"`
	Retention      time.Duration `yaml:"retention"`       // of rows, in whole days
	UsageRetention time.Duration `yaml:"usage_retention"` // of the hourly rollup
}

// Enabled reports whether the request log goes to ClickHouse.
func (c *ClickHouse) Enabled() bool { return c.Address != "" || len(c.Shards) > 0 }

// Servers returns the shards, each with the addresses of its replicas.
func (c *ClickHouse) Servers() [][]string {
	if c.Address != "" {
		return [][]string{{c.Address}}
	}
	return c.Shards
}

// RequestLog is the request log's part on disk: the log itself, or what waits
// for ClickHouse.
type RequestLog struct {
	Dir        string        `yaml:"dir"` // "": no files; without ClickHouse no request log
	MaxBytes   Size          `yaml:"max_bytes"`
	Retention  time.Duration `yaml:"retention"`
	Durability string        `yaml:"durability"` // memory | spool | wal
	Fsync      string        `yaml:"fsync"`      // interval | block | never

	Bodies        string        `yaml:"bodies"`         // off | errors | all
	BodyMax       Size          `yaml:"body_max"`       // of each body, its first bytes
	BodyTenants   []string      `yaml:"body_tenants"`   // globs; none: all
	BodyRetention time.Duration `yaml:"body_retention"` // of bodies, in files and in ClickHouse; in whole days
}

// WithBodies reports whether bodies are kept at all.
func (l *RequestLog) WithBodies() bool { return l.Bodies == "errors" || l.Bodies == "all" }

// CapturesBody returns how many bytes of each body of a tenant's exchange the
// request log wants to see, 0: none. Whether it keeps them is known at the end
// of the exchange (requestlog.KeepsBodies).
func (l *RequestLog) CapturesBody(tenant []byte) int {
	if !l.WithBodies() {
		return 0
	}
	for _, glob := range l.BodyTenants {
		if MatchGlobBytes(glob, tenant) {
			return int(l.BodyMax)
		}
	}
	if len(l.BodyTenants) > 0 {
		return 0
	}
	return int(l.BodyMax)
}

// Log is the process's own log on standard output.
type Log struct {
	Level  string `yaml:"level"`  // debug | info | warn | error
	Access bool   `yaml:"access"` // one line per request
}

// Shutdown is how the relay ends after SIGTERM.
type Shutdown struct {
	LameDuck     time.Duration `yaml:"lame_duck"`     // idle for so long, from then or from its last answer on, a connection is closed
	DrainTimeout time.Duration `yaml:"drain_timeout"` // then streams under way may end by themselves
}

// Price is in US dollars per million tokens.
type Price struct {
	Input      float64 `yaml:"input"`
	Output     float64 `yaml:"output"`
	Cached     float64 `yaml:"cached"`      // of what was read from the provider's cache; default: input
	CacheWrite float64 `yaml:"cache_write"` // of what was written to it; default: input
}
