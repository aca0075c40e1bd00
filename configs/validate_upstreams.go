package configs

import (
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxGlob bounds a model's pattern; model names of providers stay below 100.
const maxGlob = 256

// managedHeaders are fields that frame a message or name its target; the relay
// sets them itself, and a second opinion about them is request smuggling.
var managedHeaders = [...]string{
	"connection", "content-length", "expect", "host", "keep-alive", "proxy-connection",
	"te", "trailer", "transfer-encoding", "upgrade",
}

func validateUpstreams(c *Config, r *report) {
	r.must(len(c.Upstreams) > 0, "upstreams", "no upstream: add one with name, base_url, dialect and credentials")
	first := make(map[string]int, len(c.Upstreams))
	for i := range c.Upstreams {
		u, at := &c.Upstreams[i], item("upstreams", i)
		name := field(at, "name")
		switch before, seen := first[u.Name]; {
		case u.Name == "":
			r.must(false, name, "no name: give the upstream one; routes, metrics and logs use it")
		case !isName(u.Name):
			r.must(false, name, "not a name: write 1 to 64 letters, digits, dots, underscores or hyphens")
		case seen:
			r.must(false, name, "the name of upstreams[%d] too: give each upstream its own", before)
		default:
			first[u.Name] = i
		}
		validateUpstream(u, at, r)
		if u.IncludeUsage != c.Stream.IncludeUsage { // else it is said there
			r.oneOf(field(at, "include_usage"), u.IncludeUsage, "auto", "off")
		}
	}
}

func validateUpstream(u *Upstream, at string, r *report) {
	if u.BaseURL == "" {
		r.must(false, field(at, "base_url"), "no URL: write http(s)://host/path; the path replaces the client's leading /v1")
	} else {
		r.check(field(at, "base_url"), checkBaseURL(u.BaseURL))
	}
	if u.Dialect == "" {
		r.must(false, field(at, "dialect"), "no dialect: write openai, anthropic, gemini or azure")
	} else {
		r.oneOf(field(at, "dialect"), string(u.Dialect), string(OpenAI), string(Anthropic), string(Gemini), string(Azure))
	}
	r.must(u.Weight >= 1, field(at, "weight"), "less than 1: write 1 or more, or remove the upstream")
	r.must(u.Priority >= 0, field(at, "priority"), "negative: write 0 for the first choice, more for a fallback")
	r.must(u.MaxConnections >= 0, field(at, "max_connections"), "negative: write 0 for no limit, or a number")
	r.must(u.IdleTimeout > 0, field(at, "idle_timeout"), "0 would close each connection at once: write a duration, such as 60s")
	if u.ProxyURL != "" && u.ProxyURL != NoProxy {
		r.check(field(at, "proxy_url"), checkProxyURL(u.ProxyURL))
	}
	r.must(u.ProxyAuth.IsZero() || strings.Contains(u.ProxyAuth.Reveal(), ":"), field(at, "proxy_auth"), "not a name and a password: write user:password")
	r.notMasked(field(at, "proxy_auth"), u.ProxyAuth)
	r.must((u.CertFile == "") == (u.KeyFile == ""), field(at, "cert_file"), "a certificate without its key, or a key without its certificate: give both cert_file and key_file, or neither")
	if u.SkipVerify {
		r.warn(field(at, "insecure_skip_verify"), "whoever is between the relay and this upstream can read the credential and every answer: use ca_file instead")
	}
	validateHealth(u, at, r)
	names := make(map[string]bool, len(u.Credentials))
	for i := range u.Credentials {
		validateCredential(&u.Credentials[i], item(field(at, "credentials"), i), r)
		if name := u.Credentials[i].Name; name != "" {
			path := field(item(field(at, "credentials"), i), "name")
			r.must(isName(name), path, "not a name: write 1 to 64 letters, digits, dots, underscores or hyphens")
			r.must(!names[name], path, "another credential's name too: give each its own")
			names[name] = true
		}
	}
	validateHeaders(&u.Headers, field(at, "headers"), r)
	if doubt := doubtBaseURL(u.BaseURL, u.Dialect); doubt != "" {
		r.warn(field(at, "base_url"), "%s", doubt)
	}
	if len(u.Credentials) > 0 && goesInClear(u.BaseURL) {
		r.warn(field(at, "base_url"), "the credential goes over the network unencrypted: use https://")
	}
}

// NoProxy as proxy_url says that the environment's proxies do not count.
const NoProxy = "none"

func validateHealth(u *Upstream, at string, r *report) {
	circuit := field(at, "circuit")
	r.must(u.Circuit.Failures >= 0, field(circuit, "failures"), "negative: write 0 for never, or a number of failures in a row")
	r.must(u.Circuit.OpenFor > 0, field(circuit, "open_for"), "0 would never leave the upstream alone: write a duration such as 1s, or failures: 0")
	r.must(u.Circuit.MaxOpen >= u.Circuit.OpenFor, field(circuit, "max_open"), "less than open_for: write at least that")
	check, health := &u.HealthCheck, field(at, "health_check")
	if check.Path == "" {
		return
	}
	r.must(strings.HasPrefix(check.Path, "/") && !strings.ContainsFunc(check.Path, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '#' }),
		field(health, "path"), "not a path: write one that begins with / and follows base_url, such as /models")
	r.must(check.Interval > 0, field(health, "interval"), "0 would never pause: write a duration, such as 10s")
	r.must(check.Timeout > 0, field(health, "timeout"), "0 would fail each check: write a duration, such as 5s")
}

func goesInClear(baseURL string) bool {
	u, err := url.Parse(baseURL)
	if err != nil || u.Scheme != "http" {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() != "localhost" && (err != nil || !addr.IsLoopback())
}

func validateCredential(c *Credential, at string, r *report) {
	r.must(c.Weight >= 1, field(at, "weight"), "less than 1: write 1 or more, or remove the credential")
	path := field(at, "value")
	if c.File != "" {
		path = field(at, "value_file")
	}
	switch value := c.Value.Reveal(); {
	case value == "" && c.File == "" && r.given(path):
		r.must(false, path, "the value is empty: set the variable that it comes from, or write it")
	case value == "" && c.File == "":
		r.must(false, at, "no secret: give value or value_file")
	case strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		r.must(false, path, "a space, or a character that is not ASCII: a credential has none; copy it again")
	case len(value) > 1 && value[0] == '$' && (value[1] == '_' || value[1] >= 'A' && value[1] <= 'Z'):
		r.warn(path, "begins with $ and is taken as it stands: for a variable write ${NAME}")
	}
	r.notMasked(path, c.Value)
}

func validateHeaders(h *Headers, path string, r *report) {
	seen := make(map[string]bool, len(h.Set))
	for _, name := range slices.Sorted(maps.Keys(h.Set)) {
		at := entry(field(path, "set"), name)
		value := h.Set[name].Reveal()
		validateHeaderName(name, at, r)
		r.must(!seen[strings.ToLower(name)], at, "a header that is set twice: names differ by case only; remove one")
		seen[strings.ToLower(name)] = true
		r.must(strings.TrimSpace(value) == value && !strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c >= 0x7f }), at,
			"a header's value has no spaces around it and only ASCII: correct it")
	}
	for i, name := range h.Remove {
		validateHeaderName(name, item(field(path, "remove"), i), r)
	}
}

func validateHeaderName(name, at string, r *report) {
	r.must(isToken(name), at, "not a header's name: write letters, digits and hyphens")
	r.must(!slices.Contains(managedHeaders[:], strings.ToLower(name)), at, "a header that the relay sets itself: remove it")
}

func validateRoutes(c *Config, r *report) {
	known := make(map[string]bool, len(c.Upstreams))
	var names []string
	for _, u := range c.Upstreams {
		if isName(u.Name) && !known[u.Name] {
			names = append(names, u.Name)
		}
		known[u.Name] = true
	}
	routed := make(map[string]bool, len(known))
	validateRetry(&c.Retry, "retry", r)
	for i := range c.Routes {
		route, at := &c.Routes[i], item("routes", i)
		r.must(len(route.Models) > 0, field(at, "models"), `no models: write names or patterns, ["*"] for all`)
		for j, model := range route.Models {
			r.must(model != "" && len(model) <= maxGlob, item(field(at, "models"), j), "an empty or very long pattern: write 1 to %d characters", maxGlob)
		}
		r.must(len(route.Upstreams) > 0, field(at, "upstreams"), "no upstreams: write the names of one or more, such as [%s]", strings.Join(names, ", "))
		listed := make(map[string]bool, len(route.Upstreams))
		for j, name := range route.Upstreams {
			place := item(field(at, "upstreams"), j)
			r.must(known[name], place, "no upstream has this name: write one of %s", strings.Join(names, ", "))
			r.must(!listed[name], place, "an upstream that is listed twice: remove one, and use weight for its share")
			listed[name], routed[name] = true, true
		}
		for j, tenant := range route.Tenants {
			r.must(tenant != "" && len(tenant) <= maxGlob, item(field(at, "tenants"), j), "an empty or very long pattern: write 1 to %d characters", maxGlob)
		}
		for j, dialect := range route.Dialects {
			r.oneOf(item(field(at, "dialects"), j), string(dialect), string(OpenAI), string(Anthropic), string(Gemini), string(Azure))
		}
		validateRewrites(route, at, r)
		validateRetry(&route.Retry, field(at, "retry"), r)
	}
	for i, u := range c.Upstreams {
		if len(c.Routes) > 0 && !routed[u.Name] {
			r.warn(item("upstreams", i), "no route leads to this upstream: name it in a route, or remove it")
		}
	}
}

func validateRewrites(route *Route, at string, r *report) {
	for _, alias := range slices.Sorted(maps.Keys(route.RewriteModel)) {
		name := route.RewriteModel[alias]
		r.must(name != "" && len(name) <= maxGlob, entry(field(at, "rewrite_model"), alias), "an empty or very long name: write the upstream's name of the model")
	}
}

// validateRetry checks the keys that are given; what a route inherits is
// reported once, where it stands.
func validateRetry(retry *Retry, at string, r *report) {
	r.must(retry.Attempts >= 1 && retry.Attempts <= 10 || !r.given(field(at, "attempts")), field(at, "attempts"), "out of range: write 1 (no second attempt) to 10")
	if !r.given(field(at, "on")) {
		return
	}
	for i, on := range retry.On {
		r.must(slices.Contains(RetryReasons[:], on) || isStatus(on), item(field(at, "on"), i), "unknown reason: write connect, auth, 429, 5xx, error_event or a status from 400 to 599")
	}
}

func isStatus(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && len(s) == 3 && n >= 400 && n <= 599
}
