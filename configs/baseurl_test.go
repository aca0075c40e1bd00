package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestABaseURLThatLeadsNowhereIsDoubted(t *testing.T) {
	for _, c := range []struct {
		dialect Dialect
		url     string
		doubt   string // part of the warning; "": none
	}{
		{OpenAI, "https://api.openai.com/v1", ""},
		{OpenAI, "https://api.openai.com/v1/", ""},
		{OpenAI, "https://api.openai.com", "begins at /v1: add it"},
		{OpenAI, "https://API.groq.com/", "begins at /openai/v1: add it"},
		{OpenAI, "https://api.perplexity.ai", ""},
		{OpenAI, "http://127.0.0.1:8000", ""},
		{OpenAI, "https://gateway.example/v1/v1", "/v1 twice"},
		{OpenAI, "https://eu.openai.azure.com/openai/deployments/x", ""}, // as its owner says
		{Anthropic, "https://api.anthropic.com/v1", ""},
		{Anthropic, "https://api.anthropic.com", "begins at /v1: add it"},
		{Anthropic, "https://api.deepseek.com/anthropic", "/anthropic/messages; add /v1"},
		{Anthropic, "https://api.deepseek.com/anthropic/v1", ""},
		{Anthropic, "http://127.0.0.1:8000", "would go to /messages"},
		{Gemini, "https://generativelanguage.googleapis.com/v1beta", ""},
		{Gemini, "https://generativelanguage.googleapis.com/v1beta/openai", ""},
		{Gemini, "https://generativelanguage.googleapis.com", "begins at /v1beta: add it"},
		{Azure, "https://eu.openai.azure.com/openai", ""},
		{Azure, "https://eu.openai.azure.com/openai/v1", ""},
		{Azure, "https://eu.openai.azure.com", "not a root of Azure"},
		{Azure, "https://eu.openai.azure.com/openai/deployments/gpt", "a deployment in the path"},
		{Azure, "https://gateway.example/azure", ""},
	} {
		got := doubtBaseURL(c.url, c.dialect)
		if c.doubt == "" && got != "" || !strings.Contains(got, c.doubt) {
			t.Errorf("%s %s: %q, want %q", c.dialect, c.url, got, c.doubt)
		}
		file := filepath.Join(t.TempDir(), "relay.yaml")
		if err := os.WriteFile(file, []byte("upstreams:\n  - {name: up, dialect: "+string(c.dialect)+", base_url: \""+c.url+"\"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, warnings, err := Load(file, os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		said := false
		for _, w := range warnings {
			said = said || w.Path == "upstreams[0].base_url" && w.Line == 2 && w.Message == got
		}
		if said != (got != "") {
			t.Errorf("%s: warnings %v", c.url, warnings)
		}
	}
}

func TestUsageIsNotAskedOfAProviderThatRefusesTheQuestion(t *testing.T) {
	for _, c := range []struct {
		url, include string
		want         bool
	}{
		{"https://api.openai.com/v1", "auto", true},
		{"https://api.openai.com/v1", "off", false},
		{"https://api.mistral.ai/v1", "auto", false},
		{"https://API.Mistral.ai:443/v1", "auto", false},
		{"https://mistral.example/v1", "auto", true},
	} {
		u := Upstream{BaseURL: c.url, IncludeUsage: c.include}
		if got := u.AsksUsage(); got != c.want {
			t.Errorf("%s, %s: %t", c.url, c.include, got)
		}
	}
}
