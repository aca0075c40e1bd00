package blackbox

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"streamrelay/configs/porttest"
)

// fleet is several scripted upstreams behind one relay, named a, b, c, …, of
// the priorities 0, 1, 2, …, each with a credential of its own.
type fleet struct {
	*relay
	ups []*upstream

	mu  sync.Mutex // protects got
	got []string   // the upstream's name and the body, in the order in which they came whole
}

// refuses stands for an upstream whose port nobody listens on.
var refuses func(*received)

// newFleet starts one. Each script answers what its upstream gets; keys are
// further keys of every upstream, such as "weight: 2, "; more is further YAML.
func newFleet(t testing.TB, keys, more string, scripts ...func(*received)) *fleet {
	t.Helper()
	f := &fleet{}
	var yaml strings.Builder
	yaml.WriteString("upstreams:\n")
	for i, script := range scripts {
		name := string(rune('a' + i))
		var up *upstream
		var at string
		if script != nil {
			up = newUpstream(t, func(rq *received) {
				f.note(name, rq)
				script(rq)
			})
			at = up.url
		} else {
			at = "http://" + porttest.DeadAddress(t)
		}
		f.ups = append(f.ups, up)
		fmt.Fprintf(&yaml, "  - {name: %s, dialect: openai, base_url: \"%s/v1\", priority: %d, %scredentials: [{value: key-of-%s}]}\n", name, at, i, keys, name)
	}
	f.relay = startRelay(t, yaml.String()+more)
	return f
}

// note keeps what an upstream got.
func (f *fleet) note(name string, rq *received) {
	if key := rq.get("Authorization"); key != "Bearer key-of-"+name {
		f.t.Errorf("upstream %s was shown %q", name, key)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(f.got, name+" "+rq.body)
}

// order returns which upstreams got a request, in order, and checks that all
// got the same bytes.
func (f *fleet) order(t testing.TB) string {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var names strings.Builder
	for i, g := range f.got {
		names.WriteString(g[:1])
		if g[1:] != f.got[0][1:] {
			t.Errorf("request %d is\n%s\nand the first\n%s", i, g, f.got[0])
		}
	}
	return names.String()
}

// forget begins a new count.
func (f *fleet) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = nil
}

// tries describes a record's attempts before the last: upstream's index,
// reason and status of each.
func (r *record) tries() string {
	var list []string
	for _, try := range r.Tries[:max(r.Attempts-1, 0)] {
		list = append(list, fmt.Sprintf("%c:%s:%d", 'a'+rune(try.Upstream), try.Failure, try.Status))
	}
	return strings.Join(list, " ")
}

// ok answers with a small document that names who answered.
func ok(name string) func(*received) {
	return func(rq *received) { rq.reply(200, `{"from":"`+name+`"}`) }
}

// status answers with an error of the provider's.
func status(code int, fields ...string) func(*received) {
	return func(rq *received) {
		rq.reply(code, fmt.Sprintf(`{"error":{"message":"provider says %d"}}`, code), fields...)
	}
}

// events answers with a stream.
func events(list ...string) func(*received) {
	return func(rq *received) { rq.stream(list...) }
}

// What streams of these tests hold.
const (
	goodEvent  = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n"
	errorEvent = "data: {\"error\":{\"message\":\"Provider returned error\",\"code\":502}}\n\n"
)
