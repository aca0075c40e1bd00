package proxy

import (
	"strings"
	"testing"

	"streamrelay/configs"
	"streamrelay/pool"
)

// routingOf returns the routing of the configuration yaml.
func routingOf(t testing.TB, yaml string) *routing {
	t.Helper()
	r, err := newRouting(parseConfig(t, yaml), &pool.Buffers{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// upstreamLine is one upstream of a configuration; more are further keys.
func upstreamLine(name, dialect, path, more string) string {
	return "  - {name: " + name + ", dialect: " + dialect + ", base_url: \"http://127.0.0.1:9" + path + "\", credentials: [{value: k}]" + more + "}\n"
}

// namesOf lists candidates with how often each stands there.
func namesOf(c candidates) map[string]int {
	m := make(map[string]int)
	for _, u := range c {
		m[u.Name]++
	}
	return m
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
		u, alias, e := r.choose(c.dialect, []byte(c.model))
		if e != c.err {
			t.Errorf("%s %q: %v, want %v", dialectNames[c.dialect], c.model, e, c.err)
			continue
		}
		if e == nil && (u.Name != c.upstream || string(alias) != c.alias) {
			t.Errorf("%s %q: %s as %q, want %s as %q", dialectNames[c.dialect], c.model, u.Name, alias, c.upstream, c.alias)
		}
		if e != nil && u != nil {
			t.Errorf("%q: an upstream beside an error", c.model)
		}
	}
}

func TestWithoutRoutesEveryModelGoesToEveryUpstreamOfTheDialect(t *testing.T) {
	r := routingOf(t, "upstreams:\n"+upstreamLine("a", "openai", "/v1", "")+upstreamLine("b", "openai", "/v1", "")+upstreamLine("c", "anthropic", "/v1", ""))
	seen := make(map[string]bool)
	for range 1000 {
		u, alias, e := r.choose(dialectOpenAI, []byte("any/model"))
		if e != nil || alias != nil {
			t.Fatal(e, alias)
		}
		seen[u.Name] = true
	}
	if len(seen) != 2 || !seen["a"] || !seen["b"] { // each is missed once in 2^1000 runs
		t.Errorf("chose %v", seen)
	}
	if _, _, e := r.choose(dialectAzure, []byte("m")); e != errNoUpstream {
		t.Errorf("azure: %v", e)
	}
}

// TestWeightsAreExactByConstruction looks at what is drawn from instead of
// drawing: each upstream stands there as often as its weight says.
func TestWeightsAreExactByConstruction(t *testing.T) {
	r := routingOf(t, "upstreams:\n"+
		upstreamLine("one", "openai", "/v1", "")+upstreamLine("five", "openai", "/v1", ", weight: 5")+
		upstreamLine("fallback", "openai", "/v1", ", priority: 1, weight: 9")+
		upstreamLine("worse", "openai", "/v1", ", priority: 7")+upstreamLine("two", "openai", "/v1", ", weight: 2, priority: 0"))
	got := namesOf(r.byDialect[dialectOpenAI])
	if len(got) != 3 || got["one"] != 1 || got["five"] != 5 || got["two"] != 2 {
		t.Errorf("drawn from %v", got)
	}
	if u, e := r.any(dialectOpenAI); e != nil || u.Priority != 0 {
		t.Errorf("any: %v", e)
	}
	if _, e := r.any(dialectGemini); e != errNoUpstream {
		t.Errorf("any of gemini: %v", e)
	}
}

func TestLowestPriorityIsCountedPerRouteAndDialect(t *testing.T) {
	r := routingOf(t, "upstreams:\n"+
		upstreamLine("best", "openai", "/v1", "")+upstreamLine("second", "openai", "/v1", ", priority: 3")+upstreamLine("third", "openai", "/v1", ", priority: 5")+
		upstreamLine("claude", "anthropic", "/v1", ", priority: 8")+
		"routes:\n  - {models: [x], upstreams: [third, second, claude]}\n")
	if got := namesOf(r.routes[0].byDialect[dialectOpenAI]); len(got) != 1 || got["second"] != 1 {
		t.Errorf("openai: %v", got)
	}
	if got := namesOf(r.routes[0].byDialect[dialectAnthropic]); len(got) != 1 || got["claude"] != 1 {
		t.Errorf("anthropic: %v", got)
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
				if len(r.byDialect[d]) > 0 {
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
			if p := presents(r.upstreams[0]); p != c.presents {
				t.Errorf("presents the credential as %s, want %s", p, c.presents)
			}
		})
	}
}

func TestChoosingAllocatesNothing(t *testing.T) {
	r := routingOf(t, "upstreams:\n"+upstreamLine("a", "openai", "/v1", ", weight: 3")+upstreamLine("b", "openai", "/v1", "")+
		"routes:\n  - {models: [\"gpt-*\"], upstreams: [a], rewrite_model: {gpt-4: gpt-4-0613}}\n  - {models: [\"Qwen/*\"], upstreams: [a, b]}\n")
	model, aliased := []byte("Qwen/Qwen2.5-7B-Instruct"), []byte("gpt-4")
	if n := testing.AllocsPerRun(1000, func() {
		if _, _, e := r.choose(dialectOpenAI, model); e != nil {
			t.Fatal(e)
		}
		if _, alias, e := r.choose(dialectOpenAI, aliased); e != nil || alias == nil {
			t.Fatal(e)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
