package pool

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"streamrelay/configs"
)

// Credential is one account of one upstream, as an exchange is given it.
// Immutable but for its counters; safe for concurrent use.
type Credential struct {
	Index    int // in Upstream.Named, for records
	Name     string
	Upstream *Upstream

	value   string
	weight  float64 // the upstream's, shared out among its credentials
	account *Account

	_        [64]byte     // the counter has a cache line of its own
	inFlight atomic.Int64 // attempts under way
	_        [56]byte
}

// Account is whose the credential is. It outlives a reload that the credential
// does not.
func (c *Credential) Account() *Account { return c.account }

// field is the header field that presents a credential in dialect d, and what
// stands before the credential in its value.
func field(d configs.Dialect) (name, prefix string) {
	switch d {
	case configs.Anthropic:
		return "x-api-key", ""
	case configs.Azure:
		return "api-key", ""
	case configs.Gemini:
		return "x-goog-api-key", ""
	}
	return "Authorization", "Bearer "
}

// AppendTo appends the header line that presents the credential, and nothing
// where the upstream wants none. compatible: to a path that speaks the OpenAI API
// whatever the upstream speaks elsewhere.
func (c *Credential) AppendTo(dst []byte, compatible bool) []byte {
	if c.value == "" {
		return dst
	}
	dialect := c.Upstream.presents
	if compatible {
		dialect = configs.OpenAI
	}
	name, prefix := field(dialect)
	dst = append(append(append(dst, name...), ": "...), prefix...)
	return append(append(dst, c.value...), "\r\n"...)
}

// present puts the credential into h.
func (c *Credential) present(h http.Header) {
	if c.value != "" {
		name, prefix := field(c.Upstream.presents)
		h.Set(name, prefix+c.value)
	}
}

// ShownIn reports whether text shows something of the credential, whole or
// masked in the way of providers (its first or last characters, asterisks), or
// of the upstream's own header fields. It may be wrong where it says so.
func (c *Credential) ShownIn(text []byte) bool {
	if bytes.Contains(text, []byte("***")) {
		return true
	}
	if endsIn(text, c.value) {
		return true
	}
	for name, secret := range c.Upstream.cfg.Headers.Set {
		v := secret.Reveal()
		if bare := v[strings.LastIndexByte(v, ' ')+1:]; bearsSecret.MatchString(name) && endsIn(text, bare) {
			return true
		}
		if len(v) >= 8 && bytes.Contains(text, []byte(v)) {
			return true
		}
	}
	return false
}

// bearsSecret knows header fields that present a credential from those that do
// not, whose words stand in many texts.
var bearsSecret = regexp.MustCompile(`(?i)auth|key|token|secret|cookie`)

// endsIn reports whether one end of a secret stands in text, all of a short one.
func endsIn(text []byte, secret string) bool {
	n := len(secret)
	if n >= 16 {
		n = 4
	}
	return n > 0 && (bytes.Contains(text, []byte(secret[:n])) || bytes.Contains(text, []byte(secret[len(secret)-n:])))
}

// Account is what a provider knows as one account: the same credential at the
// same host, however often the configuration names it. It keeps until when the
// account is not to be asked.
type Account struct {
	// Refused credentials (401, 402, several 403) rest as a whole; a limit (429)
	// rests the model that hit it, since providers count per model.
	refusedUntil atomic.Int64 // unix ns
	refusals     atomic.Int32 // in a row
	forbidden    atomic.Int32 // 403 in a row
	limits       atomic.Int32 // without Retry-After, in a row
	resting      [restSlots]atomic.Uint64
}

const (
	// restSlots bounds the models that rest at a time; a further one takes the
	// place of another, which is then asked too early and rests again.
	restSlots = 32
	restBits  = 40 // of a slot: until when, in ms of this process; above it a part of the model's hash

	firstRefusal, longestRefusal = 10 * time.Second, 5 * time.Minute
	firstLimit, longestLimit     = time.Second, time.Minute
	longestRest                  = 24 * time.Hour
	forbiddenInARow              = 3
)

// rest makes model rest until a time.
func (a *Account) rest(model uint64, until int64) {
	ms := uint64(max(until-epoch.UnixNano(), 0)+999_999) / 1e6
	a.resting[model%restSlots].Store(model>>restBits<<restBits | ms)
}

// restsUntil returns until when model rests, in unix ns; 0: it does not.
func (a *Account) restsUntil(model uint64) int64 {
	v := a.resting[model%restSlots].Load()
	if v == 0 || v>>restBits != model>>restBits {
		return 0
	}
	return epoch.UnixNano() + int64(v&(1<<restBits-1))*1e6
}

// longestRestNow returns how many models rest at now, and until when the last.
func (a *Account) longestRestNow(now int64) (models int, until int64) {
	for i := range a.resting {
		at := epoch.UnixNano() + int64(a.resting[i].Load()&(1<<restBits-1))*1e6
		if at > now {
			models++
			until = max(until, at)
		}
	}
	return models, until
}

// backoff returns first doubled n times, and at most longest.
func backoff(first, longest time.Duration, n int32) time.Duration {
	if n >= 30 || first<<n > longest {
		return longest
	}
	return first << n
}

// standing is whether an account may be asked.
type standing uint8

const (
	ready   standing = iota
	refused          // only where nothing else is ready
	barred           // not now
)

// standing returns the account's for model at now.
func (a *Account) standing(model uint64, now int64) standing {
	if a.restsUntil(model) > now {
		return barred
	}
	if a.refusedUntil.Load() > now {
		return refused
	}
	return ready
}
