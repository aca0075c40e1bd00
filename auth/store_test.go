package auth

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"streamrelay/auth/limits"
	"streamrelay/configs"
)

// request does what the proxy does with a request from its head to its end.
func request(t *testing.T, r *relayOf, key string, ask limits.Ask, out limits.Outcome) (limits.Refusal, bool) {
	t.Helper()
	rec, status := r.Table().LookupFrom([]byte(key), clientAddr, time.Now().Unix())
	if status != Found {
		t.Fatal(status)
	}
	tenant, _ := rec.Tenant(nil)
	var g limits.Grant
	refusal, ok := r.Admit(&g, rec, tenant, &ask)
	g.Settle(&out)
	return refusal, ok
}

func TestLimitsOfKeysAndTenantsHoldWithEitherStore(t *testing.T) {
	for name, o := range stores(t) {
		t.Run(name, func(t *testing.T) {
			relay := openRelay(t, o)
			k := relay.keeper()
			limited, _ := makeKey(t, k, grant{name: "limited", tenants: []string{"acme"}, limits: limits.Limits{Requests: 3}})
			free, _ := makeKey(t, k, grant{name: "free", tenants: []string{"acme"}})
			other, _ := makeKey(t, k, grant{name: "other", tenants: []string{"beta"}})
			if err := k.setTenant(t.Context(), "acme", &Tenant{Name: "acme", Limits: limits.Limits{Requests: 5}}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the relay follows", func() bool {
				return relay.ask(limited) == Found && relay.ask(other) == Found && relay.tenants.account([]byte("acme")) != nil
			})
			served := limits.Outcome{Sent: true, Known: true, Input: 10, Output: 10}
			for i := range 3 {
				if r, ok := request(t, relay, limited, limits.Ask{MaxTokens: 10}, served); !ok {
					t.Fatalf("request %d of 3: %+v", i+1, r)
				}
			}
			if r, ok := request(t, relay, limited, limits.Ask{}, served); ok || r.Tenant || r.Kind != limits.Requests {
				t.Errorf("the key's limit: %v %+v", ok, r)
			}
			for i := range 2 {
				if r, ok := request(t, relay, free, limits.Ask{}, served); !ok {
					t.Fatalf("request %d of 2 that the tenant has left: %+v", i+1, r)
				}
			}
			if r, ok := request(t, relay, free, limits.Ask{}, served); ok || !r.Tenant || r.Limit != 5 {
				t.Errorf("the tenant's limit: %v %+v", ok, r)
			}
			for range 20 {
				if r, ok := request(t, relay, other, limits.Ask{}, served); !ok {
					t.Fatalf("another tenant: %+v", r)
				}
			}
			if _, _, err := k.change(t.Context(), "limited", func(r *Record) error { r.Limits = limits.Limits{}; return nil }); err != nil {
				t.Fatal(err)
			}
			if err := k.setTenant(t.Context(), "acme", nil); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the limits are gone", func() bool {
				_, ok := request(t, relay, limited, limits.Ask{}, served)
				return ok
			})
		})
	}
}

func TestListShowsUsageAgainstLimits(t *testing.T) {
	for name, o := range stores(t) {
		t.Run(name, func(t *testing.T) {
			o.Prices = map[string]configs.Price{"m": {Input: 1, Output: 1}}
			dir := t.TempDir()
			o.Keys.StateFile = filepath.Join(dir, "state")
			config := filepath.Join(dir, "relay.yaml")
			write(t, config, "keys: {store: "+o.Keys.Store+", file: '"+o.Keys.File+"', state_file: '"+o.Keys.StateFile+"'}\nredis: {addresses: ['"+o.Redis.Addresses[0]+"']}\n")
			out := ok(t, keysCommand(t, "", "create", "--config", config, "--name", "a", "--tenant", "acme", "--requests-per-minute", "60", "--budget-day", "2.50", "--json")).stdout
			var made created
			if err := json.Unmarshal([]byte(out), &made); err != nil {
				t.Fatal(err)
			}
			ok(t, keysCommand(t, "", "tenant", "set", "acme", "--config", config, "--budget-month", "100", "--concurrent", "7"))
			relay := openRelay(t, o)
			if r, ok := request(t, relay, made.Key, limits.Ask{Model: []byte("m")}, limits.Outcome{Sent: true, Known: true, Input: 100_000, Output: 150_000, Model: []byte("m")}); !ok {
				t.Fatalf("%+v", r)
			}
			relay.Close()
			list := ok(t, keysCommand(t, "", "list", "--config", config)).stdout
			want := "0/60 requests/min, $0.25/$2.50 a day"
			if !strings.Contains(strings.Replace(list, "1/60", "0/60", 1), want) { // a second later it is none again
				t.Errorf("got %s; want %s", list, want)
			}
			var views []recordView
			if err := json.Unmarshal([]byte(ok(t, keysCommand(t, "", "list", "--config", config, "--json")).stdout), &views); err != nil || len(views) != 1 ||
				views[0].Usage == nil || views[0].Usage.Day == nil || *views[0].Usage.Day != limits.Dollar/4 || views[0].Limits.Requests != 60 {
				t.Errorf("%v: %+v", err, views)
			}
			tenants := ok(t, keysCommand(t, "", "tenant", "list", "--config", config)).stdout
			if !strings.Contains(tenants, "$0.25/$100.00 a month") {
				t.Errorf("tenants: %s", tenants)
			}
			// What was spent outlives a restart.
			again := openRelay(t, o)
			acct := again.limiter.Account(keyScope(made.ID), limits.Limits{BudgetDay: limits.Dollar / 10}, 1<<40)
			var g limits.Grant
			if r, ok := again.limiter.Admit(&g, acct, nil, &limits.Ask{Model: []byte("m")}); ok || !r.Quota {
				t.Errorf("%v %+v", ok, r)
			}
		})
	}
}

func TestUpdateDisableEnableExportImport(t *testing.T) {
	for name, o := range stores(t) {
		t.Run(name, func(t *testing.T) {
			config := filepath.Join(t.TempDir(), "relay.yaml")
			write(t, config, "keys: {store: "+o.Keys.Store+", file: '"+o.Keys.File+"', state_file: ''}\nredis: {addresses: ['"+o.Redis.Addresses[0]+"']}\n")
			run := func(args ...string) result { return keysCommand(t, "", append(args, "--config", config)...) }
			key := strings.TrimSpace(ok(t, run("create", "--name", "a", "--model", "gpt-*", "--requests-per-minute", "60", "--metadata", "team=x")).stdout)
			ok(t, run("update", "a", "--name", "b", "--model", "", "--path", "/v1/chat/*", "--tokens-per-minute", "1000", "--requests-per-minute", "0", "--metadata", "team=", "--metadata", "env=prod", "--expires", "30d"))
			var v recordView
			if err := json.Unmarshal([]byte(ok(t, run("show", "b", "--json")).stdout), &v); err != nil || len(v.Models) != 0 || len(v.Paths) != 1 ||
				v.Limits.Tokens != 1000 || v.Limits.Requests != 0 || len(v.Metadata) != 1 || v.Metadata["env"] != "prod" || v.Expires == nil {
				t.Fatalf("%v %+v", err, v)
			}
			ok(t, run("update", "b", "--expires", "never", "--burst", "1s"))
			ok(t, run("disable", "b"))
			relay := openRelay(t, o)
			if got := relay.ask(key); got != Disabled {
				t.Errorf("disabled: %v", got)
			}
			ok(t, run("enable", "b"))
			eventually(t, "it is enabled", func() bool { return relay.ask(key) == Found })
			ok(t, run("tenant", "set", "acme", "--concurrent", "3"))
			for _, bad := range [][]string{{"update", "nobody", "--name", "c"}, {"update", "b", "--burst", "2m"}, {"update", "b", "--budget-day", "-1"}, {"tenant", "set", "acme"}, {"tenant", "remove", "nobody"}, {"tenant", "set", "*", "--concurrent", "1"}, {"disable", key}} {
				if r := run(bad...); r.err == nil || strings.Contains(r.err.Error(), key) {
					t.Errorf("%v: %v", bad, r.err)
				}
			}
			backup := ok(t, run("export")).stdout
			if strings.Contains(backup, key) {
				t.Fatal("the export holds the key")
			}
			// Into a store of the other kind, and back.
			for other, o := range stores(t) {
				config := filepath.Join(t.TempDir(), "relay.yaml")
				write(t, config, "keys: {store: "+o.Keys.Store+", file: '"+o.Keys.File+"'}\nredis: {addresses: ['"+o.Redis.Addresses[0]+"']}\n")
				ok(t, keysCommand(t, backup, "import", "--exported", "-", "--config", config))
				if r := keysCommand(t, backup, "import", "--exported", "-", "--config", config); r.err == nil || !strings.Contains(r.err.Error(), "there already") {
					t.Errorf("%s: twice: %v", other, r.err)
				}
				ok(t, keysCommand(t, backup, "import", "--exported", "--replace", "-", "--config", config))
				again := openRelay(t, o)
				if got := again.ask(key); got != Found || again.tenants.account([]byte("acme")) == nil {
					t.Errorf("%s: %v", other, got)
				}
			}
			ok(t, run("tenant", "remove", "acme"))
			if name == "file" {
				data, err := os.ReadFile(o.Keys.File)
				if err != nil || strings.Contains(string(data), "acme") {
					t.Errorf("%v\n%s", err, data)
				}
				if r := run("adopt"); exitCode(r.err) != 2 {
					t.Errorf("adopt: %v", r.err)
				}
			}
		})
	}
}

func TestStreamsOfAKeyThatLeftTheFileEnd(t *testing.T) {
	o := stores(t)["file"]
	relay := openRelay(t, o)
	key, _ := makeKey(t, relay.keeper(), grant{name: "a"})
	kept, _ := makeKey(t, relay.keeper(), grant{name: "b"})
	eventually(t, "the keys are there", func() bool { return relay.ask(key) == Found && relay.ask(kept) == Found })
	hers, _ := relay.Table().lookup([]byte(key), 0)
	his, _ := relay.Table().lookup([]byte(kept), 0)
	ended := make(chan struct{}, 1)
	relay.OnEnd(func() { ended <- struct{}{} })
	if _, _, err := relay.keeper().change(t.Context(), "b", func(r *Record) error { r.Name = "c"; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := revokeKey(t.Context(), relay.keeper(), "a", time.Now()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("nobody was told")
	}
	if !hers.Ended() || his.Ended() {
		t.Errorf("ended: the revoked %v, the renamed %v", hers.Ended(), his.Ended())
	}
}

func TestTenantsOfAKeysFileAreStrict(t *testing.T) {
	for text, want := range map[string]string{
		"tenants: [a]\n": "tenants: want keys and values",
		"tenants: {'*': {limits: {concurrent: 1}}}\n":             "tenants: want 1 to 64",
		"tenants: {a: {limit: {}}}\n":                             `unknown key "limit" (known: limits)`,
		"tenants: {a: {limits: {rpm: 1}}}\n":                      `limits: unknown key "rpm" (known: requests_per_minute,`,
		"tenants: {a: {limits: {concurrent: -1}}}\n":              "concurrent: want a whole number",
		"tenants: {a: {limits: {budget_day: 1e3}}}\n":             "budget_day: want US dollars",
		"tenants: {a: {limits: {burst: 1}}}\n":                    "burst: a duration needs a unit",
		"tenants: {a: {limits: {}}, a: {}}\n":                     `"a": given already`,
		"keys: [{id: a, digest: " + digestA + ", paths: [x]}]\n":  "paths: want a path",
		"keys: [{id: a, digest: " + digestA + ", limits: [x]}]\n": "limits: want keys and values",
		"keys: [{id: a, digest: " + digestA + "}, {id: b, digest: " + strings.Replace(digestB, "sha256:", "sha256+pepper:", 1) + "}]\n": "some keys of this file were made with a pepper",
	} {
		if _, err := parseKeys("keys.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}

func TestAPepperedFileIsNotReadWithoutThePepper(t *testing.T) {
	o := stores(t)["file"]
	plain := o
	o.Keys.Pepper = secretOf("pepper")
	key, _ := makeKey(t, &fileKeeper{path: o.Keys.File, secret: []byte("pepper")}, grant{})
	if got := openRelay(t, o).ask(key); got != Found {
		t.Errorf("with it: %v", got)
	}
	if _, err := Open(plain); err == nil || exitCode(err) != 78 || !strings.Contains(err.Error(), "keys.pepper_file") {
		t.Errorf("without it: %v", err)
	}
	if _, _, err := createKey(t.Context(), &fileKeeper{path: o.Keys.File}, grant{}, time.Now()); err == nil || !strings.Contains(err.Error(), "keys.pepper_file") {
		t.Errorf("a key without it: %v", err)
	}
}

// A request that was under way when the limits changed may be the first to need
// the account.
func TestAnOldRecordDoesNotBringItsLimitsBack(t *testing.T) {
	relay := openRelay(t, stores(t)["redis"])
	key, _ := makeKey(t, relay.keeper(), grant{name: "a", limits: limits.Limits{Requests: 1000}})
	eventually(t, "the key is there", func() bool { return relay.ask(key) == Found })
	old, _ := relay.Table().lookup([]byte(key), 0)
	if _, _, err := relay.keeper().change(t.Context(), "a", func(r *Record) error { r.Limits.Requests = 1; return nil }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new limits are there", func() bool {
		r, _ := relay.Table().lookup([]byte(key), 0)
		return r.Limits.Requests == 1
	})
	if _, ok := request(t, relay, key, limits.Ask{}, limits.Outcome{Sent: true}); !ok {
		t.Fatal("the first request")
	}
	var g limits.Grant
	relay.Admit(&g, old, nil, &limits.Ask{})
	g.Settle(&limits.Outcome{})
	if r, ok := request(t, relay, key, limits.Ask{}, limits.Outcome{Sent: true}); ok || r.Limit != 1 {
		t.Errorf("%v %+v", ok, r)
	}
}
