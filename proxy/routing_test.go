package proxy

import (
	"context"
	"strings"
	"testing"

	"streamrelay/configs"
	"streamrelay/pool"
)

// routingOf returns the routing of the configuration yaml.
func routingOf(t testing.TB, yaml string) *routing {
	t.Helper()
	r, err := newRouting(context.Background(), parseConfig(t, yaml), nil, nil, &pool.Buffers{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.set.Close)
	return r
}

// chosen is where one choice of r leads, by the upstream's name.
func chosen(r *routing, d dialect, tenant, model string) (upstream, alias string, e *apiError) {
	to, e := r.choose(d, []byte(tenant), []byte(model))
	if e != nil {
		return "", "", e
	}
	var a pool.Attempt
	if !to.candidates.Choose(&a, &pool.Tried{}, 0, pool.Now()) {
		return "", "", errNoneReady
	}
	upstream = a.Upstream.Name
	a.End(false)
	return upstream, string(to.alias), nil
}

// upstreamLine is one upstream of a configuration; more are further keys.
func upstreamLine(name, dialect, path, more string) string {
	return "  - {name: " + name + ", dialect: " + dialect + ", base_url: \"http://127.0.0.1:9" + path + "\", credentials: [{value: k}]" + more + "}\n"
}

func TestFirstRouteThatFitsIsTaken(t *testing.T) {
	r := routingOf(t, "upstreams:\n"+
		upstreamLine("a", "openai", "/v1", "")+upstreamLine("b", "openai", "/v1", "")+upstreamLine("c", "anthropic", "/v1", "")+upstreamLine("rest", "openai", "/v1", "")+
		`routes:
  - {models: ["gpt-4o"], upstreams: [a], rewrite_model: {gpt-4o: gpt-4o-2024-11-20}}
  - {models: ["gpt-*", "o1"], upstreams: [b], rewrite_model: {gpt-5: "our \"five\""}}
  - {models: ["claude-*"], upstreams: [c]}
  - {models: ["Qwen/*-Instruct"], upstreams: [a]}
  - {models: ["*"], upstreams: [rest]}
`)
	for _, c := range []struct {
		dialect  dialect
		model    string
		upstream string // "": refused
		alias    string
		err      *apiError
	}{
		{dialectOpenAI, "gpt-4o", "a", "gpt-4o-2024-11-20", nil},
		{dialectOpenAI, "gpt-4o-mini", "b", "", nil},
		{dialectOpenAI, "gpt-5", "b", `our "five"`, nil},
		{dialectOpenAI, "o1", "b", "", nil},
		{dialectOpenAI, "o1-mini", "rest", "", nil},
		{dialectOpenAI, "GPT-4o", "rest", "", nil},
		{dialectOpenAI, "Qwen/Qwen2.5-7B-Instruct", "a", "", nil},
		{dialectOpenAI, "Qwen/Qwen2.5-7B", "rest", "", nil},
		{dialectOpenAI, "claude-3", "rest", "", nil}, // the route's upstream speaks another dialect
		{dialectOpenAI, "", "rest", "", nil},
		{dialectAnthropic, "claude-3", "c", "", nil},
		{dialectAnthropic, "gpt-4o", "", "", errModelNotFound},
		{dialectAnthropic, "", "", "", errModelNotFound},
		{dialectGemini, "claude-3", "", "", errNoUpstream},
	} {
		if u, alias, e := chosen(r, c.dialect, "acme", c.model); e != c.err || u != c.upstream || alias != c.alias {
			t.Errorf("%s %q: %q as %q, %v; want %q as %q, %v", dialectNames[c.dialect], c.model, u, alias, e, c.upstream, c.alias, c.err)
		}
	}
}

func TestWithoutRoutesEveryModelGoesToEveryUpstreamOfTheDialect(t *testing.T) {
	r := routingOf(t, "upstreams:\n"+upstreamLine("a", "openai", "/v1", "")+upstreamLine("b", "openai", "/v1", "")+upstreamLine("c", "anthropic", "/v1", ""))
	seen := make(map[string]bool)
	for range 1000 {
		u, alias, e := chosen(r, dialectOpenAI, "acme", "any/model")
		if e != nil || alias != "" {
			t.Fatal(e, alias)
		}
		seen[u] = true
	}
	if len(seen) != 2 || !seen["a"] || !seen["b"] { // each is missed once in 2^1000 runs
		t.Errorf("chose %v", seen)
	}
	if _, _, e := chosen(r, dialectAzure, "acme", "m"); e != errNoUpstream {
		t.Errorf("azure: %v", e)
	}
}

func TestRouteMatchesByTenantAndDialectToo(t *testing.T) {
	r := routingOf(t, "upstreams:\n"+
		upstreamLine("a", "openai", "/v1", "")+upstreamLine("b", "openai", "/v1", "")+upstreamLine("c", "anthropic", "/v1", "")+upstreamLine("d", "anthropic", "/v1", "")+
		`routes:
  - {models: ["m*"], tenants: ["acme", "team-*"], upstreams: [a]}
  - {models: ["m*"], dialects: [anthropic], upstreams: [a, c]}
  - {models: ["m1"], dialects: [openai], upstreams: [b, d]}
`)
	for _, c := range []struct {
		dialect                 dialect
		tenant, model, upstream string
		err                     *apiError
	}{
		{dialectOpenAI, "acme", "m1", "a", nil},
		{dialectOpenAI, "team-9", "m2", "a", nil},
		{dialectOpenAI, "other", "m1", "b", nil},
		{dialectOpenAI, "other", "m2", "", errModelNotFound},
		{dialectAnthropic, "acme", "m1", "c", nil}, // the first route has nobody of the dialect
		{dialectAnthropic, "other", "m9", "c", nil},
		{dialectAnthropic, "other", "x", "", errModelNotFound},
	} {
		if u, _, e := chosen(r, c.dialect, c.tenant, c.model); e != c.err || u != c.upstream {
			t.Errorf("%s %s %s: %q %v; want %q %v", dialectNames[c.dialect], c.tenant, c.model, u, e, c.upstream, c.err)
		}
	}
}

func TestLowestPriorityIsCountedPerRouteAndDialect(t *testing.T) {
	r := routingOf(t, "upstreams:\n"+
		upstreamLine("best", "openai", "/v1", "")+upstreamLine("second", "openai", "/v1", ", priority: 3")+upstreamLine("third", "openai", "/v1", ", priority: 5")+
		upstreamLine("claude", "anthropic", "/v1", ", priority: 8")+
		"routes:\n  - {models: [x], upstreams: [third, second, claude]}\n")
	for range 100 {
		if u, _, e := chosen(r, dialectOpenAI, "", "x"); e != nil || u != "second" {
			t.Fatalf("openai: %s, %v", u, e)
		}
		if u, _, e := chosen(r, dialectAnthropic, "", "x"); e != nil || u != "claude" {
			t.Fatalf("anthropic: %s, %v", u, e)
		}
	}
}

func TestUpstreamServesItsDialectAndTheOpenAISurfaceItNames(t *testing.T) {
	for _, c := range []struct {
		dialect, path string
		serves        []configs.Dialect
		presents      configs.Dialect
	}{
		{"openai", "/v1", []configs.Dialect{configs.OpenAI}, configs.OpenAI},
		{"openai", "", []configs.Dialect{configs.OpenAI}, configs.OpenAI},
		{"anthropic", "/v1", []configs.Dialect{configs.Anthropic}, configs.Anthropic},
		{"gemini", "/v1beta", []configs.Dialect{configs.Gemini}, configs.Gemini},
		{"gemini", "/v1beta/openai", []configs.Dialect{configs.OpenAI}, configs.OpenAI},
		{"gemini", "/v1beta/openai/", []configs.Dialect{configs.OpenAI}, configs.OpenAI},
		{"azure", "/openai", []configs.Dialect{configs.Azure}, configs.Azure},
		{"azure", "", []configs.Dialect{configs.Azure}, configs.Azure},
		{"azure", "/openai/v1", []configs.Dialect{configs.OpenAI}, configs.Azure},
	} {
		t.Run(c.dialect+c.path, func(t *testing.T) {
			r := routingOf(t, "upstreams:\n"+upstreamLine("u", c.dialect, c.path, ""))
			var got []string
			for d := range dialectNames {
				if r.byDialect[d] != nil {
					got = append(got, string(dialectNames[d]))
				}
			}
			var want []string
			for _, d := range c.serves {
				want = append(want, string(d))
			}
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("serves %v, want %v", got, want)
			}
			line := map[configs.Dialect]string{configs.OpenAI: "Authorization: Bearer k", configs.Anthropic: "x-api-key: k", configs.Gemini: "x-goog-api-key: k", configs.Azure: "api-key: k"}
			if got := string(r.set.Upstreams[0].Credentials[0].AppendTo(nil, false)); got != line[c.presents]+"\r\n" {
				t.Errorf("presents the credential as %q, want %q", got, line[c.presents])
			}
		})
	}
}

func TestChoosingAllocatesNothing(t *testing.T) {
	r := routingOf(t, "upstreams:\n"+upstreamLine("a", "openai", "/v1", ", weight: 3")+upstreamLine("b", "openai", "/v1", "")+
		"routes:\n  - {models: [\"gpt-*\"], upstreams: [a], rewrite_model: {gpt-4: gpt-4-0613}}\n  - {models: [\"Qwen/*\"], upstreams: [a, b]}\n")
	model, aliased, tenant := []byte("Qwen/Qwen2.5-7B-Instruct"), []byte("gpt-4"), []byte("acme")
	if n := testing.AllocsPerRun(1000, func() {
		if _, e := r.choose(dialectOpenAI, tenant, model); e != nil {
			t.Fatal(e)
		}
		if to, e := r.choose(dialectOpenAI, tenant, aliased); e != nil || to.alias == nil {
			t.Fatal(e)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
