package auth

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"streamrelay/auth/limits"
	"streamrelay/auth/redistest"
	"streamrelay/configs"
)

// apiClient speaks to the API of a store.
type apiClient struct {
	t   *testing.T
	url string
}

func (c apiClient) do(method, path, body string) (status int, answer string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer api-token")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, strings.TrimSpace(string(data))
}

func serveAPI(t *testing.T, r *relayOf) apiClient {
	t.Helper()
	server := httptest.NewServer(r.API())
	t.Cleanup(func() { server.Close(); http.DefaultTransport.(*http.Transport).CloseIdleConnections() })
	return apiClient{t, server.URL}
}

func stores(t *testing.T) map[string]Options {
	fileOptions := Options{Keys: configs.Default().Keys, Redis: configs.Default().Redis}
	fileOptions.Keys.File, fileOptions.Keys.StateFile = filepath.Join(t.TempDir(), "keys.yaml"), ""
	redisOptions := redisConfig(redistest.Start(t).Addr())
	both := map[string]Options{"file": fileOptions, "redis": redisOptions}
	for name, o := range both {
		o.Keys.APIToken = secretOf("api-token")
		both[name] = o
	}
	return both
}

func TestTheAPIDoesWhatTheCommandsDo(t *testing.T) {
	for name, o := range stores(t) {
		t.Run(name, func(t *testing.T) {
			relay := openRelay(t, o)
			c := serveAPI(t, relay)
			if status, body := c.do("GET", "/api/keys", ""); status != 200 || body != `{"keys":[]}` {
				t.Fatalf("%d %s", status, body)
			}
			status, body := c.do("POST", "/api/keys", `{"name":"alice","tenants":["acme"],"models":["gpt-*"],"limits":{"requests_per_minute":60,"budget_day":2.5},"metadata":{"team":"a"}}`)
			var made created
			if err := json.Unmarshal([]byte(body), &made); err != nil || status != 201 || made.Name != "alice" {
				t.Fatalf("%d %s", status, body)
			}
			eventually(t, "the key works", func() bool { return relay.ask(made.Key) == Found })
			if status, body := c.do("POST", "/api/keys", `{"name":"alice"}`); status != 409 || !strings.Contains(body, `"code":"taken"`) {
				t.Errorf("a taken name: %d %s", status, body)
			}
			status, body = c.do("PATCH", "/api/keys/alice", `{"limits":null,"models":[],"paths":["/v1/chat/*"],"name":"bob"}`)
			var v recordView
			if err := json.Unmarshal([]byte(body), &v); err != nil || status != 200 || v.Name != "bob" || v.Limits != nil || len(v.Models) != 0 || len(v.Paths) != 1 || v.Metadata["team"] != "a" {
				t.Errorf("%d %s", status, body)
			}
			if status, body := c.do("POST", "/api/keys/bob/disable", ""); status != 200 || !strings.Contains(body, `"state":"disabled"`) {
				t.Errorf("%d %s", status, body)
			}
			eventually(t, "the key is disabled", func() bool { return relay.ask(made.Key) == Disabled })
			if status, body := c.do("POST", "/api/keys/"+made.ID+"/enable", ""); status != 200 || !strings.Contains(body, `"state":"active"`) {
				t.Errorf("%d %s", status, body)
			}
			_, backup := c.do("GET", "/api/keys/export", "")
			if strings.Contains(backup, made.Key) || !strings.Contains(backup, `"digest":"`) {
				t.Errorf("export: %s", backup)
			}
			for range 2 {
				if status, body := c.do("POST", "/api/keys/bob/revoke", ""); status != 200 || !strings.Contains(body, `"state":"revoked"`) {
					t.Errorf("%d %s", status, body)
				}
			}
			eventually(t, "the key is revoked", func() bool { return relay.ask(made.Key) == Revoked })
			if status, body := c.do("POST", "/api/keys/bob/enable", ""); status != 409 || !strings.Contains(body, `"code":"revoked"`) {
				t.Errorf("%d %s", status, body)
			}
			if status, body := c.do("POST", "/api/keys/restore", backup); status != 409 || !strings.Contains(body, "was revoked") {
				t.Errorf("a restore brought a revoked key back: %d %s", status, body)
			}
			if status, body := c.do("POST", "/api/keys/restore?replace=true", backup); status != 201 || !strings.Contains(body, `"revoked":"`) {
				t.Errorf("a backup from before a revocation: %d %s", status, body)
			}
			if status, body := c.do("POST", "/api/keys/bob/enable", ""); status != 409 || relay.ask(made.Key) != Revoked {
				t.Errorf("a backup brought a revoked key back: %d %s", status, body)
			}
			if status, body := c.do("POST", "/api/keys/import", `{"keys":[""]}`); status != 400 || !strings.Contains(body, "keys[0]: a key is at most 512 visible ASCII characters") {
				t.Errorf("%d %s", status, body)
			}
			if status, body := c.do("POST", "/api/keys/import", `{"keys":["imported-key-1","imported-key-2"],"name":"import"}`); status != 201 || !strings.Contains(body, `"import-2"`) || strings.Contains(body, "imported-key") {
				t.Errorf("%d %s", status, body)
			}
			eventually(t, "an imported key works", func() bool { return relay.ask("imported-key-2") == Found })

			if status, body := c.do("PUT", "/api/tenants/acme", `{"limits":{"tokens_per_minute":1000}}`); status != 200 || !strings.Contains(body, `"limits":{"tokens_per_minute":1000}`) {
				t.Errorf("%d %s", status, body)
			}
			eventually(t, "the tenant's limits hold", func() bool { return relay.tenants.account([]byte("acme")) != nil })
			if status, body := c.do("GET", "/api/tenants", ""); status != 200 || !strings.HasPrefix(body, `{"tenants":[{"tenant":"acme","limits":{"tokens_per_minute":1000}`) {
				t.Errorf("%d %s", status, body)
			}
			if status, body := c.do("DELETE", "/api/tenants/acme", ""); status != 204 || body != "" {
				t.Errorf("%d %s", status, body)
			}
			eventually(t, "the tenant's limits are gone", func() bool { return relay.tenants.account([]byte("acme")) == nil })
			if status, _ := c.do("DELETE", "/api/tenants/acme", ""); status != 404 {
				t.Errorf("again: %d", status)
			}
			for _, secret := range []string{made.Key, "imported-key", "api-token"} {
				if strings.Contains(relay.log.String(), secret) {
					t.Errorf("the log holds %q", secret)
				}
			}
		})
	}
}

func TestTheAPIRefusesMistakes(t *testing.T) {
	o := stores(t)["file"]
	relay := openRelay(t, o)
	c := serveAPI(t, relay)
	c.do("POST", "/api/keys", `{"name":"alice"}`)
	good := Generate()
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/api/keys/nobody", "", 404, "no key has this id or name"},
		{"GET", "/api/keys/" + good, "", 404, "no key has this id or name"},
		{"GET", "/api/nothing", "", 404, "no such operation"},
		{"DELETE", "/api/keys/alice", "", 404, "no such operation"},
		{"POST", "/api/keys", `{`, 400, "not JSON"},
		{"POST", "/api/keys", `{"name":1}`, 400, "name: value: want another type than number"},
		{"POST", "/api/keys", `{"key":"` + good + `"}`, 400, "key: an unknown field"},
		{"POST", "/api/keys", `{"` + good + `":1}`, 400, "an unknown field"},
		{"POST", "/api/keys", `{"name":"` + good + `"}`, 400, "name: looks like a raw key"},
		{"POST", "/api/keys", `{"tenants":["a b"]}`, 400, "tenants: want 1 to 64"},
		{"POST", "/api/keys", `{"paths":["v1"]}`, 400, "paths: want a path"},
		{"POST", "/api/keys", `{"expires":"2020-01-01T00:00:00Z"}`, 400, "expires: lies in the past"},
		{"POST", "/api/keys", `{"limits":{"requests_per_minute":-1}}`, 400, "requests_per_minute: want a whole number"},
		{"POST", "/api/keys", `{"limits":{"rpm":1}}`, 400, "limits: unknown field"},
		{"POST", "/api/keys", `{"metadata":{"a":"` + strings.Repeat("x", 257) + `"}}`, 400, "metadata: want"},
		{"POST", "/api/keys", `{"name":"` + strings.Repeat("x", maxAPIBody) + `"}`, 413, "larger than"},
		{"POST", "/api/keys/import", `{}`, 400, "keys: want at least one"},
		{"POST", "/api/keys/import", `{"keys":["` + good[:len(good)-1] + `!"]}`, 201, ""},
		{"POST", "/api/keys/import", `{"keys":["a b"]}`, 400, "keys[0]: a key is at most 512"},
		{"POST", "/api/keys/restore", `{}`, 400, "is not what"},
		{"PUT", "/api/tenants/*", `{"limits":{"concurrent":1}}`, 400, "tenant: want 1 to 64"},
		{"PUT", "/api/tenants/acme", `{"limits":{}}`, 400, "want at least one"},
	} {
		status, body := c.do(test.method, test.path, test.body)
		if status != test.status || !strings.Contains(body, test.want) || strings.Contains(body, good[len(keyPrefix):len(keyPrefix)+20]) {
			t.Errorf("%s %.60s %.60s: %d %s; want %d %q", test.method, test.path, test.body, status, body, test.status, test.want)
		}
	}
	if strings.Contains(relay.log.String(), good[len(keyPrefix):len(keyPrefix)+20]) {
		t.Error("the log holds a key")
	}
	for _, header := range []string{"", "Bearer wrong", "Bearer", "Basic api-token", "bearer api-token x"} {
		req := httptest.NewRequest("GET", "/api/keys", nil)
		req.Header.Set("Authorization", header)
		w := httptest.NewRecorder()
		relay.API().ServeHTTP(w, req)
		if w.Code != 401 || strings.Contains(w.Body.String(), "alice") {
			t.Errorf("%q: %d %s", header, w.Code, w.Body)
		}
	}
	o.Keys.APIToken = configs.Secret{}
	w := httptest.NewRecorder()
	openRelay(t, o).API().ServeHTTP(w, httptest.NewRequest("GET", "/api/keys", nil))
	if w.Code != 404 {
		t.Errorf("an API without a token: %d", w.Code)
	}
}

func TestTheOpenAPIFileDescribesTheAPI(t *testing.T) {
	data, err := os.ReadFile("../configs/keys-api.openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths      map[string]map[string]any
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any
				Required   []string
			}
		}
	}
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	var described, built []string
	for path, operations := range doc.Paths {
		for method := range operations {
			if method != "parameters" {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for _, rt := range apiRoutes() {
		built = append(built, rt.pattern)
	}
	slices.Sort(described)
	slices.Sort(built)
	if !slices.Equal(described, built) {
		t.Errorf("described:\n%s\nbuilt:\n%s", strings.Join(described, "\n"), strings.Join(built, "\n"))
	}
	for schema, of := range map[string]reflect.Type{
		"Key": reflect.TypeFor[changedView](), "Created": reflect.TypeFor[created](), "Changes": reflect.TypeFor[changes](), "Usage": reflect.TypeFor[usageView](),
		"Tenant": reflect.TypeFor[tenantView](), "Export": reflect.TypeFor[exportFile](), "Error": reflect.TypeFor[apiProblem](),
	} {
		want := map[string]bool{}
		for _, f := range reflect.VisibleFields(of) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && !(f.Anonymous) && (len(f.Index) == 1 || of.Field(f.Index[0]).Anonymous) {
				want[name] = true
			}
		}
		for name := range doc.Components.Schemas[schema].Properties {
			if !want[name] {
				t.Errorf("%s: %s is described and not there", schema, name)
			}
			delete(want, name)
		}
		for name := range want {
			t.Errorf("%s: %s is not described", schema, name)
		}
	}
	for _, f := range limits.Fields() {
		if doc.Components.Schemas["Limits"].Properties[f.Name] == nil {
			t.Errorf("limits: %s is not described", f.Name)
		}
	}
}
