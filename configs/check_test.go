package configs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// runCheck returns what the command printed and its exit code.
func runCheck(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return runCheckWith(t, nil, args...)
}

func runCheckWith(t *testing.T, probes []Probe, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := CheckCommand(probes...)
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SilenceErrors = true // as the root command does, to print them itself
	if err := cmd.Execute(); err != nil {
		var exit interface{ ExitCode() int }
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		code = exit.ExitCode()
	}
	return out.String(), errOut.String(), code
}

func TestCheckPrintsEveryProblemAndExits78(t *testing.T) {
	want, err := os.ReadFile("testdata/bad.everything.want")
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := runCheck(t, "--config", "testdata/bad.everything.yaml")
	if stdout != "" || stderr != string(want) || code != 78 {
		t.Errorf("exit %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
	stdout, _, code = runCheck(t, "--config", "testdata/bad.everything.yaml", "--json")
	var result struct {
		OK       *bool
		Problems []Problem
		Warnings []Problem
	}
	if err := json.Unmarshal([]byte(stdout), &result); err != nil || result.OK == nil || *result.OK || result.Warnings == nil || code != 78 {
		t.Fatalf("exit %d, %v\n%s", code, err, stdout)
	}
	var lines strings.Builder
	for _, p := range result.Problems {
		lines.WriteString(p.String() + "\n")
	}
	if lines.String() != string(want) {
		t.Errorf("in JSON:\n%s", stdout)
	}
}

func TestCheckSaysWhatAValidFileAmountsTo(t *testing.T) {
	path := writeFile(t, oneUpstream+"    insecure_skip_verify: true\n    credentials: [{value: x}]\n", 0o644)
	stdout, stderr, code := runCheck(t, "-c", path)
	if code != 0 || stdout != "configuration ok: 1 upstream, 1 credential, 0 routes, keys in file, listen 127.0.0.1:8080, admin 127.0.0.1:9090\n" {
		t.Errorf("exit %d: %s", code, stdout)
	}
	if lines := strings.Split(strings.TrimSpace(stderr), "\n"); len(lines) != 2 ||
		!strings.Contains(lines[0], ":6: upstreams[0].insecure_skip_verify: warning: whoever is between the relay and this upstream can read") ||
		!strings.Contains(lines[1], ":7: upstreams[0].credentials[0].value: warning: a secret stands in a file that others may read (mode 0644)") {
		t.Errorf("stderr: %s", stderr)
	}
	path = writeFile(t, oneUpstream+"    credentials: [{value: $$x}]\nroutes: [{models: ['*'], upstreams: [first], rewrite_model: {smart: big}}]\nprices:\n  smart: {input: 1, output: 1}\n  big: {input: 1, output: 1}\n", 0o600)
	if _, stderr, code := runCheck(t, "-c", path); code != 0 || !strings.Contains(stderr, "prices[\"smart\"]: warning: a name that routes[0].rewrite_model replaces: prices go by the upstream's name") || strings.Contains(stderr, `prices["big"]`) {
		t.Errorf("exit %d: %s", code, stderr)
	}
	path = writeFile(t, oneUpstream+"prices:\n  'gpt-*': {input: 1, output: 1}\n", 0o600)
	if _, stderr, code := runCheck(t, "-c", path); code == 0 || !strings.Contains(stderr, "a price is of one model: write its name, without *") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	path = writeFile(t, oneUpstream+"    insecure_skip_verify: true\n    credentials: [{value: x}]\n", 0o644)
	stdout, stderr, code = runCheck(t, "-c", path, "--print")
	if _, err := Parse("printed", []byte(strings.ReplaceAll(stdout, "'***'", "x")), nil); err != nil || code != 0 || !strings.Contains(stderr, "configuration ok") {
		t.Errorf("--print: exit %d, %v\n%s%s", code, err, stdout, stderr)
	}
}

func TestCheckTakesPrintOrJSON(t *testing.T) {
	if stdout, _, code := runCheck(t, "-c", "relay.example.yaml", "--print", "--json"); code != 2 || stdout != "" {
		t.Errorf("exit %d: %s", code, stdout)
	}
}

func TestCheckOnlineAsksTheProbes(t *testing.T) {
	path := writeFile(t, "upstreams: [{name: a, base_url: http://127.0.0.1:1, dialect: openai}]\n", 0o600)
	good := func(context.Context, *Config) []Finding {
		return []Finding{{Name: "one", OK: true, Detail: "answers"}, {Name: "one", OK: true, Detail: "forgets", Hint: "let it not"}}
	}
	unused := func(context.Context, *Config) []Finding { return nil }
	bad := func(_ context.Context, c *Config) []Finding {
		return []Finding{{Name: "two", Detail: "is " + c.Upstreams[0].Name, Hint: "start it"}}
	}
	stdout, stderr, code := runCheckWith(t, []Probe{good, unused}, "-c", path, "--online")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "one: answers\none: forgets\n  let it not\n") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, stderr, code = runCheckWith(t, []Probe{good, bad}, "-c", path, "--online")
	if code != 69 || stderr != "two: is a\n  start it\n" {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, _, code = runCheckWith(t, []Probe{bad}, "-c", path, "--online", "--json")
	var result checkResult
	if err := json.Unmarshal([]byte(stdout), &result); err != nil || code != 69 || result.OK || len(result.Online) != 1 || result.Online[0].Hint != "start it" {
		t.Errorf("exit %d, %v: %s", code, err, stdout)
	}
	if stdout, _, code := runCheckWith(t, []Probe{bad}, "-c", path); code != 0 {
		t.Errorf("without --online: exit %d: %s", code, stdout)
	}
}
