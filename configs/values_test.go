package configs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func TestSecretShowsItselfOnlyByReveal(t *testing.T) {
	const value = "sk-very-secret"
	secret := NewSecret(value)
	if secret.Reveal() != value || secret.IsZero() {
		t.Fatalf("Reveal = %q", secret.Reveal())
	}
	type hidden struct{ key Secret } // fmt calls no method on unexported fields
	holders := map[string]any{
		"value":      secret,
		"pointer":    &secret,
		"slice":      []Secret{secret},
		"map":        map[string]Secret{"k": secret},
		"interface":  any(secret),
		"credential": Credential{Value: secret},
		"upstream":   &Upstream{Credentials: []Credential{{Value: secret}}, Headers: Headers{Set: map[string]Secret{"X": secret}}},
		"unexported": hidden{secret},
		"nested":     &[]hidden{{secret}},
	}
	for name, v := range holders {
		for _, verb := range strings.Split("v +v #v s q x X d t o b e p T c U", " ") {
			if text := fmt.Sprintf("%"+verb, v); strings.Contains(text, value) || strings.Contains(text, fmt.Sprintf("%x", value)) {
				t.Errorf("%s by %%%s: %s", name, verb, text)
			}
		}
		inJSON, err := json.Marshal(v)
		if err != nil || bytes.Contains(inJSON, []byte(value)) {
			t.Errorf("%s in JSON: %s, %v", name, inJSON, err)
		}
		inYAML, err := yaml.Marshal(v)
		if err != nil || bytes.Contains(inYAML, []byte(value)) {
			t.Errorf("%s in YAML: %s, %v", name, inYAML, err)
		}
	}
	text, err := secret.MarshalText()
	if err != nil || string(text) != "***" || fmt.Sprintf("%s|%v|%#v|%d", secret, secret, secret, secret) != "***|***|***|***" {
		t.Errorf("a secret prints as %s, %s", text, fmt.Sprintf("%s|%v|%#v|%d", secret, secret, secret, secret))
	}
	var empty Secret
	if empty.String() != "" || !empty.IsZero() || NewSecret("") != empty || empty.Reveal() != "" {
		t.Error("an empty secret is not the zero Secret")
	}
}

func TestSizeReadsWhatItPrints(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "0B": 0, "1B": 1, "16KiB": 16 << 10, "64MiB": 64 << 20, "1GiB": 1 << 30, "2TiB": 2 << 40,
		"500KB": 500_000, "1MB": 1_000_000, "3GB": 3_000_000_000, "1TB": 1_000_000_000_000, "007B": 7,
		"8388607TiB": 8388607 << 40, "9223372036854775807B": math.MaxInt64,
	} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
		again, err := ParseSize(want.String())
		if err != nil || again != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", want.String(), again, err, want)
		}
	}
	for text, want := range map[string]error{
		"": errSizeForm, "64": errSizeNoUnit, "00": errSizeNoUnit, "MiB": errSizeForm, "-1MiB": errSizeForm,
		"1.5MiB": errSizeForm, "1,5MiB": errSizeForm, "64M": errSizeUnit, "64mib": errSizeUnit, "64 MiB": errSizeUnit,
		"8388608TiB": errSizeTooLong, "99999999999999999999B": errSizeTooLong,
	} {
		if _, err := ParseSize(text); err != want {
			t.Errorf("ParseSize(%q) = %v; want %v", text, err, want)
		}
	}
	if got := fmt.Sprint(64*MiB, 1500*Size(1000), Size(1000), Size(1), 1536*KiB); got != "64MiB 1500KB 1KB 1B 1536KiB" {
		t.Errorf("sizes print as %s", got)
	}
	var v struct{ S Size }
	if err := json.Unmarshal([]byte(`{"S":"4KiB"}`), &v); err != nil || v.S != 4*KiB {
		t.Errorf("from JSON: %v, %v", v.S, err)
	}
	if out, err := yaml.Marshal(v); err != nil || string(out) != "s: 4KiB\n" {
		t.Errorf("in YAML: %s, %v", out, err)
	}
}

func TestDurationReadsWhatItPrints(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "5ms": 5 * time.Millisecond, "1m30s": 90 * time.Second, "1.5h": 90 * time.Minute,
		"30d": 720 * time.Hour, "1d12h": 36 * time.Hour, "0d": 0, "106751d": 106751 * day, "1h": time.Hour, "1h0m1s": time.Hour + time.Second,
	} {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
		again, err := ParseDuration(FormatDuration(want))
		if err != nil || again != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", FormatDuration(want), again, err, want)
		}
	}
	for text, want := range map[string]error{
		"": errDurationForm, "5": errDurationNoUnit, "1.5": errDurationNoUnit, "00": errDurationNoUnit,
		"-5s": errDurationSign, "5 s": errDurationForm, "d": errDurationForm, "1d-1h": errDurationForm, "1d+1h": errDurationForm,
		"1h1d": errDurationForm, "1.5d": errDurationForm, "-1d": errDurationSign, "+1d": errDurationForm,
		"106752d": errDurationTooLong, "106751d24h": errDurationTooLong, "99999999999999999999d": errDurationTooLong,
	} {
		if _, err := ParseDuration(text); err != want {
			t.Errorf("ParseDuration(%q) = %v; want %v", text, err, want)
		}
	}
}
