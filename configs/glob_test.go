package configs

import (
	"regexp"
	"strings"
	"testing"
)

var globCases = []struct {
	pattern, s string
	want       bool
}{
	{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "anything/at:all", true}, {"**", "x", true},
	{"gpt-4o", "gpt-4o", true}, {"gpt-4o", "gpt-4o-mini", false}, {"gpt-4o", "GPT-4o", false},
	{"gpt-*", "gpt-4o", true}, {"gpt-*", "gpt-", true}, {"gpt-*", "xgpt-4o", false},
	{"Qwen/*", "Qwen/Qwen2.5-7B-Instruct", true}, {"Qwen/*", "Qwen", false},
	{"*-mini", "gpt-4o-mini", true}, {"*-mini", "gpt-4o-mini-x", false},
	{"a*b*c", "abc", true}, {"a*b*c", "aXbYc", true}, {"a*b*c", "ac", false}, {"a*b*c", "aXcYb", false},
	{"a*a", "a", false}, {"a*a", "aa", true}, {"*ab*", "aab", true}, {"*aab", "aaab", true}, {"*ab*ab", "ab", false},
	{"a?[b]{c}", "a?[b]{c}", true}, {"a.c", "abc", false}, {"*.*", "a.b", true},
}

func TestGlobTakesOnlyStarsAsWild(t *testing.T) {
	for _, c := range globCases {
		if got := MatchGlob(c.pattern, c.s); got != c.want {
			t.Errorf("MatchGlob(%q, %q) = %v", c.pattern, c.s, got)
		}
		if got := MatchGlobBytes(c.pattern, []byte(c.s)); got != c.want {
			t.Errorf("MatchGlobBytes(%q, %q) = %v", c.pattern, c.s, got)
		}
	}
	if !MatchGlobBytes("*", nil) || MatchGlobBytes("a", nil) {
		t.Error("nil is not the empty model")
	}
}

func TestGlobAllocatesNothing(t *testing.T) {
	model := []byte("Qwen/Qwen2.5-7B-Instruct")
	if n := testing.AllocsPerRun(100, func() {
		MatchGlobBytes("Qwen/*-7B-*", model)
		MatchGlobBytes("*x*", model)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzGlobIsItsRegularExpression(f *testing.F) {
	for _, c := range globCases {
		f.Add(c.pattern, c.s)
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		parts := strings.Split(pattern, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		re, err := regexp.Compile(`(?s)\A` + strings.Join(parts, `.*`) + `\z`)
		if err != nil || strings.ToValidUTF8(pattern+s, "") != pattern+s {
			t.Skip() // regexp knows only UTF-8
		}
		if got, want := MatchGlob(pattern, s), re.MatchString(s); got != want {
			t.Errorf("MatchGlob(%q, %q) = %v; want %v", pattern, s, got, want)
		}
	})
}
