package prometheus

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "rewrite kubernetes/prometheusrule.yaml")

const (
	rulesFile      = "relay.rules.yaml"
	kubernetesFile = "../kubernetes/prometheusrule.yaml"
)

// rule is what this package reads of one rule.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(read(t, rulesFile), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// tool is a program that a test wants; Debian's package of it is pkg.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("REQUIRE_SERVERS") == "1" {
		t.Fatalf("%s is not on the PATH, and REQUIRE_SERVERS=1 wants it (Debian: apt-get install %s)", name, pkg)
	}
	t.Skipf("%s is not on the PATH: apt-get install %s has this test run", name, pkg)
	return ""
}

func TestRulesAreGoodForPrometheusAndVmalert(t *testing.T) {
	for _, c := range []struct {
		name, pkg string
		args      []string
	}{
		{"promtool", "prometheus", []string{"check", "rules", rulesFile}},
		{"vmalert", "victoria-metrics", []string{"-dryRun", "-rule=" + rulesFile}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out, err := exec.Command(tool(t, c.name, c.pkg), c.args...).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestAlertsFireAndStaySilent(t *testing.T) {
	promtool := tool(t, "promtool", "prometheus")
	for _, file := range ruleTests(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			if out, err := exec.Command(promtool, "test", "rules", file).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func ruleTests(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("tests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests of rules: %v", err)
	}
	return files
}

// TestEveryAlertIsTestedBothWays: each fires in a case of tests/, and does not
// at another time of the same case or in another of the same file.
func TestEveryAlertIsTestedBothWays(t *testing.T) {
	fires, silent := make(map[string]bool), make(map[string]bool)
	alertname := regexp.MustCompile(`alertname="(\w+)"`)
	for _, name := range ruleTests(t) {
		var file struct {
			Tests []struct {
				Cases []struct {
					Expr    string
					Samples []struct{ Labels string } `yaml:"exp_samples"`
				} `yaml:"promql_expr_test"`
			}
		}
		if err := yaml.Unmarshal(read(t, name), &file); err != nil {
			t.Fatal(err)
		}
		here, silence := make(map[string]bool), false // what fires in this file; whether a case of it is silent all over
		for _, test := range file.Tests {
			seen := make(map[string]int)
			for _, c := range test.Cases {
				if !strings.Contains(c.Expr, `(ALERTS{alertstate="firing"})`) {
					t.Errorf("%s: %s does not ask for all that fires", name, c.Expr)
				}
				for _, s := range c.Samples {
					seen[alertname.FindStringSubmatch(s.Labels)[1]]++
				}
			}
			for alert, n := range seen {
				here[alert] = true
				silent[alert] = silent[alert] || n < len(test.Cases)
			}
			silence = silence || len(test.Cases) > 0 && len(seen) == 0
		}
		for alert := range here {
			fires[alert] = true
			silent[alert] = silent[alert] || silence
		}
	}
	for _, r := range rules(t) {
		if r.Alert != "" && (!fires[r.Alert] || !silent[r.Alert]) {
			t.Errorf("%s: fires in a test %t, is silent in one %t", r.Alert, fires[r.Alert], silent[r.Alert])
		}
	}
}

// TestEveryAlertHasARunbookAndEveryRunbookAnAlert compares the rules with the
// sections of README.md.
func TestEveryAlertHasARunbookAndEveryRunbookAnAlert(t *testing.T) {
	sections := make(map[string]string)
	for _, section := range strings.Split(string(read(t, "README.md")), "\n### ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		sections[name] = text
	}
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		text, ok := sections[r.Alert]
		if !ok {
			t.Errorf("%s has no section", r.Alert)
			continue
		}
		delete(sections, r.Alert)
		if severity := r.Labels["severity"]; !strings.HasPrefix(text, "*"+severity+".* ") || severity != "page" && severity != "ticket" {
			t.Errorf("%s is a %q, its section begins with %.12q", r.Alert, severity, text)
		}
		at := 0
		for _, part := range []string{"- **Means**: ", "- **Look**: ", "- **Do**: "} {
			i := strings.Index(text[at:], part)
			if i < 0 {
				t.Errorf("%s: the section has no %q, or in another order", r.Alert, part)
				break
			}
			at += i
		}
		if want := "configs/prometheus/README.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want {
			t.Errorf("%s: runbook is %q, want %q", r.Alert, r.Annotations["runbook"], want)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s has no summary or description", r.Alert)
		}
	}
	for name := range sections {
		t.Errorf("the section %s has no alert", name)
	}
}

// TestEveryRecordedSeriesIsUsed: one that nothing reads is written each minute
// for nothing, unless the dashboard is what reads it.
func TestEveryRecordedSeriesIsUsed(t *testing.T) {
	all := rules(t)
	for _, r := range all {
		if r.Record != "" && !slices.ContainsFunc(all, func(other rule) bool { return strings.Contains(other.Expr, r.Record) }) {
			t.Errorf("nothing reads %s", r.Record)
		}
	}
}

// TestKubernetesHasTheSameRules: kustomize cannot take them from another folder.
func TestKubernetesHasTheSameRules(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Made of configs/prometheus/relay.rules.yaml by go test ./configs/prometheus -update.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: relay
  labels: {app.kubernetes.io/name: relay}
spec:
`)
	_, groups, _ := strings.Cut(string(read(t, rulesFile)), "\ngroups:\n")
	for line := range strings.Lines("groups:\n" + groups) {
		if line != "\n" {
			line = "  " + line
		}
		b.WriteString(line)
	}
	if *update {
		if err := os.WriteFile(kubernetesFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if string(read(t, kubernetesFile)) != b.String() {
		t.Errorf("%s is not what %s makes it (-update rewrites it)", kubernetesFile, rulesFile)
	}
}
